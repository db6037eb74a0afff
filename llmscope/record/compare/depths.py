"""The logit lenses and streams of two models after each layer, compared at each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmscope.errors import WrongValueError
from llmscope.record.analysis.logit_lens import ROWS, stream_after
from llmscope.record.compare.pair import Floats, Pair
from llmscope.record.compare.same_tokens import shared_logits
from llmscope.record.compare.stream_difference import cosine, linear_cka, relative_difference
from llmscope.record.derive.kl import kl_of

DEPTHS, STREAMS = "logit lenses", "streams"


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


def read_depths(pair: Pair, columns: Sequence[int]) -> None:
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


def depths(pair: Pair) -> Depths:
    """Return all values of the logit lenses that are known."""
    shape = (4, pair.a.layers + 1)
    parts = [pair.memo(segment, DEPTHS, *shape)[:, :, :n] for segment, n in pair.a.parts]
    return Depths(*np.concatenate(parts, axis=2))


def _cells(pair: Pair, column: int) -> Floats:
    segment, row = pair.a.segment_at(column)
    return pair.memo(segment, DEPTHS, 4, pair.a.layers + 1)[:, :, row]


@torch.no_grad()
def _read(pair: Pair, cells: Sequence[tuple[int, int]]) -> Floats:
    ours = torch.stack([stream_after(pair.a, layer, column) for layer, column in cells])
    theirs = torch.stack(
        [stream_after(pair.b, pair.depths[layer], column) for layer, column in cells]
    )
    read = [
        recording.model.anatomy.require_readout()(streams).float()
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
def streams(pair: Pair) -> Streams:
    """Compare the streams after every layer at every token.

    Raises:
        ValueError: the models have streams of different widths.
    """
    if not pair.same_width:
        widths = [recording.model.anatomy.width for recording in pair.both]
        raise WrongValueError(f"their streams have {widths[0]} and {widths[1]} dimensions")
    count = pair.a.layers + 1

    def compute(here: range, there: range) -> Tensor:
        measures: list[list[Tensor]] = [[], []]
        for layer, layer_in_b in enumerate(pair.depths):
            ours = pair.a.rows("stream", layer, here)
            theirs = pair.b.rows("stream", layer_in_b, there)
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
def similarities(pair: Pair) -> Floats:
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
