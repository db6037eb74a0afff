"""Train sparse dictionaries on batches of activations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .activations import Activations, Hook
from .dictionary import Architecture, Dictionary


@dataclass(frozen=True)
class Settings:
    """How a dictionary is trained.

    Attributes:
        architecture: `topk` keeps the k largest pre-activations of each token; the others keep
            the k · tokens largest of a batch (BatchTopK), and one threshold afterwards.
        d_sae: features.
        k: mean number of active features of a token.
        rate: Adam's learning rate, after a warm-up of 100 steps, or a tenth of all where these are
            fewer; falls to 0 over the last third.
        dead_after: tokens without activity after which a feature counts as dead.
        dead_loss: weight of the loss that lets dead features rebuild what the others left over.
        lift: weight, within that loss, of what dead features lack to be above zero. For a
            transcoder, where a third of the features would die and never come back.
    """

    architecture: Architecture
    d_sae: int
    k: int
    rate: float = 3e-3
    dead_after: int = 100_000
    dead_loss: float = 1 / 32
    lift: float = 0.0


@dataclass(frozen=True)
class Site:
    """Where a dictionary reads and where its output belongs; the same for an autoencoder."""

    source: Hook
    target: Hook


class Trainer:
    """One dictionary in training.

    Activations are divided by one number so that their mean squared norm is their width; it is
    multiplied back into the finished weights. b_dec begins at the mean of the first batch.
    """

    def __init__(
        self,
        settings: Settings,
        x: Tensor,
        y: Tensor,
        steps: int,
        generator: torch.Generator,
    ) -> None:
        """Begin at random unit rows of the decoder, and their transpose as the encoder.

        Args:
            settings: how to train.
            x: inputs of the first batch [token, d_in].
            y: outputs of the first batch [token, d_out]; x itself for an autoencoder.
            steps: batches that will come.
            generator: draws the first weights.
        """
        self.settings, self.steps, self.step_count = settings, steps, 0
        self.scale_in, self.scale_out = _scale(x), _scale(y)
        size, self.tied = settings.d_sae, settings.architecture != "jumprelu_transcoder"
        w_dec = normalize(torch.randn(size, y.shape[1], generator=generator), dim=-1)
        if self.tied:
            w_enc = w_dec.T.clone()
        else:
            w_enc = normalize(torch.randn(x.shape[1], size, generator=generator), dim=0)
        self.w_dec, self.w_enc = w_dec.requires_grad_(), w_enc.requires_grad_()
        # An encoder that does not subtract a mean would begin with features that are always on or
        # never, and the latter would stay dead.
        b_enc = torch.zeros(size) if self.tied else -(x.mean(0) / self.scale_in) @ w_enc.detach()
        self.b_enc = b_enc.requires_grad_()
        self.b_dec = (y.mean(0) / self.scale_out).requires_grad_()
        weights = [self.w_enc, self.b_enc, self.w_dec, self.b_dec]
        self.optimizer = torch.optim.Adam(weights, lr=settings.rate, betas=(0.9, 0.999))
        self.silent = torch.zeros(size)  # tokens since each feature was last active
        self.threshold = 0.0

    def step(self, x: Tensor, y: Tensor) -> float:
        """Take one step on a batch [token, width], and return its fraction of variance lost."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * self._share()
        x, y = x / self.scale_in, y / self.scale_out
        pre = (x - self.b_dec if self.tied else x) @ self.w_enc + self.b_enc
        features = self._sparse(pre.relu())
        output = features @ self.w_dec + self.b_dec
        loss = (y - output).pow(2).mean()
        left = (y - output).detach()
        active = (features > 0).any(0)
        self.silent = torch.where(active, 0, self.silent + len(x))
        loss = loss + self.settings.dead_loss * self._dead_loss(pre, left)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            # The part of the gradient along a row would only be normalised away.
            assert self.w_dec.grad is not None
            along = (self.w_dec.grad * self.w_dec).sum(-1, keepdim=True)
            self.w_dec.grad -= along * self.w_dec
            self.optimizer.step()
            self.w_dec /= self.w_dec.norm(dim=-1, keepdim=True)
        self.step_count += 1
        return float(left.pow(2).sum() / (y - y.mean(0)).pow(2).sum())

    @torch.no_grad()
    def finished(self) -> Dictionary:
        """Return the dictionary, in units of the raw activations."""
        architecture = self.settings.architecture
        gain = self.scale_out / self.scale_in
        if architecture == "topk":
            threshold = None
        else:
            threshold = torch.full((self.settings.d_sae,), self.threshold * self.scale_out)
        return Dictionary(
            architecture,
            self.w_enc.detach() * gain,
            self.b_enc.detach() * self.scale_out,
            self.w_dec.detach().clone(),
            self.b_dec.detach() * self.scale_out,
            threshold,
            self.settings.k if architecture == "topk" else None,
        )

    def _share(self) -> float:
        """Return the share of the learning rate at this step."""
        rest = (self.steps - self.step_count) / self.steps
        return min(1.0, (self.step_count + 1) / min(100, self.steps / 10), 3 * rest)

    def _sparse(self, pre: Tensor) -> Tensor:
        """Keep the largest of pre [token, d_sae]: k a token, or k · tokens of the batch."""
        if self.settings.architecture == "topk":
            top = pre.topk(self.settings.k, dim=-1)
            return torch.zeros_like(pre).scatter(-1, top.indices, top.values)
        wanted = self.settings.k * len(pre)
        least = float(pre.detach().flatten().topk(wanted, sorted=False).values.min())
        # Averaged over the last 50 batches or so.
        share = max(0.02, 1 / (self.step_count + 1))
        self.threshold += share * (least - self.threshold)
        return pre * (pre >= max(least, 1e-9))

    def _dead_loss(self, pre: Tensor, left: Tensor) -> Tensor:
        """Return how badly dead features rebuild what is left over, relative to its size."""
        dead = (self.silent > self.settings.dead_after).nonzero()[:, 0]
        if not len(dead):
            return torch.zeros(())
        low = (-pre[:, dead]).relu().mean()
        top = pre[:, dead].relu().topk(min(2 * self.settings.k, len(dead)), dim=-1)
        features = torch.zeros(len(pre), len(dead)).scatter(-1, top.indices, top.values)
        rebuilt = features @ self.w_dec[dead]
        lost = (left - rebuilt).pow(2).mean() / left.pow(2).mean()
        return lost + self.settings.lift * low if self.settings.lift else lost


def _scale(values: Tensor) -> float:
    """Return the number that brings the mean squared norm to the width."""
    return math.sqrt(float(values.pow(2).mean()))


def train(
    plans: Mapping[Site, Settings],
    batches: Iterable[Activations],
    steps: int,
    seed: int,
    report: int = 0,
) -> tuple[dict[Site, Dictionary], dict[Site, list[float]]]:
    """Train several dictionaries on the same tokens.

    Args:
        plans: the settings of each.
        batches: activations at all hooks of the plans.
        steps: how many batches there are; the learning rate is planned by it.
        seed: of the first weights.
        report: print the loss every so many steps; 0 for never.

    Returns:
        The dictionaries, and the fraction of variance lost in each batch.
    """
    generator = torch.Generator().manual_seed(seed)
    trainers: dict[Site, Trainer] = {}
    losses: dict[Site, list[float]] = {site: [] for site in plans}
    for number, batch in enumerate(batches):
        for site, settings in plans.items():
            x, y = batch[site.source], batch[site.target]
            if site not in trainers:
                trainers[site] = Trainer(settings, x, y, steps, generator)
            losses[site].append(trainers[site].step(x, y))
        if report and number % report == 0:
            lost = " ".join(f"{losses[site][-1]:.3f}" for site in plans)
            dead = " ".join(
                str(int((one.silent > one.settings.dead_after).sum())) for one in trainers.values()
            )
            print(f"  step {number:5}  fvu {lost}  dead {dead}", flush=True)
    return {site: one.finished() for site, one in trainers.items()}, losses
