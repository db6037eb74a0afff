"""The figure of an activation difference: what it says after each layer, at each token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from llmscope.figure import Axis, Figure
from llmscope.jobs.activation_difference.difference import ActivationDifference, DifferenceReading

NAME = "activation-difference"
LISTED = 6
"""Tokens of a reading that the caption lists."""


def difference_figure(difference: ActivationDifference) -> Figure:
    """Return the likeliest token of each reading, and its probability. [layer, position]

    Readings that may mean nothing are marked; the caption lists those of the middle layer, with
    the ratio of norms and what the control says.
    """
    title = f"Activation difference · what {difference.b} was trained on"
    if difference.verdict.status == "refused":
        refused = Figure.refused(NAME, title, difference.verdict.reason)
        return replace(refused, extra=difference.to_dict())
    shape = difference.mean.shape[:2]
    readings = difference.readings
    words = {reading.top[0][0]: at for at, reading in enumerate(readings)}
    return Figure(
        lens=NAME,
        title=title,
        kind="heatmap",
        axes=(
            Axis("layer", tuple(map(str, range(shape[0])))),
            Axis("position", tuple(f"token {at + 1}" for at in range(shape[1]))),
        ),
        values=np.array([reading.top[0][1] for reading in readings], dtype=np.float32).reshape(
            shape
        ),
        unit="probability",
        verdict=difference.verdict,
        extra={
            **difference.to_dict(),
            "ids": np.array([words[reading.top[0][0]] for reading in readings]).reshape(shape),
            "names": {at: word for word, at in words.items()},
            "cell_marks": [
                ["doubtful" if reading.doubt else "" for reading in difference.at(layer)]
                for layer in range(shape[0])
            ],
            "caption": tuple(_caption_lines(difference)),
        },
    )


def _caption_lines(difference: ActivationDifference) -> Iterator[str]:
    yield (
        f"B − A at the first {difference.tokens} tokens, mean of {difference.texts} texts; "
        f"after layer {difference.layer}:"
    )
    for reading in difference.at(difference.layer):
        yield f"token {reading.token + 1}: {_words(reading)}"
    yield from difference.notes


def _words(reading: DifferenceReading) -> str:
    says = " ".join(f"‹{word}›" for word, _ in reading.top[:LISTED])
    if reading.ratio is None:
        return says
    noise = " ".join(f"‹{word}›" for word, _ in reading.control[:LISTED])
    return f"{says}; {reading.ratio:.1f} × the norm of noise, which says {noise}"
