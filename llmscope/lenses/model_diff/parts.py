"""Mode `parts` of the lens `model-diff`: each part of B on the input that it has in A."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmscope.errors import ScopeError
from llmscope.figure import Axis, Figure, Focus, Verdict
from llmscope.lenses.base import layer_axis, layer_kinds
from llmscope.lenses.contrast.captions import in_lines

if TYPE_CHECKING:
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.other_model import OtherModel
    from llmscope.record.compare.part_change import PartChanges

TITLES = {"parts": "Two models · change of what each part writes, on A's input"}
NAMED = 6
"""Number of parts that the caption names."""


def parts(recording: Recording, passes: Passes, other: OtherModel, focus: Focus) -> Figure:
    """Return how much what each head, attention and MLP of B writes differs from A's. [layer, part]

    Refused where the parts of the two models do not correspond.
    """
    from llmscope.record.compare.part_change import part_changes

    try:
        changes = part_changes(recording, other, passes.verdicts)
    except ScopeError as error:
        return Figure.refused("model-diff", TITLES["parts"], error.line)
    verdict = Verdict("verified")
    if changes.unsplit_layers:
        layer, reason = next(iter(changes.unsplit_layers.items()))
        verdict = Verdict("partial", f"layer {layer} is not split by heads: {reason}")
    columns = (*map(str, range(changes.heads.shape[1])), "attention", "MLP")
    values = np.concatenate(
        [changes.heads, changes.attention[:, None], changes.mlp[:, None]], axis=1
    )
    return Figure(
        lens="model-diff",
        title=TITLES["parts"],
        kind="heatmap",
        axes=(layer_axis(recording), Axis("component", columns)),
        values=values.astype(np.float32),
        unit="relative",
        verdict=verdict,
        extra={
            "mode": focus.mode,
            "model_a": recording.model.full_name,
            "model_b": other.model.full_name,
            "embedding": changes.embedding,
            "readout": changes.readout,
            "bound": changes.bound,
            "caption": in_lines(*changed_parts(changes)),
            **layer_kinds(recording),
        },
    )


def changed_parts(changes: PartChanges) -> list[str]:
    """Return caption lines: the parts that changed most, and the embedding and the readout."""
    ranked = [(value, name) for name, value in changes.named() if value > changes.bound]
    ranked.sort(key=lambda change: -change[0])
    listed = ", ".join(f"{name} {value:.2g}" for value, name in ranked[:NAMED])
    more = len(ranked) - NAMED
    lines = [
        f"changed by more than rounding, {changes.bound:.1g}: {listed}"
        + (f" and {more} smaller ones" if more > 0 else "")
        if ranked
        else f"no part changed by more than rounding, {changes.bound:.1g}"
    ]
    lines.append(f"embedding {changes.embedding:.2g}, readout {changes.readout:.2g}")
    return lines
