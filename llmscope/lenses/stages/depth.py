"""Mode `lens` of the lens `stages`: the change of the logit lens after each layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import layer_axis, layer_kinds
from llmscope.lenses.contrast.captions import in_lines
from llmscope.lenses.logit_lens import growing, token_names
from llmscope.support.numbers import share

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.depths import Depths

TITLES = {"lens": "Stages · KL of the logit lens after each layer, tuned ‖ base"}


def lens(recording: Recording, base: Recording, focus: Focus) -> Iterator[Figure]:
    """Yield figures with ever more columns, that of the focus first. [layer + 1, position]"""
    from llmscope.record.compare.depths import depths, read_depths
    from llmscope.record.compare.pair import Pair

    pair = Pair(recording, base, key=base.model)
    for columns in growing(focus, len(recording)):
        read_depths(pair, columns)
        yield _figure(recording, focus, depths(pair))


def _figure(recording: Recording, focus: Focus, depths: Depths) -> Figure:
    ids, names = token_names(recording, depths.token)
    return Figure(
        lens="stages",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(
            layer_axis(recording, embedding=True),
            Axis("position", recording.prompt.labels),
        ),
        values=depths.kl,
        unit="nats",
        extra={
            "mode": focus.mode,
            "adapter": recording.model.adapter,
            "ids": ids,
            "names": names,
            "tuned": depths.a,
            "base": depths.b,
            "caption": in_lines(*_caption_lines(recording, focus, depths, ids, names)),
            **layer_kinds(recording),
        },
    )


def _caption_lines(
    recording: Recording,
    focus: Focus,
    depths: Depths,
    ids: NDArray[np.int64],
    names: dict[int, str],
) -> Iterator[str]:
    row, column = focus.layer + 1, focus.position
    word = recording.prompt.labels[column]
    if ids[row, column] >= 0:
        yield (
            f"after layer {focus.layer} at ‹{word}› {depths.kl[row, column]:.3g} nats; most "
            f"‹{names[int(ids[row, column])]}›, {share(float(depths.a[row, column]))} tuned, "
            f"{share(float(depths.b[row, column]))} base"
        )
