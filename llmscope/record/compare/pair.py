"""Two recordings beside each other: of two prompts, or of one prompt on two models.

Values of a row are memoized with A's rows, so that a typed letter computes one row of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count as count_up
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.compare.alignment import Aligned
from llmscope.record.compare.same_tokens import shared_logits
from llmscope.record.compare.stream_difference import paired_streams
from llmscope.record.derive.kl import exact64, kl_both_ways
from llmscope.record.derive.row_stats import CHUNK, row_stats
from llmscope.record.derive.tensors import logits, logits_after

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
PREDICTIONS = "predictions"
NUMBER = "number of its pass"
"""What a segment's memo has its number under, by which pairs tell its rows from others."""
ROWS = 1 << 32
"""More than the rows of any segment."""
_numbers = count_up()


class Unpaired(Exception):  # noqa: N818 - a result, not an error
    """Prompt B cannot be compared with this prompt; the text says why."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Recordings A and B whose tokens are held against each other.

    Attributes:
        a, b: the recordings.
        places: positions of the same token in A and in B, ascending; None: B has the same prompt.
        same: length of the common prefix of both prompts on one model. As attention is causal,
            everything computed for these tokens is the same too. 0 on two models, and if A is
            edited.
        key: identifies model B among all that A was compared with, such as `OtherModel.key`; None:
            it is the model of A.
    """

    a: Recording
    b: Recording
    places: Aligned | None = None
    same: int = 0
    key: object = None

    @cached_property
    def both(self) -> tuple[Recording, Recording]:
        """The recordings of A and B."""
        return self.a, self.b

    @cached_property
    def aligned(self) -> Aligned:
        """Positions of the same token in A and in B, ascending."""
        rows = range(len(self.a))
        return tuple(zip(rows, rows, strict=True)) if self.places is None else self.places

    @cached_property
    def alone(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Positions in A of tokens that only A has, and in B of those that only B has."""
        of_a, of_b = (
            tuple(sorted(set(range(len(recording))) - set(side)))
            for recording, side in zip(self.both, zip(*self.aligned, strict=True), strict=True)
        )
        return of_a, of_b

    @cached_property
    def _in_b(self) -> NDArray[np.int64]:
        """The position in B of each token of A; -1: only A has it. [row]"""
        if self.places is None:
            return np.arange(len(self.a))
        positions = np.full(len(self.a), -1)
        here, there = zip(*self.places, strict=True)
        positions[list(here)] = there
        return positions

    def there(self, position: int) -> int | None:
        """Return the position in B of a token of A; None if only A has it."""
        there = int(self._in_b[position])
        return None if there < 0 else there

    def counterpart(self, position: int) -> int:
        """Return the position in B of a token of A.

        Raises:
            Unpaired: only A has the token.
        """
        there = self.there(position)
        if there is not None:
            return there
        labels, special = self.a.prompt.labels, self.a.prompt.special
        shared = [place for place, _ in self.aligned if not special[place]]
        nearest = min(shared, key=lambda place: abs(place - position))
        raise Unpaired(
            f"prompt B does not have ‹{labels[position]}›: look at a token that both have, such as "
            f"‹{labels[nearest]}› at {nearest}"
        )

    @property
    def identical(self) -> bool:
        """Whether A and B are the same prompt, unedited."""
        return self.same == len(self.a) == len(self.b)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """The stream of B that each stream of A is compared with. [layer + 1]

        0 is the embedding. Where B has another number of layers, streams at the same fraction of
        the depth are compared.
        """
        return tuple(there for _, there in paired_streams(self.a.layers, self.b.layers))

    @property
    def same_width(self) -> bool:
        """Whether streams of both have the same number of dimensions."""
        return self.a.model.anatomy.width == self.b.model.anatomy.width

    @cached_property
    def _numbers_in_b(self) -> NDArray[np.int64]:
        """A number of B's row for each row of A, -1 where B has none. [row]

        A number is of one row of one pass of B: rows that B does not reuse have another in each
        recording.
        """
        numbers = np.concatenate(
            [
                segment.memo.setdefault(NUMBER, next(_numbers)) * ROWS + np.arange(count)
                for segment, count in self.b.parts
            ]
        )
        return np.where(self._in_b < 0, -1, numbers[self._in_b])

    @cached_property
    def _compared(self) -> set[tuple[int, str]]:
        """The segments, by id, and the names of the values that are known to be of B's rows."""
        return set()

    @cached_property
    def _of_edited(self) -> dict[int, dict[Any, Any]]:
        """The memos of an edited pass, which shares segments with the unedited one. By id."""
        return {}

    def memo(self, segment: Segment, what: str, *shape: int) -> Floats:
        """Return the values kept with a segment of A, NaN where unknown. [*shape, row]

        A value is known only while B's row is the one that it was computed from: A may reuse the
        rows of a prefix where B runs the whole prompt.
        """
        apart = self.key is None and self.a.changes
        memos = self._of_edited.setdefault(id(segment), {}) if apart else segment.memo
        cached = memos.setdefault(("pair", self.key is None), {})
        key = (self.key, self.b.state, what)
        if key not in cached:
            for old in [known for known in cached if known[:2] != key[:2]]:
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
        compute: Callable[[range, range], Tensor],
        rows: Mask | None = None,
    ) -> Floats:
        """Return values of the rows of A, as the last item of `rows_so_far`. [*, row]"""
        *_, values = self.rows_so_far(what, count, compute, rows)
        return values

    def rows_so_far(
        self,
        what: str,
        count: int,
        compute: Callable[[range, range], Tensor],
        rows: Mask | None = None,
        near: int = 0,
    ) -> Iterator[Floats]:
        """Yield values of the rows of A that B has too, ever more of them, NaN elsewhere. [*, row]

        Args:
            what: the name of the values.
            count: the number of values of a row.
            compute: returns the values of consecutive rows of A and of B. [count, row]
            rows: mask of the rows to compute, NaN elsewhere; None: all. [row]
            near: the row that is computed first, and those close to it.
        """
        memos = [(self.memo(segment, what, count), n) for segment, n in self.a.parts]
        values = np.concatenate([memo[:, :n] for memo, n in memos], axis=1)
        wanted = self._in_b >= 0 if rows is None else (self._in_b >= 0) & rows
        values[:, ~wanted] = np.nan
        runs = self._runs(np.flatnonzero(np.isnan(values).all(0) & wanted).tolist())
        for run in sorted(runs, key=lambda run: abs(run.start - near)):
            first = int(self._in_b[run.start])
            there = range(first, first + len(run))
            values[:, run.start : run.stop] = compute(run, there).float().cpu().numpy()
            start = 0
            for memo, n in memos:
                inside = range(max(run.start, start), min(run.stop, start + n))
                if inside:
                    in_segment = slice(inside.start - start, inside.stop - start)
                    memo[:, in_segment] = values[:, inside.start : inside.stop]
                start += n
            yield values.copy()
        if not runs:
            yield values

    def _runs(self, rows: Sequence[int]) -> list[range]:
        """Return the runs of rows that are consecutive in A and in B, at most `CHUNK` in each."""
        runs: list[range] = []
        for row in rows:
            last = runs[-1] if runs else range(0)
            follows = last.stop == row and self._in_b[row] == self._in_b[row - 1] + 1
            if last and follows and len(last) < CHUNK:
                runs[-1] = range(last.start, row + 1)
            else:
                runs.append(range(row, row + 1))
        return runs


@dataclass(frozen=True)
class Predictions:
    """How the next-token predictions of A and B differ after each token. All `[row]`.

    Attributes:
        kl: KL(A ‖ B) in nats.
        reverse: KL(B ‖ A) in nats.
        same_top: 1 where both have the same likeliest token, else 0.
        top_a, top_b: the ids of the likeliest tokens.
    """

    kl: Floats
    reverse: Floats
    same_top: Floats
    top_a: Floats
    top_b: Floats


def predictions(pair: Pair, rows: Mask | None = None) -> Predictions:
    """Compare the predictions after every token, as the last item of `predictions_so_far`."""
    *_, compared = predictions_so_far(pair, rows)
    return compared


@torch.no_grad()
def predictions_so_far(
    pair: Pair, rows: Mask | None = None, near: int = 0
) -> Iterator[Predictions]:
    """Yield comparisons of the predictions after ever more tokens that both have, NaN elsewhere.

    KL(A ‖ B) = Σ p_A (log p_A − log p_B) over the tokens that both vocabularies have, in float64.

    Args:
        pair: the recordings.
        rows: mask of the tokens to compare; None: all. [row]
        near: the token that comes first, and those close to it.
    """

    def compute(here: range, there: range) -> Tensor:
        ours, theirs = shared_logits(_scores(pair.a, here), _scores(pair.b, there))
        tops = [scores.argmax(-1) for scores in (ours, theirs)]
        agree = (tops[0] == tops[1]).double()
        return torch.stack([*kl_both_ways(ours, theirs), agree, *(top.double() for top in tops)])

    for values in pair.rows_so_far(PREDICTIONS, 5, compute, rows, near):
        yield Predictions(*values)


def _scores(recording: Recording, rows: range) -> Tensor:
    if len(rows) == 1:
        return logits_after(recording, rows.start)[None]
    return logits(recording, rows.start, rows.stop)


@torch.no_grad()
def probabilities(pair: Pair, position: int) -> NDArray[np.float64]:
    """Return the next-token probabilities after a token of A and its counterpart. [A | B, token]

    Raises:
        Unpaired: only A has the token.
    """
    there = pair.counterpart(position)
    ours = logits_after(pair.a, position)
    theirs = ours if position < pair.same else logits_after(pair.b, there)
    scores = exact64(torch.stack(shared_logits(ours, theirs)))
    both: NDArray[np.float64] = torch.softmax(scores, -1).cpu().numpy()
    return both


def log_ratios(pair: Pair) -> Floats:
    """Return log(p_A(token) / p_B(token)) of each token given those before it, in nats. [row]

    NaN for the first token, which is not predicted. Where A is a fine-tuned policy and B its
    reference, DPO's implicit reward is β times the sum over an answer (Rafailov et al. 2023).
    """
    ours, theirs = (deque(row_stats(recording), maxlen=1)[0].surprisal for recording in pair.both)
    ratios: Floats = ((theirs - ours) * np.log(2)).astype(np.float32)
    return ratios
