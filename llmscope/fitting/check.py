"""Measure how a lens reads held-out text; see `llmscope.learned.held_out`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmscope.fitting.corpus import CorpusPrompt, CorpusRules, nothing_counts
from llmscope.learned.held_out import HeldOut, Readings
from llmscope.learned.lens import LearnedLens
from llmscope.models.anatomy import Readout
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Recording

ROWS = 64
"""Streams whose logits are held at once."""
Report = Callable[[str, float], None]
"""Called with what is being done, and the share that is done, from 0 to 1."""


def streams_of(recorder: Recorder, ids: Sequence[int], places: range) -> Tensor:
    """Return the streams of a prompt where its tokens count. [stream, row, width], float32"""
    recording: Recording = recorder.run([list(ids)], record=True)
    rows = [recording.rows("stream", stream, places) for stream in range(recording.layers + 1)]
    return torch.stack([one.to(recorder.subject.device) for one in rows if one is not None])


@dataclass
class _Sums:
    """Sums over tokens for one way of reading, by stream. All [stream], float64 on the CPU"""

    top1: Tensor
    kl: Tensor
    worse: Tensor
    worse_squared: Tensor

    @classmethod
    def of(cls, streams: int) -> _Sums:
        return cls(*(torch.zeros(streams, dtype=torch.float64) for _ in range(4)))

    def readings(self, tokens: int) -> Readings:
        mean = self.worse / tokens
        spread = (self.worse_squared / tokens - mean.square()).clamp_min(0)
        errors = (spread / max(tokens - 1, 1)).sqrt()
        return Readings(
            tuple((self.top1 / tokens).tolist()),
            tuple((self.kl / tokens).tolist()),
            tuple(zip(mean.tolist(), errors.tolist(), strict=True)),
        )


@dataclass
class _Ways:
    lens: _Sums
    logit: _Sums
    baseline: _Sums
    tokens: int = 0
    prompts: int = 0


@torch.no_grad()
def measure(
    lens: LearnedLens,
    recorder: Recorder,
    prompts: Iterable[CorpusPrompt],
    rules: CorpusRules,
    report: Report = lambda *_: None,
) -> HeldOut:
    """Return how a lens, the logit lens and the lens's baseline read prompts.

    The baseline of a Jacobian lens is the same lens with the matrices of other layers. That of a
    tuned lens is one fitted on shuffled pairs: what it can learn at best is the mean of the model's
    distributions, which is therefore measured in its place.

    Args:
        lens: the lens, which fits the model.
        recorder: the recorder of the model.
        prompts: the prompts; none that the lens was fitted on.
        rules: which tokens count.
        report: told of the progress.

    Raises:
        ScopeError: no token of any prompt counts.
    """
    prompts = list(prompts)
    if not prompts:
        raise nothing_counts(rules)
    readout = recorder.subject.anatomy.require_readout()
    streams = len(recorder.subject.anatomy.layers) + 1
    ways = _Ways(_Sums.of(streams), _Sums.of(streams), _Sums.of(streams))
    tuned = lens.kind == "tuned"
    constant = _mean_prediction(recorder, prompts, rules) if tuned else None
    shifted = lens.shifted()
    for index, prompt in enumerate(prompts):
        report("measuring on held-out prompts", index / len(prompts))
        own = streams_of(recorder, prompt.ids, rules.places(prompt.ids))
        target = _log_probabilities(readout, own[-1])
        for stream in range(streams):
            at = [stream] * own.shape[1]
            plain = _read(readout, own[stream], target)
            mapped = stream in lens.maps
            learned = _read(readout, lens(own[stream], at), target) if mapped else plain
            if not mapped:
                other = plain
            elif constant is not None:
                other = _against(target, constant.expand_as(target))
            else:
                other = _read(readout, shifted(own[stream], at), target)
            pairs = ((ways.lens, learned), (ways.logit, plain), (ways.baseline, other))
            for sums, (kl, top1) in pairs:
                worse = kl - learned[0]
                sums.top1[stream] += float(top1.sum())
                sums.kl[stream] += float(kl.sum())
                sums.worse[stream] += float(worse.sum())
                sums.worse_squared[stream] += float(worse.square().sum())
        ways.tokens += own.shape[1]
        ways.prompts += 1
    through, logits, others = (
        sums.readings(ways.tokens) for sums in (ways.lens, ways.logit, ways.baseline)
    )
    named = "a lens fitted on shuffled pairs" if tuned else "the matrices of other layers"
    return HeldOut(ways.tokens, ways.prompts, through, logits, others, named)


def _mean_prediction(
    recorder: Recorder, prompts: Sequence[CorpusPrompt], rules: CorpusRules
) -> Tensor:
    """Return the logarithm of the mean of the model's distributions. [token]"""
    readout, total, count = recorder.subject.anatomy.require_readout(), None, 0
    for prompt in prompts:
        last = streams_of(recorder, prompt.ids, rules.places(prompt.ids))[-1]
        some = _log_probabilities(readout, last).exp().sum(0).double()
        total = some if total is None else total + some
        count += len(last)
    assert total is not None
    return (total / count).clamp_min(1e-300).log().float()


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    yield from torch.split(rows, ROWS)


def _log_probabilities(readout: Readout, rows: Tensor) -> Tensor:
    return torch.cat([readout(some).float().log_softmax(-1) for some in _chunks(rows)])


def _read(readout: Readout, rows: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(model ‖ reading) of streams, and whether the top tokens agree. [row] twice"""
    found = [
        _against(own, readout(some).float().log_softmax(-1))
        for some, own in zip(_chunks(rows), _chunks(target), strict=True)
    ]
    kl, top1 = (torch.cat(parts) for parts in zip(*found, strict=True))
    return kl, top1


def _against(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    kl = (own.exp() * (own - other)).sum(-1).clamp_min(0).double().cpu()
    return kl, (own.argmax(-1) == other.argmax(-1)).cpu()
