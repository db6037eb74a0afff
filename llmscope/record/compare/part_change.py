"""How much each part of a model writes otherwise than the same part of another, on its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.figure import Verdict
from llmscope.record.capture.recording import Recording
from llmscope.record.compare.given_inputs import BETWEEN, written
from llmscope.record.compare.other_model import OtherModel
from llmscope.record.compare.pair import Pair
from llmscope.record.compare.same_tokens import shared_logits
from llmscope.record.compare.stream_difference import relative_difference, rounding_bound
from llmscope.record.derive.kl import exact64
from llmscope.record.derive.tensors import head_outputs
from llmscope.record.sites import Site

PARTS = "parts"
CHUNK = 32
"""Tokens whose writes by head are held at once."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PartChanges:
    """‖b − a‖ / ‖w‖ of what a part writes, averaged over tokens; NaN where there is no such part.

    w is what A's whole attention or MLP writes at the token, so that a head that writes little
    does not count for much.

    Attributes:
        heads: by head, through the output projection alone. [layer, head]
        attention: all that attention, or another mixer, writes. [layer]
        mlp: what the MLP writes. [layer]
        embedding: the embedding, relative to itself.
        readout: the logits that B reads off A's last stream, less their mean, relative to A's.
        unsplit_layers: layers whose attention is not split by head -> why.
        bound: what rounding explains; see `rounding_bound`.
    """

    heads: Doubles
    attention: Doubles
    mlp: Doubles
    embedding: float
    readout: float
    unsplit_layers: dict[int, str]
    bound: float

    def named(self) -> Iterator[tuple[str, float]]:
        """Yield each part with its change.

        Attention as a whole is a part where it changed more than each of its heads, as it does
        where many heads write a little otherwise, and where it has none.
        """
        yield "embedding", self.embedding
        for layer, heads in enumerate(self.heads):
            for head, value in enumerate(heads.tolist()):
                if not np.isnan(value):
                    yield f"head {layer}.{head}", value
            if self.attention[layer] > np.nanmax(heads, initial=0.0):
                yield f"attention {layer}", float(self.attention[layer])
            if not np.isnan(self.mlp[layer]):
                yield f"MLP {layer}", float(self.mlp[layer])
        yield "readout", self.readout


@torch.no_grad()
def part_changes(
    a: Recording, other: OtherModel, verdicts: Callable[[str, int], Verdict]
) -> PartChanges:
    """Run each part of B on what the same part of A read, and compare what they write.

    Values are memoized with A's rows, so that a typed letter computes one row.

    Args:
        a: the prompt on model A.
        other: model B.
        verdicts: how far to trust a capability in a layer of A.

    Raises:
        ScopeError: the parts of the two models do not correspond.
    """
    b = other.on_inputs(a)
    count, heads = a.layers, a.model.anatomy.heads
    by_head = [
        verdicts("heads", layer).worst(other.verdicts("heads", layer)) for layer in range(count)
    ]
    unsplit_layers = {
        layer: verdict.reason
        for layer, verdict in enumerate(by_head)
        if verdict.status == "refused" and a.rows("attention_write", layer, range(1)) is not None
    }

    def compute(rows: range, _: range) -> Tensor:
        """Return the changes of some rows. [heads, attention and MLP by layer, the others; row]"""
        unknown = torch.full((len(rows),), torch.nan, dtype=torch.float64)
        changes: list[Tensor] = []
        for layer, verdict in enumerate(by_head):
            split = verdict.status != "refused"
            changes += _head_changes(a, b, layer, rows) if split else [unknown] * heads
            mixed = [_write_change(a, b, site, layer, rows) for site in BETWEEN]
            known = [change for change in mixed if change is not None]
            changes.append(torch.stack(known).amax(0) if known else unknown)
            change = _write_change(a, b, "mlp_write", layer, rows)
            changes.append(unknown if change is None else change)
        changes += [_embedding_change(a, b, rows), _readout_change(a, b, rows)]
        return torch.stack([values.cpu() for values in changes])

    size = count * (heads + 2) + 2
    rows = Pair(a, b, key=other.key).by_row(PARTS, size, compute)
    means = rows.mean(1, dtype=np.float64)
    by_layer = means[:-2].reshape(count, heads + 2)
    return PartChanges(
        by_layer[:, :heads],
        by_layer[:, heads],
        by_layer[:, heads + 1],
        float(means[-2]),
        float(means[-1]),
        unsplit_layers,
        rounding_bound(a.model.precision, b.model.precision),
    )


def _write_change(a: Recording, b: Recording, site: Site, layer: int, rows: range) -> Tensor | None:
    ours = a.rows(site, layer, rows)
    theirs = None if ours is None else written(b, site, layer, rows)
    return None if ours is None or theirs is None else relative_difference(ours, theirs)


def _embedding_change(a: Recording, b: Recording, rows: range) -> Tensor:
    ours, theirs = a.rows("stream", 0, rows), written(b, "stream", 0, rows)
    assert ours is not None
    assert theirs is not None
    return relative_difference(ours, theirs)


def _head_changes(a: Recording, b: Recording, layer: int, rows: range) -> list[Tensor]:
    """Return the change of what each head writes. [head][row]"""
    pieces = []
    for start in range(rows.start, rows.stop, CHUNK):
        chunk_rows = range(start, min(start + CHUNK, rows.stop))
        ours, theirs = (_head_writes(recording, layer, chunk_rows) for recording in (a, b))
        apart = (theirs.to(ours.device) - ours).norm(dim=-1)  # [row, head]
        size = ours.sum(1).norm(dim=-1)[:, None]
        pieces.append(torch.where(apart == 0, 0.0, apart / size))
    return list(torch.cat(pieces).T)


def _head_writes(recording: Recording, layer: int, rows: range) -> Tensor:
    """Return what each head writes through the output projection, in float64. [row, head, width]

    Without the projection's bias, which belongs to no head, and without norms around it.
    """
    project = recording.model.anatomy.layers[layer].attention_out
    assert project is not None
    outputs = head_outputs(recording, layer, rows)  # [row, head, head width]
    count, heads, size = outputs.shape
    alone = outputs.new_zeros(count, heads, heads, size)
    at = torch.arange(heads, device=outputs.device)
    alone[:, at, at] = outputs
    nothing = outputs.new_zeros(1, heads * size)
    projected = exact64(project(torch.cat([alone.reshape(-1, heads * size), nothing])))
    return (projected[:-1] - projected[-1]).reshape(count, heads, -1)


def _readout_change(a: Recording, b: Recording, rows: range) -> Tensor:
    """Return how B's logits of A's last stream differ from A's, each less its mean."""
    stream = a.final_rows(rows.start, rows.stop)
    read = [recording.model.anatomy.require_readout() for recording in (a, b)]
    device = b.parts[-1][0].final.device
    ours, theirs = shared_logits(read[0](stream), read[1](stream.to(device, b.model.dtype)))
    ours, theirs = (exact64(logits) for logits in (ours, theirs))
    ours, theirs = (logits - logits.mean(-1, keepdim=True) for logits in (ours, theirs))
    return relative_difference(ours, theirs)
