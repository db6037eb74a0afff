"""Modes `weights` and `rank` of the lens `stages`: the change of each weight matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.figure import Axis, Figure, Focus

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.weight_delta import WeightDelta

TITLES = {
    "weights": "Stages · ‖ΔW‖ / ‖W‖ of each matrix",
    "rank": "Stages · effective rank of ΔW",
}


def short(names: Sequence[str]) -> tuple[str, ...]:
    """Shorten module names, such as `self_attn.q_proj` to `q`, if the results stay distinct."""
    leaves = [name.rpartition(".")[2] for name in names]
    bare = [leaf if leaf == "c_proj" else leaf.removesuffix("_proj") for leaf in leaves]
    return tuple(bare if len(set(bare)) == len(set(names)) else names)


def weights(
    recording: Recording, deltas: Sequence[WeightDelta], others: Sequence[str], focus: Focus
) -> Figure:
    """Return ‖ΔW‖ / ‖W‖ or the effective rank: modes `weights` and `rank`. [layer, matrix]"""
    inside = [delta for delta in deltas if delta.layer is not None]
    names = tuple(dict.fromkeys(delta.name for delta in inside))
    labels = short(names)
    layers = len(recording.model.anatomy.layers)

    def table(of: str) -> Any:
        values = np.full((layers, len(names)), np.nan, dtype=np.float32)
        for delta in inside:
            values[delta.layer, names.index(delta.name)] = getattr(delta, of)
        return values

    return Figure(
        lens="stages",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(Axis("layer", tuple(map(str, range(layers)))), Axis("matrix", labels)),
        values=table("relative" if focus.mode == "weights" else "effective_rank"),
        unit="ratio" if focus.mode == "weights" else "rank",
        extra={
            "mode": focus.mode,
            "adapter": recording.model.adapter,
            "modules": names,
            **{
                name: table(name)
                for name in ("norm", "before", "rank", "effective_rank", "stable_rank", "largest")
            },
            "outside": [
                {
                    "name": delta.name,
                    "relative": delta.relative,
                    "rank": delta.rank,
                    "effective_rank": delta.effective_rank,
                }
                for delta in deltas
                if delta.layer is None
            ],
            "others": others,
            "caption": tuple(_caption_lines(deltas, others)),
        },
    )


def _caption_lines(deltas: Sequence[WeightDelta], others: Sequence[str]) -> Iterator[str]:
    """Yield caption lines: the number of changed matrices, and the one that changed most."""
    changed = [delta for delta in deltas if len(delta.spectrum)]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        yield f"changed as well, and not shown, for it is no matrix: {others[0]}{more}"
    if not changed:
        yield "no matrix differs from the base"
        return
    most_changed = max(changed, key=lambda matrix: matrix.relative)
    where = "" if most_changed.layer is None else f"layer {most_changed.layer} "
    ranks = sorted({delta.rank for delta in changed})
    span = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    yield (
        f"{len(changed)} of {len(deltas)} matrices changed, {span}; "
        f"most {where}{most_changed.name}: "
        f"{most_changed.relative:.3g} of its norm, effective rank {most_changed.effective_rank:.3g}"
    )
    outside = [delta.name for delta in changed if delta.layer is None]
    if outside:
        yield f"outside of the layers: {', '.join(outside)}"
