"""Which features are active at which tokens, encoded once a token and kept with its row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llmscope.corpus.counting import CONTENT
from llmscope.learned.dictionaries.dictionary import Active, Dictionary
from llmscope.learned.dictionaries.place import Place
from llmscope.record.capture.recording import Recording
from llmscope.record.features.places import can_be_centred, tensor_at
from llmscope.record.sites import NoPlace

TRIED = 32
"""Tokens by which it is decided whether a dictionary takes centred tensors."""


class Misfit(ValueError):  # noqa: N818 - a finding
    """A dictionary cannot be applied to the model; the text says why."""


@dataclass(frozen=True)
class Applied:
    """A dictionary as it is applied to a recording.

    Attributes:
        dictionary: with its weights on the model's device.
        centred: whether the mean over the width is subtracted from what it reads and predicts,
            of streams and of what is written to them.
        shift: by how many layers its tensors are taken further on than its own.
    """

    dictionary: Dictionary
    centred: bool
    shift: int = 0

    @property
    def key(self) -> tuple[Dictionary, bool, int]:
        """What its results are kept under."""
        return self.dictionary, self.centred, self.shift

    def inputs(self, recording: Recording, rows: range) -> Tensor:
        """Return what it reads of some tokens, in float32. [row, width]

        Raises:
            Misfit: the model has no such tensor, or one of another width.
        """
        return self._at(recording, self.dictionary.header.reads, rows)

    def outputs(self, recording: Recording, rows: range) -> Tensor:
        """Return what it predicts of some tokens, in float32. [row, out width]

        Raises:
            Misfit: the model has no such tensor, or one of another width.
        """
        return self._at(recording, self.dictionary.header.writes, rows)

    def _at(self, recording: Recording, place: Place, rows: range) -> Tensor:
        header = self.dictionary.header
        width = header.width if place == header.reads else header.out_width
        place = replace(place, layer=place.layer + self.shift)
        try:
            tensor = tensor_at(recording, place, rows).float()
        except NoPlace as reason:
            raise Misfit(f"it is for the {place.title}: {reason}") from None
        if tensor.shape[-1] != width:
            theirs = tensor.shape[-1]
            raise Misfit(
                f"it is for a {place.title} of width {width}, and the model's has {theirs}"
            )
        centred = self.centred and can_be_centred(recording, place)
        return tensor - tensor.mean(-1, keepdim=True) if centred else tensor


def applied(dictionary: Dictionary, recording: Recording) -> Applied:
    """Return how a dictionary is applied to a recording.

    Where its config does not tell whether it was trained on centred tensors, and the model allows
    both, the one is taken that it reconstructs better, over the first tokens that count.

    Raises:
        Misfit: the model has no tensor that it reads or predicts.
    """
    key = "features applied", dictionary
    if key not in recording.memo:
        recording.memo[key] = Applied(dictionary, _needs_centring(dictionary, recording))
    cached: Applied = recording.memo[key]
    return cached


def _needs_centring(dictionary: Dictionary, recording: Recording) -> bool:
    """Return whether a dictionary reads and writes vectors whose mean is taken off.

    Where its header does not say, both ways are tried on tokens of the recording, and the one with
    the smaller share of variance left unexplained is taken.

    Raises:
        Misfit: the model has no tensor that it reads or predicts.
    """
    header = dictionary.header
    tokens = counted(recording)[:TRIED]
    raw = Applied(dictionary, False)
    first = range(tokens[0], tokens[0] + 1)
    raw.inputs(recording, first)  # these two raise Misfit, whatever the header says
    raw.outputs(recording, first)
    places = (header.reads, header.writes)
    if header.centred is False or not any(can_be_centred(recording, place) for place in places):
        return False
    if header.centred:
        return True
    unexplained = []
    for applied in (raw, Applied(dictionary, True)):
        predicted = reconstruction(applied, recording, tokens)
        actual = rows_of(applied.outputs, recording, tokens)
        centre = actual.mean(0) if len(tokens) > 1 else 0.0
        variance = (actual - centre).square().sum()
        unexplained.append(float((actual - predicted).square().sum() / variance))
    raw_share, centred_share = unexplained
    return centred_share < raw_share


def counted(recording: Recording) -> list[int]:
    """Return the tokens by which a dictionary is judged: no special ones, and not the first.

    Most dictionaries are not trained on the first one. If none is left, all tokens count.
    """
    special = recording.prompt.special[: len(recording)]
    return CONTENT.places_among(special) or list(range(len(recording)))


def features_of(way: Applied, recording: Recording, rows: Sequence[int]) -> list[Active]:
    """Return the active features of some tokens, in their order; those known are kept.

    Raises:
        Misfit: the model has no tensor that the dictionary reads.
    """
    key = "features", way.key
    places = [recording.segment_at(row) for row in rows]
    lacking = [
        row
        for row, (segment, at) in zip(rows, places, strict=True)
        if at not in segment.memo.setdefault(key, {})
    ]
    for run in runs_of(sorted(set(lacking))):
        encoded = way.dictionary.encode(way.inputs(recording, run))
        for row, active in zip(run, encoded, strict=True):
            segment, at = recording.segment_at(row)
            segment.memo[key][at] = active
    return [segment.memo[key][at] for segment, at in places]


def rows_of(
    read: Callable[[Recording, range], Tensor], recording: Recording, rows: Sequence[int]
) -> Tensor:
    """Return `Applied.inputs` or `Applied.outputs` of tokens that need not follow each other."""
    return torch.cat([read(recording, run) for run in runs_of(sorted(rows))])


@torch.no_grad()
def reconstruction(way: Applied, recording: Recording, rows: Sequence[int]) -> Tensor:
    """Return the reconstruction of what a dictionary predicts. [row, out width], float32

    Args:
        way: the dictionary, as it is applied.
        recording: the recording.
        rows: the tokens, ascending.

    Raises:
        Misfit: the model has no tensor that the dictionary reads.
    """
    inputs = rows_of(way.inputs, recording, rows)
    return way.dictionary.decode(features_of(way, recording, rows), inputs).float()


def runs_of(rows: Sequence[int]) -> list[range]:
    """Return ascending numbers as ranges of numbers that follow each other."""
    runs: list[range] = []
    for row in rows:
        if runs and row == runs[-1].stop:
            runs[-1] = range(runs[-1].start, row + 1)
        else:
            runs.append(range(row, row + 1))
    return runs
