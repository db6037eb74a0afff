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
    inside = [one for one in deltas if one.layer is not None]
    names = tuple(dict.fromkeys(one.name for one in inside))
    labels = short(names)
    layers = len(recording.subject.anatomy.layers)

    def table(of: str) -> Any:
        values = np.full((layers, len(names)), np.nan, dtype=np.float32)
        for one in inside:
            values[one.layer, names.index(one.name)] = getattr(one, of)
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
            "adapter": recording.subject.adapter,
            "modules": names,
            **{
                name: table(name)
                for name in ("norm", "before", "rank", "effective_rank", "stable_rank", "largest")
            },
            "outside": [
                {
                    "name": one.name,
                    "relative": one.relative,
                    "rank": one.rank,
                    "effective_rank": one.effective_rank,
                }
                for one in deltas
                if one.layer is None
            ],
            "others": others,
            "caption": tuple(_said(deltas, others)),
        },
    )


def _said(deltas: Sequence[WeightDelta], others: Sequence[str]) -> Iterator[str]:
    """Yield caption lines: the number of changed matrices, and the one that changed most."""
    changed = [one for one in deltas if len(one.spectrum)]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        yield f"changed as well, and not shown, for it is no matrix: {others[0]}{more}"
    if not changed:
        yield "no matrix differs from the base"
        return
    most = max(changed, key=lambda one: one.relative)
    where = "" if most.layer is None else f"layer {most.layer} "
    ranks = sorted({one.rank for one in changed})
    span = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    yield (
        f"{len(changed)} of {len(deltas)} matrices changed, {span}; most {where}{most.name}: "
        f"{most.relative:.3g} of its norm, effective rank {most.effective_rank:.3g}"
    )
    outside = [one.name for one in changed if one.layer is None]
    if outside:
        yield f"outside of the layers: {', '.join(outside)}"
