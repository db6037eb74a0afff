"""Mode `directions` of the lens `stages`: the largest singular directions of ΔW."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.contrast.captions import in_lines
from llmscope.lenses.stages.weights import short

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.delta_svd import Direction

TITLES = {"directions": "Stages · largest directions of ΔW"}
SAID = {"writes": "promotes", "reads": "answers to", "": ""}
LISTED = 6


def directions(recording: Recording, focus: Focus) -> Iterator[Figure]:
    """Yield σ of the largest directions of the layer's matrices, matrix by matrix. [direction]"""
    from llmscope.record.compare.delta_svd import directions as found_in

    title = f"{TITLES[focus.mode]} in layer {focus.layer}"
    for known in found_in(recording.model, focus.layer):
        if known:
            yield _figure(recording, focus, known, title)
    if not known:
        reason = f"no matrix of layer {focus.layer} differs from the base: turn to another layer"
        yield Figure.refused("stages", title, reason)


def _figure(recording: Recording, focus: Focus, known: Sequence[Direction], title: str) -> Figure:
    names = short([direction.name for direction in known])
    label = recording.model.label
    ids = tuple(direction.ids[: focus.top_k] for direction in known)
    tokens = tuple(tuple(map(label, token_ids)) for token_ids in ids)
    words = in_lines(
        *(
            " ".join((SAID[direction.side], *(f"‹{text}›" for text in texts[:LISTED])))
            for direction, texts in zip(known, tokens, strict=True)
        )
    )
    labels = tuple(
        f"{name} {direction.index + 1}" for name, direction in zip(names, known, strict=True)
    )
    return Figure(
        lens="stages",
        title=title,
        kind="bars",
        axes=(Axis("direction", labels),),
        values=np.array([direction.strength for direction in known], dtype=np.float32),
        unit="norm",
        extra={
            "mode": focus.mode,
            "adapter": recording.model.adapter,
            "layer": focus.layer,
            "modules": tuple(direction.name for direction in known),
            "share": np.array([direction.share for direction in known], dtype=np.float32),
            "sides": tuple(direction.side for direction in known),
            "tokens": tokens,
            "token_ids": ids,
            "token_scores": tuple(direction.scores[: focus.top_k] for direction in known),
            "beside": words,
            "caption": tuple(_caption_lines(known, labels)),
        },
    )


def _caption_lines(known: Sequence[Direction], labels: Sequence[str]) -> Iterator[str]:
    """Yield caption lines: the strongest direction, its share of its matrix, and a legend."""
    at = max(range(len(known)), key=lambda index: known[index].strength)
    share = known[at].share
    yield f"strongest: {labels[at]}, {100 * share:.0f} % of ‖ΔW‖² of its matrix"
    sides = {direction.side for direction in known}
    if "writes" in sides:
        yield "promotes: the tokens whose logits u raises most, through the final norm"
    if "reads" in sides:
        yield "answers to: the tokens whose embedding v reads most, through the norm before it"
