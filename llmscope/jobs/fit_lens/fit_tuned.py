"""Fit a tuned lens: a ridge regression for each stream, then steps on the divergence itself.

    minimise  KL(model ‖ softmax(unembed(norm(x + W x + b))))      over the tokens of a corpus

The regression of `last − x` on x, in closed form, is where the steps begin: it takes one pass over
the corpus, and gets most of the way. The ridge pulls towards W = 0, which is the logit lens.
Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens", take the
steps alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llmscope.corpus.progress import Tell, ignore
from llmscope.errors import ScopeError
from llmscope.jobs.fit_lens.accumulate import FitState, add_prompts
from llmscope.jobs.fit_lens.accumulate import Report as FitReport
from llmscope.jobs.fit_lens.check import (
    ENTRY,
    MeasuredPrompts,
    Report,
    check_readout,
    measure,
    streams_of,
)
from llmscope.jobs.fit_lens.corpus import (
    RULES,
    CorpusPrompt,
    CorpusRules,
)
from llmscope.jobs.fit_lens.fit_jacobian import about_model
from llmscope.jobs.fit_lens.running_mean import norms_of
from llmscope.jobs.state import JobState
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.models.anatomy import Readout
from llmscope.models.loading.memory import GIB, available
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.recorder import Recorder
from llmscope.support.fsync import Arrays
from llmscope.support.numbers import amount

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

REGRESSION, DESCENT = "regression", "descent"
"""The stages of a prompt and of a step in a journal."""
MAPS, MOMENTS = ("weights", "biases"), ("exp_avg", "exp_avg_sq")
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
        checkpoint: the file from which a fit goes on. Beside it is a journal of the prompts and
            steps that came after. None keeps nothing.
    """

    rules: CorpusRules = RULES
    prompts: int | None = None
    steps: int = STEPS
    rate: float = RATE
    name: str = ""
    checkpoint: Path | None = None


def fit_tuned(
    scope: Scope,
    texts: Iterable[str],
    fit: TunedFit,
    report: FitReport = lambda _: None,
    note: Tell = ignore,
) -> LearnedLens:
    """Return the tuned lens of a model for a corpus, with its held-out figures.

    Args:
        scope: the model.
        texts: the prompts.
        fit: how it is fitted.
        report: told of the progress.
        note: called with a line on where a fit goes on that was stopped.

    Raises:
        ScopeError: no prompt counts, the model has no unembedding that was found, the sums do not
            fit in memory, or a checkpoint is of another fit.
    """
    model, rules = scope.loaded_model, fit.rules
    rules.check()
    width, layers = model.anatomy.width, len(model.anatomy.layers)
    check_readout(scope)
    readout = model.anatomy.require_readout()
    _check_room(width, layers)
    about = _about(model, fit)
    state_file = JobState(fit.checkpoint, {**about, "rate": fit.rate}, entry=ENTRY)
    sums, steps = _resume_or_begin(state_file, layers, width)
    if sums.prompts:
        more = f" and {amount(steps.done, 'step')}" if steps.done else ""
        note(f"going on behind {amount(sums.prompts, 'finished prompt')}{more}")

    def streams(prompt: CorpusPrompt, turn: int) -> dict[int, Tensor]:
        """Return the streams of a prompt's tokens that count, on the CPU. `[row, width]` each"""
        streams = streams_of(recorder, prompt).cpu()
        if streams.dtype == torch.bfloat16:  # which numpy does not have
            streams = streams.float()
        return dict(enumerate(streams))

    def add(streams: dict[int, Tensor], prompt: CorpusPrompt, digest: str) -> float:
        stacked, number = torch.stack(list(streams.values())), sums.prompts + 1
        state_file.append(
            {"streams": stacked.numpy()}, stage=REGRESSION, prompt=number, digest=digest
        )
        sums.add(stacked, digest)
        state_file.save_if_due(sums.state, sums.bytes)
        return math.inf

    def ended() -> bool:
        return fit.prompts is not None and sums.prompts >= fit.prompts

    with scope.unchanged():
        recorder = scope.recorder
        fitted, held_out = add_prompts(scope, texts, rules, sums, streams, add, ended, report)
        weights, biases = sums.solve()
        state = FitState(sums.prompts, math.inf)

        def told(stage: str, share: float) -> None:
            report(replace(state, stage=stage, share=share))

        def keep(steps: _Steps) -> None:
            arrays = {name: tensor.numpy() for name, tensor in steps.tensors.items()}
            facts = {"step": steps.done, "of": sums.digest}
            state_file.append(arrays, stage=DESCENT, **facts)

            def state() -> tuple[Arrays, dict[str, Any]]:
                added, header = sums.state()
                named = {f"{DESCENT}.{name}": array for name, array in arrays.items()}
                return {**added, **named}, {**header, **facts}

            state_file.save_if_due(
                state, sums.bytes + sum(array.nbytes for array in arrays.values())
            )

        prompts = fitted[: max(fit.steps, 1)]
        _descend(recorder, readout, weights, biases, prompts, fit, told, keep, steps)
        maps = {
            stream: AffineMap(weights[stream].cpu(), biases[stream].cpu(), adds=True)
            for stream in range(layers)
        }
        about |= {"n_prompts": sums.prompts}
        serial = state_of(model.module).serial
        lens = LearnedLens("tuned", maps, width, layers, about, state=serial)
        if not held_out:
            return lens
        finished = MeasuredPrompts(state_file, sums.digest)
        return replace(lens, held_out=measure(lens, recorder, held_out, told, finished))


def _about(model: LoadedModel, fit: TunedFit) -> dict[str, Any]:
    """Return what is kept with a lens, apart from what its prompts gave."""
    rules = fit.rules
    return {
        **about_model(model),
        "estimator": "tuned_lens",
        "corpus": fit.name or "prompts",
        "skip_first_positions": rules.skip,
        "max_seq_len": rules.length,
        "held_out_every": rules.held_out,
        "steps": fit.steps,
    }


class _Regression:
    """The sums of a regression of `last − x` on x, for each stream, in float64 on the CPU.

    Attributes:
        prompts, tokens: how many are in the sums.
        digest: of the tokens of all prompts up to the last one, held-out ones too.
        latest: the norms of the streams of the last one.
        tensors: the sums by name.
    """

    def __init__(self, layers: int, width: int) -> None:
        self.prompts = self.tokens = 0
        self.digest = ""
        self.latest: dict[int, float] = {}
        shape = (layers, width)
        self._squares = torch.zeros(*shape, width, dtype=torch.float64)  # Σ x xᵀ
        self._products = torch.zeros(*shape, width, dtype=torch.float64)  # Σ x yᵀ
        self._x = torch.zeros(shape, dtype=torch.float64)
        self._y = torch.zeros(shape, dtype=torch.float64)
        names = ("squares", "products", "x", "y")
        sums = (self._squares, self._products, self._x, self._y)
        self.tensors = dict(zip(names, sums, strict=True))

    @property
    def bytes(self) -> int:
        """The bytes of the sums."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the sums as arrays, and the header that they are kept with."""
        names = ("prompts", "tokens", "digest", "latest")
        arrays = {name: tensor.numpy() for name, tensor in self.tensors.items()}
        return arrays, {name: getattr(self, name) for name in names}

    def load(self, arrays: Arrays, header: Mapping[str, Any]) -> None:
        """Replace the sums and counts by those that `state` returned in an earlier run.

        Raises:
            LookupError, ValueError, RuntimeError: the arrays or the header have other entries or
                shapes, as those of another model do.
        """
        for name, tensor in self.tensors.items():
            tensor.copy_(torch.from_numpy(arrays[name]))
        self.prompts, self.tokens = int(header["prompts"]), int(header["tokens"])
        self.digest = str(header["digest"])
        self.latest = {int(stream): float(norm) for stream, norm in header["latest"].items()}

    def add(self, streams: Tensor, digest: str = "") -> None:
        """Add a prompt.

        Args:
            streams: its streams, on the CPU. `[layer + 1, row, width]`
            digest: of the tokens of all prompts up to this one.
        """
        self.digest, self.latest = digest, norms_of(dict(enumerate(streams)))
        exact = streams.double()
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


@dataclass
class _Steps:
    """The steps that were taken.

    Attributes:
        done: how many.
        tensors: the weights and biases after them, and what the optimiser remembers of each; empty
            before the first.
    """

    done: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, done: int, maps: Sequence[nn.Parameter], optimiser: torch.optim.Adam) -> _Steps:
        """Return the state after some steps."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in zip(MAPS, maps, strict=True):
            tensors[name] = parameter.detach().cpu()
            for moment in MOMENTS:
                tensors[f"{name}.{moment}"] = optimiser.state[parameter][moment].cpu()
        return cls(done, tensors)

    def load(self, maps: Sequence[nn.Parameter], optimiser: torch.optim.Adam) -> None:
        """Set the parameters and the optimiser's memory to what they were after these steps.

        Without a step, both are left as they are.
        """
        if not self.done:
            return
        for name, parameter in zip(MAPS, maps, strict=True):
            with torch.no_grad():
                parameter.copy_(self.tensors[name])
            moments = {
                moment: self.tensors[f"{name}.{moment}"].to(parameter.device) for moment in MOMENTS
            }
            optimiser.state[parameter] = {"step": torch.tensor(float(self.done)), **moments}


def _resume_or_begin(state_file: JobState, layers: int, width: int) -> tuple[_Regression, _Steps]:
    """Return the sums and the steps of an earlier run, or new ones.

    Raises:
        ScopeError: they are of another fit, or cannot be read.
    """
    sums = _Regression(layers, width)

    def read(arrays: Arrays, header: Mapping[str, Any]) -> tuple[str, _Steps]:
        """Load the sums; return the digest of the prompts that steps are of, and these."""
        sums.load(arrays, header)
        tensors = {
            name.removeprefix(f"{DESCENT}."): torch.from_numpy(array)
            for name, array in arrays.items()
            if name.startswith(DESCENT)
        }
        return (header["of"], _Steps(int(header["step"]), tensors)) if tensors else ("", _Steps())

    digest, steps = state_file.load(read) or ("", _Steps())
    for entry, arrays in state_file.records(stage=REGRESSION):
        if entry["prompt"] > sums.prompts:
            sums.add(torch.from_numpy(arrays["streams"]), entry["digest"])
    if digest != sums.digest:
        steps = _Steps()  # the corpus has grown since
    for entry, arrays in state_file.records(stage=DESCENT, of=sums.digest):
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        steps = _Steps(entry["step"], tensors)
    return sums, steps


def _descend(
    recorder: Recorder,
    readout: Readout,
    weights: Tensor,
    biases: Tensor,
    prompts: Sequence[CorpusPrompt],
    fit: TunedFit,
    report: Report,
    keep: Callable[[_Steps], None],
    steps: _Steps,
) -> None:
    """Lower the KL divergence of the lens from the model by Adam, and change the maps in place.

    Each step takes one prompt, and the maps of all streams.

    Args:
        recorder, readout: of the model.
        weights: the matrix of each stream; overwritten with the fitted. `[layer, width, width]`
        biases: the bias of each stream; overwritten too. `[layer, width]`
        prompts: step s takes prompt s modulo their number.
        fit: how many steps, and the rate of the first, which falls to 0 linearly.
        report: called with the progress before each step.
        keep: called with the state after each step.
        steps: those that an earlier run took, behind which this one goes on.
    """
    model, device = recorder.model, recorder.model.device
    parameters = [nn.Parameter(values.to(device)) for values in (weights, biases)]
    optimiser = torch.optim.Adam(parameters, lr=fit.rate)
    steps.load(parameters, optimiser)
    for step in range(steps.done, fit.steps):
        report("on the divergence", step / fit.steps)
        for group in optimiser.param_groups:
            group["lr"] = fit.rate * (1 - step / fit.steps)
        prompt = prompts[step % len(prompts)]
        streams = streams_of(recorder, prompt)
        with torch.no_grad():
            target = readout(streams[-1]).float().log_softmax(-1)
        optimiser.zero_grad()
        for stream in range(len(weights)):  # one after another: the logits of all take too much
            x = streams[stream].float()
            with torch.enable_grad():
                mapped = x + x @ parameters[0][stream].T + parameters[1][stream]
                logits = differentiable_logits(readout, mapped.to(model.dtype))
                kl = (target.exp() * (target - logits.log_softmax(-1))).sum(-1).mean()
                torch.autograd.backward(kl, inputs=parameters)
        optimiser.step()
        keep(_Steps.of(step + 1, parameters, optimiser))
    weights.copy_(parameters[0].detach().cpu())
    biases.copy_(parameters[1].detach().cpu())
