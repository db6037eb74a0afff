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
    for found in found_in(recording.subject, focus.layer):
        if found:
            yield _figure(recording, focus, found, title)
    if not found:
        reason = f"no matrix of layer {focus.layer} differs from the base: turn to another layer"
        yield Figure.refused("stages", title, reason)


def _figure(recording: Recording, focus: Focus, found: Sequence[Direction], title: str) -> Figure:
    names = short([one.name for one in found])
    label = recording.subject.label
    ids = tuple(one.ids[: focus.top_k] for one in found)
    tokens = tuple(tuple(map(label, some)) for some in ids)
    words = in_lines(
        *(
            " ".join((SAID[one.side], *(f"‹{text}›" for text in some[:LISTED])))
            for one, some in zip(found, tokens, strict=True)
        )
    )
    labels = tuple(f"{name} {one.index + 1}" for name, one in zip(names, found, strict=True))
    return Figure(
        lens="stages",
        title=title,
        kind="bars",
        axes=(Axis("direction", labels),),
        values=np.array([one.strength for one in found], dtype=np.float32),
        unit="norm",
        extra={
            "mode": focus.mode,
            "adapter": recording.subject.adapter,
            "layer": focus.layer,
            "modules": tuple(one.name for one in found),
            "share": np.array([one.share for one in found], dtype=np.float32),
            "sides": tuple(one.side for one in found),
            "tokens": tokens,
            "token_ids": ids,
            "token_scores": tuple(one.scores[: focus.top_k] for one in found),
            "beside": words,
            "caption": tuple(_said(found, labels)),
        },
    )


def _said(found: Sequence[Direction], labels: Sequence[str]) -> Iterator[str]:
    """Yield caption lines: the strongest direction, its share of its matrix, and a legend."""
    at = max(range(len(found)), key=lambda index: found[index].strength)
    share = found[at].share
    yield f"strongest: {labels[at]}, {100 * share:.0f} % of ‖ΔW‖² of its matrix"
    sides = {one.side for one in found}
    if "writes" in sides:
        yield "promotes: the tokens whose logits u raises most, through the final norm"
    if "reads" in sides:
        yield "answers to: the tokens whose embedding v reads most, through the norm before it"
