"""Measure how a lens reads held-out text; see `llmscope.learned.lenses.held_out`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_lens.corpus import CorpusPrompt
from llmscope.jobs.state import JobState
from llmscope.learned.lenses.held_out import HeldOut, HeldOutReadings
from llmscope.learned.lenses.lens import LearnedLens
from llmscope.models.anatomy import NO_READOUT, Readout
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.row_checks import readout_verdict

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope

ENTRY, MEASURING = "llmscope_fit", "measuring"
"""The name of a header in the metadata of a fit's file; the stage of a prompt that is measured."""
ROWS = 64
"""Streams whose logits are held at once."""
WAYS = ("the lens", "the logit lens", "the baseline")
Report = Callable[[str, float], None]
"""Called with what is being done, and the share that is done, from 0 to 1."""


def check_readout(scope: Scope) -> None:
    """Check that the logits of streams can be read.

    Raises:
        ScopeError: the model has no unembedding that was found, or it does not give its logits.
    """
    verdict = scope.verdicts("readout")
    if verdict.status == "refused" or scope.loaded_model.anatomy.readout is None:
        raise ScopeError(
            f"streams of the model cannot be read: {verdict.reason or NO_READOUT}",
            f"another model; a Jacobian lens can be fitted with {option('held-out', 0)}",
        )


def check_prompt(recording: Recording, outside: str) -> None:
    """Check that a prompt's logits are those of its streams, where code of the user's runs.

    Elsewhere `check_readout` says it for all prompts: it is measured on a short one.

    Args:
        recording: the prompt's recording.
        outside: that code, in words; see `Recorder.outside`.

    Raises:
        ScopeError: they are not.
    """
    verdict = readout_verdict(recording) if outside else None
    if verdict is not None and verdict.status == "refused":
        raise ScopeError(
            f"the streams of a prompt of {len(recording)} tokens cannot be read, with {outside}: "
            f"{verdict.reason}",
            "the model without it, or shorter prompts",
        )


def streams_of(recorder: Recorder, prompt: CorpusPrompt) -> Tensor:
    """Return the streams of the tokens of a prompt that count. [stream, row, width]

    Raises:
        ScopeError: the prompt's logits are not those of its streams.
    """
    recording: Recording = recorder.run([list(prompt.ids)], record=True)
    check_prompt(recording, recorder.outside)
    rows = [
        recording.rows("stream", stream, prompt.places) for stream in range(recording.layers + 1)
    ]
    return torch.stack([row.to(recorder.model.device) for row in rows if row is not None])


class MeasuredPrompts:
    """The held-out prompts that an earlier run measured a lens on, and those of this run.

    Args:
        state: where they are kept.
        lens: a digest of what the lens was fitted on.
    """

    def __init__(self, state: JobState, lens: str) -> None:
        self._state, self._lens = state, lens
        self._stored = {
            (note["what"], tuple(note["ids"])): arrays["numbers"]
            for note, arrays in state.records(stage=MEASURING, lens=lens)
        }

    @property
    def prompts(self) -> int:
        """How many prompts were measured, by an earlier run or this one."""
        return sum(what == "ways" for what, _ in self._stored)

    def numbers(self, what: str, ids: Sequence[int], compute: Callable[[], Tensor]) -> Tensor:
        """Return the numbers of a prompt, which are computed and kept unless they are there.

        Args:
            what: which numbers.
            ids: the tokens of the prompt.
            compute: returns them, as a tensor on the CPU.
        """
        stored = self._stored.get((what, tuple(ids)))
        if stored is not None:
            return torch.from_numpy(stored)
        numbers = compute()
        note = {"stage": MEASURING, "what": what, "ids": list(ids), "lens": self._lens}
        self._state.append({"numbers": numbers.numpy()}, **note)
        self._stored[what, tuple(ids)] = numbers.numpy()
        return numbers


@dataclass
class _Sums:
    """Sums over tokens for one way of reading, by stream. All [stream], float64 on the CPU

    `worse` has the sums of each prompt: tokens of one text are not independent, so the standard
    error is that of prompts as clusters.
    """

    top1: Tensor
    kl: Tensor
    worse: list[Tensor]

    @classmethod
    def of(cls, streams: int) -> _Sums:
        nothing = torch.zeros(streams, dtype=torch.float64)
        return cls(nothing, nothing.clone(), [])

    def readings(self, counts: Sequence[int]) -> HeldOutReadings:
        """Return the means, and the error of the paired difference.

        Args:
            counts: the number of tokens of each prompt.
        """
        tokens, prompts = sum(counts), len(counts)
        sums = torch.stack(self.worse)  # [prompt, stream]
        mean = sums.sum(0) / tokens
        off = sums - mean * torch.tensor(counts, dtype=torch.float64)[:, None]
        spread = off.square().sum(0) * prompts / max(prompts - 1, 1)
        # One prompt tells nothing of the spread: its mean is no better than its size.
        errors = spread.sqrt() / tokens if prompts > 1 else mean.abs()
        return HeldOutReadings(
            tuple((self.top1 / tokens).tolist()),
            tuple((self.kl / tokens).tolist()),
            tuple(zip(mean.tolist(), errors.tolist(), strict=True)),
        )


@torch.no_grad()
def measure(
    lens: LearnedLens,
    recorder: Recorder,
    prompts: Sequence[CorpusPrompt],
    report: Report = lambda *_: None,
    finished: MeasuredPrompts | None = None,
) -> HeldOut:
    """Return how a lens, the logit lens and the lens's baseline read prompts.

    The baseline of a Jacobian lens is the same lens with the matrices of other layers. That of a
    tuned lens is one fitted on shuffled pairs: what it can learn at best is the mean of the model's
    distributions, which is therefore measured in its place.

    Args:
        lens: the lens, which fits the model.
        recorder: the recorder of the model.
        prompts: the prompts, at least one; none that the lens was fitted on.
        report: told of the progress.
        finished: keeps the numbers of each prompt, and has those of an earlier run; None: nothing
            is kept.
    """
    finished = finished or MeasuredPrompts(JobState(None, {}, entry=ENTRY), "")
    readout = recorder.model.anatomy.require_readout()
    streams = len(recorder.model.anatomy.layers) + 1
    ways = [_Sums.of(streams) for _ in WAYS]
    tuned = lens.kind == "tuned"
    constant = _mean_prediction(recorder, prompts, finished) if tuned else None
    shifted = lens.shifted()

    def numbers_of(prompt: CorpusPrompt) -> Tensor:
        """Return top-1, KL and what KL is worse than the lens's, summed. [way, number, stream]"""
        streams_read = streams_of(recorder, prompt)
        target = _log_probabilities(readout, streams_read[-1])
        numbers = torch.zeros(len(WAYS), 3, streams, dtype=torch.float64)
        for stream in range(streams):
            at = [stream] * streams_read.shape[1]
            plain = _read(readout, streams_read[stream], target)
            mapped = stream in lens.maps
            learned = _read(readout, lens(streams_read[stream], at), target) if mapped else plain
            if not mapped:
                other = plain
            elif constant is not None:
                other = _against(target, constant.expand_as(target))
            else:
                other = _read(readout, shifted(streams_read[stream], at), target)
            for way, (kl, top1) in enumerate((learned, plain, other)):
                sums = (top1.sum(), kl.sum(), (kl - learned[0]).sum())
                numbers[way, :, stream] = torch.tensor(
                    [float(total) for total in sums], dtype=torch.float64
                )
        return numbers

    for index, prompt in enumerate(prompts):
        report("measuring on held-out prompts", index / len(prompts))
        numbers = finished.numbers("ways", prompt.ids, partial(numbers_of, prompt))
        for sums, (top1, kl, worse) in zip(ways, numbers, strict=True):
            sums.top1 += top1
            sums.kl += kl
            sums.worse.append(worse)
    counts = [len(prompt.places) for prompt in prompts]
    through, logits, others = (sums.readings(counts) for sums in ways)
    named = "a lens fitted on shuffled pairs" if tuned else "the matrices of other layers"
    return HeldOut(sum(counts), len(counts), through, logits, others, named)


def _mean_prediction(
    recorder: Recorder,
    prompts: Sequence[CorpusPrompt],
    finished: MeasuredPrompts,
) -> Tensor:
    """Return the logarithm of the mean of the model's distributions. [token]"""
    readout, device = recorder.model.anatomy.require_readout(), recorder.model.device

    def distribution(prompt: CorpusPrompt) -> Tensor:
        last = streams_of(recorder, prompt)[-1]
        return _log_probabilities(readout, last).exp().sum(0).double().cpu()

    total = sum(
        finished.numbers("mean", prompt.ids, partial(distribution, prompt)) for prompt in prompts
    )
    assert isinstance(total, Tensor)
    count = sum(len(prompt.places) for prompt in prompts)
    return (total / count).clamp_min(1e-300).log().float().to(device)


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    yield from torch.split(rows, ROWS)


def _log_probabilities(readout: Readout, rows: Tensor) -> Tensor:
    return torch.cat([readout(block).float().log_softmax(-1) for block in _chunks(rows)])


def _read(readout: Readout, rows: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(model ‖ reading) of streams, and whether the top tokens agree. [row] twice"""
    compared = [
        _against(target_block, readout(block).float().log_softmax(-1))
        for block, target_block in zip(_chunks(rows), _chunks(target), strict=True)
    ]
    kl, top1 = (torch.cat(parts) for parts in zip(*compared, strict=True))
    return kl, top1


def _against(target: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    kl = (target.exp() * (target - other)).sum(-1).clamp_min(0).double().cpu()
    return kl, (target.argmax(-1) == other.argmax(-1)).cpu()
