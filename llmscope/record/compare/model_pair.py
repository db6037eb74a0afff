"""One prompt on two models: predictions, logit lenses and streams, compared row by row.

Values are memoized with A's rows, so that a typed letter computes one row of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count as count_up

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.errors import WrongValueError
from llmscope.record.analysis.logit_lens import ROWS, stream_after
from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.compare.same_tokens import shared_logits
from llmscope.record.compare.stream_difference import (
    cosine,
    linear_cka,
    paired_streams,
    relative_difference,
)
from llmscope.record.derive.kl import exact64, kl_divergence, kl_of
from llmscope.record.derive.row_stats import CHUNK, row_stats
from llmscope.record.derive.tensors import logits, logits_after

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
PREDICTIONS, DEPTHS, STREAMS = "predictions", "logit lenses", "streams"
NUMBER = "number of its pass"
"""What a segment's memo has its number under, by which model pairs tell its rows from others."""
_numbers = count_up()


@dataclass(frozen=True, eq=False)
class ModelPair:
    """Recordings of one prompt on model A and on model B.

    Attributes:
        a, b: the recordings.
        key: identifies model B among all that A was compared with, such as `OtherModel.key`.
    """

    a: Recording
    b: Recording
    key: object

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """The stream of B that each stream of A is compared with. [layer + 1]

        0 is the embedding. Where B has another number of layers, streams at the same fraction of
        the depth are compared.
        """
        return tuple(there for _, there in paired_streams(self.a.layers, self.b.layers))

    @property
    def same_width(self) -> bool:
        """Whether streams of both models have the same number of dimensions."""
        return self.a.subject.anatomy.width == self.b.subject.anatomy.width

    @cached_property
    def _numbers_in_b(self) -> NDArray[np.int64]:
        """The number of B's segment that each row of the prompt is in. [row]

        A number is of one pass of B: rows that B does not reuse have another in each recording.
        """
        parts = self.b.parts
        numbers = [segment.memo.setdefault(NUMBER, next(_numbers)) for segment, _ in parts]
        return np.repeat(np.array(numbers), [count for _, count in parts])

    @cached_property
    def _compared(self) -> set[tuple[int, str]]:
        """The segments, by id, and the names of the values that are known to be of B's rows."""
        return set()

    def memo(self, segment: Segment, what: str, *shape: int) -> Floats:
        """Return the values kept with a segment of A, NaN where unknown. [*shape, row]

        A value is known only while B's row is the one that it was computed from: A may reuse the
        rows of a prefix where B runs the whole prompt.
        """
        cached = segment.memo.setdefault("model difference", {})
        key = (self.key, self.b.state, what)
        if key not in cached:
            for old in [known_key for known_key in cached if known_key[:2] != key[:2]]:
                del cached[old]  # of a model that is not compared with any more
            unknown = np.full((*shape, len(segment)), np.nan, dtype=np.float32)
            cached[key] = unknown, np.full(len(segment), -1)
        values: Floats
        values, numbers = cached[key]
        if (id(segment), what) not in self._compared:
            self._compared.add((id(segment), what))
            place = next(at for at, (part, _) in enumerate(self.a.parts) if part is segment)
            start, count = sum(n for _, n in self.a.parts[:place]), self.a.parts[place][1]
            now = self._numbers_in_b[start : start + count]
            values[..., :count][..., numbers[:count] != now] = np.nan
            numbers[:count] = now
        return values

    def by_row(
        self,
        what: str,
        count: int,
        compute: Callable[[int, int], Tensor],
        rows: Mask | None = None,
    ) -> Floats:
        """Return values of the rows of the prompt, computing those that are not known. [*, row]

        Args:
            what: the name of the values.
            count: the number of values of a row.
            compute: returns the values of the rows from start to before stop. [count, row]
            rows: mask of the rows to compute, NaN elsewhere; None: all. [row]
        """
        memos = [(self.memo(segment, what, count), n) for segment, n in self.a.parts]
        values = np.concatenate([memo[:, :n] for memo, n in memos], axis=1)
        wanted = np.ones(len(self.a), dtype=bool) if rows is None else rows
        missing = np.flatnonzero(np.isnan(values).all(0) & wanted).tolist()
        end = missing[-1] + 1 if missing else 0
        for first in range(missing[0] if missing else 0, end, CHUNK):
            stop = min(first + CHUNK, end)
            values[:, first:stop] = compute(first, stop).float().cpu().numpy()
        at = 0
        for memo, n in memos:
            memo[:, :n] = values[:, at : at + n]
            at += n
        values[:, ~wanted] = np.nan
        return values


@dataclass(frozen=True)
class PairPredictions:
    """How the next-token predictions of two models differ after each token. All `[row]`.

    Attributes:
        kl: KL(A ‖ B) in nats.
        same_top: 1 where both have the same likeliest token, else 0.
        top_a, top_b: the ids of the likeliest tokens.
    """

    kl: Floats
    same_top: Floats
    top_a: Floats
    top_b: Floats


@torch.no_grad()
def predictions(pair: ModelPair, rows: Mask | None = None) -> PairPredictions:
    """Compare the predictions after every token.

    KL(A ‖ B) = Σ p_A (log p_A − log p_B) over the tokens that both vocabularies have, in float64.

    Args:
        pair: the recordings.
        rows: mask of the tokens to compare, NaN elsewhere; None: all. [row]
    """

    def compute(first: int, stop: int) -> Tensor:
        ours, theirs = shared_logits(
            *(_scores(recording, first, stop) for recording in (pair.a, pair.b))
        )
        tops = [scores.argmax(-1) for scores in (ours, theirs)]
        kl = kl_divergence(ours, theirs)
        return torch.stack([kl, (tops[0] == tops[1]).double(), *(top.double() for top in tops)])

    return PairPredictions(*pair.by_row(PREDICTIONS, 4, compute, rows))


def log_ratios(pair: ModelPair) -> Floats:
    """Return log(p_A(token) / p_B(token)) of each token given those before it, in nats. [row]

    NaN for the first token, which is not predicted. Where A is a fine-tuned policy and B its
    reference, DPO's implicit reward is β times the sum over an answer (Rafailov et al. 2023).
    """
    ours, theirs = (deque(row_stats(scores), maxlen=1)[0].surprisal for scores in (pair.a, pair.b))
    ratios: Floats = ((theirs - ours) * np.log(2)).astype(np.float32)
    return ratios


def _scores(recording: Recording, start: int, stop: int) -> Tensor:
    if stop == start + 1:
        return logits_after(recording, start)[None]
    return logits(recording, start, stop)


@torch.no_grad()
def both(pair: ModelPair, position: int) -> NDArray[np.float64]:
    """Return the next-token probabilities after a position. [A | B, token]"""
    scores = shared_logits(*(logits_after(recording, position) for recording in (pair.a, pair.b)))
    probabilities: NDArray[np.float64] = (
        torch.softmax(exact64(torch.stack(scores)), -1).cpu().numpy()
    )
    return probabilities


@dataclass(frozen=True, eq=False)
class Depths:
    """What the logit lenses of two models say, so far; NaN elsewhere. All `[layer + 1, row]`.

    Attributes:
        kl: KL(A ‖ B) in nats of the logit lenses after a layer, the embedding first.
        token: id of the token whose probability differs most.
        a, b: that token's probability in each model.
    """

    kl: Floats
    token: Floats
    a: Floats
    b: Floats


def read_depths(pair: ModelPair, columns: Sequence[int]) -> None:
    """Compare the logit lenses at these positions after every layer, except those known already.

    Each model's stream is read by its own final norm and unembedding.

    Raises:
        ValueError: a model has no unembedding that was found.
    """
    wanted = [
        (int(layer), column)
        for column in columns
        for layer in np.flatnonzero(np.isnan(_cells(pair, column)[0]))
    ]
    for start in range(0, len(wanted), ROWS):
        cells = wanted[start : start + ROWS]
        for (layer, column), values in zip(cells, _read(pair, cells).T, strict=True):
            _cells(pair, column)[:, layer] = values


def depths(pair: ModelPair) -> Depths:
    """Return all values of the logit lenses that are known."""
    shape = (4, pair.a.layers + 1)
    parts = [pair.memo(segment, DEPTHS, *shape)[:, :, :n] for segment, n in pair.a.parts]
    return Depths(*np.concatenate(parts, axis=2))


def _cells(pair: ModelPair, column: int) -> Floats:
    segment, row = pair.a.segment_at(column)
    return pair.memo(segment, DEPTHS, 4, pair.a.layers + 1)[:, :, row]


@torch.no_grad()
def _read(pair: ModelPair, cells: Sequence[tuple[int, int]]) -> Floats:
    ours = torch.stack([stream_after(pair.a, layer, column) for layer, column in cells])
    theirs = torch.stack(
        [stream_after(pair.b, pair.depths[layer], column) for layer, column in cells]
    )
    read = [
        recording.subject.anatomy.require_readout()(streams).float()
        for recording, streams in ((pair.a, ours), (pair.b, theirs))
    ]
    p, q = (torch.log_softmax(logit, -1) for logit in shared_logits(*read))  # [cell, token]
    share, other = p.exp(), q.exp()
    most_changed = (share - other).abs_().argmax(-1, keepdim=True)
    probabilities = share.gather(1, most_changed)[:, 0], other.gather(1, most_changed)[:, 0]
    columns: Floats = (
        torch.stack([kl_of(p, q), most_changed[:, 0].float(), *probabilities]).cpu().numpy()
    )
    return columns


@dataclass(frozen=True, eq=False)
class Streams:
    """How the residual streams of two models of one width differ. All `[layer + 1, row]`.

    Attributes:
        relative: ‖a − b‖ / ‖a‖ after a layer, the embedding first.
        cosine: the cosine of the two.
    """

    relative: Floats
    cosine: Floats


@torch.no_grad()
def streams(pair: ModelPair) -> Streams:
    """Compare the streams after every layer at every token.

    Raises:
        ValueError: the models have streams of different widths.
    """
    if not pair.same_width:
        widths = [recording.subject.anatomy.width for recording in (pair.a, pair.b)]
        raise WrongValueError(f"their streams have {widths[0]} and {widths[1]} dimensions")
    count = pair.a.layers + 1

    def compute(first: int, stop: int) -> Tensor:
        measures: list[list[Tensor]] = [[], []]
        for layer, there in enumerate(pair.depths):
            ours = pair.a.rows("stream", layer, range(first, stop))
            theirs = pair.b.rows("stream", there, range(first, stop))
            assert ours is not None
            assert theirs is not None
            theirs = theirs.to(ours.device)
            measures[0].append(relative_difference(ours, theirs))
            measures[1].append(cosine(ours, theirs))
        device = measures[0][0].device
        return torch.stack([measure.to(device) for measure in (*measures[0], *measures[1])])

    values = pair.by_row(STREAMS, 2 * count, compute)
    return Streams(values[:count], values[count:])


@torch.no_grad()
def similarities(pair: ModelPair) -> Floats:
    """Return the linear CKA over the tokens of the streams after every layer. [layer + 1]

    NaN for a prompt of fewer than three tokens, of which any two streams are alike.
    """
    rows, values = range(len(pair.a)), np.full(pair.a.layers + 1, np.nan, dtype=np.float32)
    for layer, there in enumerate(pair.depths if len(rows) > 2 else ()):
        ours, theirs = pair.a.rows("stream", layer, rows), pair.b.rows("stream", there, rows)
        assert ours is not None
        assert theirs is not None
        values[layer] = linear_cka(ours, theirs)
    return values
