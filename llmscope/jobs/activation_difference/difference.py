"""The result of an activation difference: mean vectors, what they say, and whether it counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from llmscope.figure import Figure, Verdict

if TYPE_CHECKING:
    from llmscope.jobs.activation_difference.first_tokens import FirstTokens
    from llmscope.jobs.activation_difference.steering import Steered


@dataclass(frozen=True)
class DifferenceReading:
    """What the difference after one layer at one token says.

    Attributes:
        layer, token: the layer, and the number of the token among those that count, both from 0.
        top: the likeliest tokens of the reading, and their probabilities.
        norm: of the mean difference.
        ratio: the norm over that of the controls, their mean; None without a control.
        split_half, chance: the cosine of the means over two halves of the texts, and what it
            reaches by chance.
        margin: how far the difference is from the controls, over the limit; None without a control.
        control: what the first control says.
    """

    layer: int
    token: int
    top: tuple[tuple[str, float], ...]
    norm: float
    ratio: float | None
    split_half: float
    chance: float
    margin: float | None
    control: tuple[tuple[str, float], ...]

    @property
    def doubt(self) -> str:
        """Why the reading may mean nothing; empty if both checks hold."""
        return doubt(self.split_half, self.chance, self.margin)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        return {**vars(self), "doubt": self.doubt}


def doubt(cosine: float, by_chance: float, distance: float | None) -> str:
    """Return why a difference may mean nothing; empty if both checks hold."""
    if not cosine > by_chance:
        return f"not the same in all texts: split-half cosine {cosine:.2f}, chance {by_chance:.2f}"
    if distance is not None and not distance > 1:
        return f"not told from noise, by length or direction: {distance:.2f} of the limit"
    return ""


@dataclass(frozen=True, eq=False)
class ActivationDifference:
    """The mean difference of two models' streams at the first tokens of texts, and its control.

    Attributes:
        a, b: the names of the models.
        layer: the layer that is looked at first: the middle one.
        texts: the number of texts.
        mean: the mean over texts of B − A. [layer, token, width]
        controls: the same of A with noise, for each control; None if it cannot be made.
            [control, layer, token, width]
        readings: of all layers and tokens, in order.
        beginnings: the texts up to the last token that counts.
        verdict: on the middle layer, over all tokens.
        steered: continuations of some of the beginnings by A, with the difference and without.
        notes: for the user, one line each.
    """

    a: str
    b: str
    layer: int
    texts: int
    mean: Tensor
    controls: Tensor | None
    readings: tuple[DifferenceReading, ...]
    beginnings: tuple[FirstTokens, ...]
    verdict: Verdict
    steered: tuple[Steered, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """The number of tokens that count in each text."""
        return self.mean.shape[1]

    def at(self, layer: int) -> tuple[DifferenceReading, ...]:
        """Return the readings after one layer. [token]"""
        return tuple(reading for reading in self.readings if reading.layer == layer)

    def direction(self, layer: int, token: int | None = None) -> Tensor:
        """Return the mean difference after a layer. [width]

        Args:
            layer: the layer, from 0.
            token: the number of the token, from 0; None: the mean over all of them.
        """
        means = self.mean[layer]
        return means.mean(0) if token is None else means[token]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the vectors as JSON types."""
        return {
            "a": self.a,
            "b": self.b,
            "layer": self.layer,
            "tokens": self.tokens,
            "texts": self.texts,
            "controls": 0 if self.controls is None else len(self.controls),
            "verdict": {"status": self.verdict.status, "reason": self.verdict.reason},
            "steered": [steered.to_dict() for steered in self.steered],
            "notes": list(self.notes),
            "readings": [reading.to_dict() for reading in self.readings],
        }

    def figure(self) -> Figure:
        """Return the likeliest token of each reading, and its probability. [layer, position]"""
        # The figure is made of this very class.
        from llmscope.jobs.activation_difference.figure import difference_figure

        return difference_figure(self)

    def save(self, path: str | Path) -> Path:
        """Write the vectors to a safetensors file, as edits that steer read it.

        `steer 15 FILE:15 2` adds twice the difference after layer 15 to the stream there, the mean
        over the tokens; `15.0` is the one at the first token.

        Raises:
            ScopeError: the file cannot be written.
        """
        # The file is made of this very class.
        from llmscope.jobs.activation_difference.vectors_file import write_difference

        write_difference(self, Path(path))
        return Path(path)
