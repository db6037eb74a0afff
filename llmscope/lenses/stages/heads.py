"""Mode `heads` of the lens `stages`: how much otherwise each head writes than in the base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmscope.errors import ScopeError
from llmscope.figure import Axis, Figure, Focus, Verdict
from llmscope.lenses.base import layer_axis, layer_kinds
from llmscope.lenses.contrast.captions import in_lines
from llmscope.lenses.model_diff.parts import changed_parts

if TYPE_CHECKING:
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.other_model import OtherModel

TITLES = {"heads": "Stages · change of what each head writes, on the tuned model's input"}


def heads(recording: Recording, passes: Passes, base: OtherModel, focus: Focus) -> Figure:
    """Return how much otherwise each head writes than in the base. [layer, head]

    Refused where the two models are not built alike, or no layer is split by heads.
    """
    from llmscope.record.compare.part_change import part_changes

    try:
        changes = part_changes(recording, base, passes.verdicts)
    except ScopeError as error:
        return Figure.refused("stages", TITLES["heads"], error.message)
    verdict = Verdict("verified")
    if changes.unsplit_layers:
        layer, reason = next(iter(changes.unsplit_layers.items()))
        if np.isnan(changes.heads).all():
            return Figure.refused("stages", TITLES["heads"], reason)
        verdict = Verdict("partial", f"layer {layer} is not split by heads: {reason}")
    return Figure(
        lens="stages",
        title=TITLES["heads"],
        kind="heatmap",
        axes=(
            layer_axis(recording),
            Axis("head", tuple(map(str, range(changes.heads.shape[1])))),
        ),
        values=changes.heads.astype(np.float32),
        unit="relative",
        verdict=verdict,
        extra={
            "mode": focus.mode,
            "adapter": recording.model.adapter,
            "attention": changes.attention.astype(np.float32),
            "mlp": changes.mlp.astype(np.float32),
            "embedding": changes.embedding,
            "readout": changes.readout,
            "bound": changes.bound,
            "caption": in_lines(*changed_parts(changes)),
            **layer_kinds(recording),
        },
    )
