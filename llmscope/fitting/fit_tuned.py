"""Fit a tuned lens: a ridge regression for each stream, then steps on the divergence itself.

    minimise  KL(model ‖ softmax(unembed(norm(x + W x + b))))      over the tokens of a corpus

The regression of `last − x` on x, in closed form, is where the steps begin: it takes one pass over
the corpus, and gets most of the way. The ridge pulls towards W = 0, which is the logit lens.
Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens", take the
steps alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError
from llmscope.fitting.check import Report, check_readout, measure, streams_of
from llmscope.fitting.corpus import (
    RULES,
    CorpusPrompt,
    CorpusRules,
    check_rules,
    corpus,
    every_one_is_held_out,
    nothing_counts,
)
from llmscope.fitting.fit_jacobian import FitState, about_model
from llmscope.fitting.fit_jacobian import Report as FitReport
from llmscope.learned.lens import AffineMap, LearnedLens
from llmscope.models.anatomy import Readout
from llmscope.models.loading.memory import GIB, available
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.recorder import Recorder

if TYPE_CHECKING:
    from llmscope.scope import Scope

TINY = 1e-9
STEPS, RATE, RIDGE = 100, 1e-3, 1e-3
"""Steps after the regression, their learning rate, which falls to zero, and the ridge as a share of
the mean variance of a stream."""


@dataclass(frozen=True)
class TunedFit:
    """How a tuned lens is fitted.

    Attributes:
        rules: which tokens of which prompts count.
        prompts: stop after this many; None: at the end of the corpus.
        steps: steps on the divergence, each on one prompt.
        rate: their first learning rate.
        name: the name of the corpus, kept with the lens.
    """

    rules: CorpusRules = RULES
    prompts: int | None = None
    steps: int = STEPS
    rate: float = RATE
    name: str = ""


def fit_tuned(
    scope: Scope, texts: Iterable[str], fit: TunedFit, report: FitReport = lambda _: None
) -> LearnedLens:
    """Return the tuned lens of a model for a corpus, with its held-out figures.

    Args:
        scope: the model.
        texts: the prompts.
        fit: how it is fitted.
        report: told of the progress.

    Raises:
        ScopeError: no prompt counts, the model has no unembedding that was found, or the sums do
            not fit in memory.
    """
    subject, rules = scope.subject, fit.rules
    check_rules(rules)
    width, layers = subject.anatomy.width, len(subject.anatomy.layers)
    check_readout(scope)
    readout = subject.anatomy.require_readout()
    _check_room(width, layers)
    held: list[CorpusPrompt] = []
    kept: list[CorpusPrompt] = []
    sums = _Regression(layers, width)
    with scope.unchanged():
        recorder = scope.recorder
        for prompt in corpus(scope, texts, rules):
            if prompt.held_out:
                held.append(prompt)
                continue
            if fit.prompts is not None and sums.prompts >= fit.prompts:
                break
            begun = time.monotonic()
            sums.add(streams_of(recorder, prompt.ids, rules.places(prompt.ids)))
            if len(kept) < max(fit.steps, 1):
                kept.append(prompt)
            report(FitState(sums.prompts, float("inf"), time.monotonic() - begun))
        if not sums.prompts:
            raise every_one_is_held_out() if held else nothing_counts(rules)
        weights, biases = sums.solve()
        state = FitState(sums.prompts, float("inf"))

        def told(stage: str, share: float) -> None:
            report(replace(state, stage=stage, share=share))

        _descend(recorder, readout, weights, biases, kept, fit, told)
        maps = {
            stream: AffineMap(weights[stream].cpu(), biases[stream].cpu(), adds=True)
            for stream in range(layers)
        }
        about = {
            **about_model(subject),
            "estimator": "tuned_lens",
            "corpus": fit.name or "prompts",
            "skip_first_positions": rules.skip,
            "max_seq_len": rules.length,
            "held_out_every": rules.held_out,
            "steps": fit.steps,
            "n_prompts": sums.prompts,
        }
        serial = state_of(subject.model).serial
        lens = LearnedLens("tuned", maps, width, layers, about, state=serial)
        if not held:
            return lens
        return replace(lens, held_out=measure(lens, recorder, held, rules, told))


class _Regression:
    """The sums of a regression of `last − x` on x, for each stream, in float64 on the CPU."""

    def __init__(self, layers: int, width: int) -> None:
        self.prompts = self.tokens = 0
        self._squares = torch.zeros(layers, width, width, dtype=torch.float64)  # Σ x xᵀ
        self._products = torch.zeros(layers, width, width, dtype=torch.float64)  # Σ x yᵀ
        self._x = torch.zeros(layers, width, dtype=torch.float64)
        self._y = torch.zeros(layers, width, dtype=torch.float64)

    def add(self, streams: Tensor) -> None:
        """Add the streams of a prompt. `[layer + 1, row, width]`"""
        exact = streams.cpu().double()
        x, y = exact[:-1], exact[-1:] - exact[:-1]
        self._squares += x.mT @ x
        self._products += x.mT @ y
        self._x += x.sum(1)
        self._y += y.sum(1)
        self.tokens += x.shape[1]
        self.prompts += 1

    def solve(self) -> tuple[Tensor, Tensor]:
        """Return W and b of each stream. `[layer, width, width]` and `[layer, width]`, float32"""
        x, y = self._x / self.tokens, self._y / self.tokens
        spread = self._squares / self.tokens - x[:, :, None] * x[:, None, :]
        joint = self._products / self.tokens - x[:, :, None] * y[:, None, :]
        ridge = RIDGE * spread.diagonal(dim1=-2, dim2=-1).mean(-1)
        ridge = ridge * (1 + x.shape[-1] / self.tokens)  # more where tokens are few
        ridge = ridge.clamp_min(TINY)  # all tokens may be the same
        eye = torch.eye(x.shape[-1], dtype=torch.float64)
        weights = torch.linalg.solve(spread + ridge[:, None, None] * eye, joint).mT
        biases = y - (weights @ x[:, :, None])[:, :, 0]
        return weights.float(), biases.float()


def _check_room(width: int, layers: int) -> None:
    """Refuse sums that memory cannot hold.

    Raises:
        ScopeError: they do not fit.
    """
    needed, free = 4 * layers * width * width * 8, available(torch.device("cpu"))
    if needed > free:
        raise ScopeError(
            f"a tuned lens of {layers} layers of width {width} takes {needed / GIB:.1f} GiB to "
            f"fit, and {free / GIB:.1f} GiB are free",
            "llmscope fit jacobian, which takes less",
        )


def differentiable_logits(readout: Readout, streams: Tensor) -> Tensor:
    """Return the logits of streams, with gradients, in float32. `[row, width] -> [row, token]`"""
    logits = readout.linear(readout.norm(streams)).float()
    if readout.softcap is not None:
        logits = torch.tanh(logits / readout.softcap) * readout.softcap
    return logits


def _descend(
    recorder: Recorder,
    readout: Readout,
    weights: Tensor,
    biases: Tensor,
    prompts: Sequence[CorpusPrompt],
    fit: TunedFit,
    report: Report,
) -> None:
    """Take the steps, in place; one prompt and all streams a step."""
    subject, rules = recorder.subject, fit.rules
    device = subject.device
    own = [nn.Parameter(one.to(device)) for one in (weights, biases)]
    optimiser = torch.optim.Adam(own, lr=fit.rate)
    for step in range(fit.steps):
        report("on the divergence", step / fit.steps)
        for group in optimiser.param_groups:
            group["lr"] = fit.rate * (1 - step / fit.steps)
        prompt = prompts[step % len(prompts)]
        streams = streams_of(recorder, prompt.ids, rules.places(prompt.ids))
        with torch.no_grad():
            target = readout(streams[-1]).float().log_softmax(-1)
        optimiser.zero_grad()
        for stream in range(len(weights)):  # one after another: the logits of all take too much
            x = streams[stream].float()
            with torch.enable_grad():
                mapped = x + x @ own[0][stream].T + own[1][stream]
                logits = differentiable_logits(readout, mapped.to(subject.dtype))
                kl = (target.exp() * (target - logits.log_softmax(-1))).sum(-1).mean()
                torch.autograd.backward(kl, inputs=own)
        optimiser.step()
    weights.copy_(own[0].detach().cpu())
    biases.copy_(own[1].detach().cpu())
