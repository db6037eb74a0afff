"""Units of a model: a feature of a dictionary, a neuron or a head, and their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

UnitKind = Literal["feature", "neuron", "head"]
KINDS: tuple[UnitKind, ...] = ("feature", "neuron", "head")
LARGEST = 1 << 24
"""The most units that a place may have."""

PLACES_OF: dict[UnitKind, re.Pattern[str]] = {
    "feature": re.compile(r"[0-9]{1,6}\.[a-z_]{1,16}(\.[0-9]{1,6})?", re.ASCII),
    "neuron": re.compile(r"[0-9]{1,6}\.neurons", re.ASCII),
    "head": re.compile(r"[0-9]{1,6}\.heads", re.ASCII),
}
"""The form of a place, by the kind of its units."""


@dataclass(frozen=True, order=True)
class Unit:
    """A feature, neuron or head.

    Attributes:
        kind: which of them.
        place: for a feature what its dictionary reads, such as `5.resid_post`; else `5.neurons` or
            `5.heads`.
        index: its index there.
    """

    kind: UnitKind
    place: str
    index: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not PLACES_OF[self.kind].fullmatch(self.place):
            raise ValueError(f"{self.place!r} is no place of a {self.kind}")
        if not 0 <= self.index < LARGEST:
            raise ValueError(f"there is no {self.kind} {self.index}")

    def __str__(self) -> str:
        if self.kind == "feature":
            return f"{self.place}/{self.index}"
        return f"{self.layer}.{self.index}"

    @property
    def layer(self) -> int:
        """The layer, from 0."""
        return int(self.place.partition(".")[0])

    @property
    def title(self) -> str:
        """Name it for a title: `Feature 1234 of 5.resid_post`, `Neuron 5.120`."""
        if self.kind == "feature":
            return f"Feature {self.index} of {self.place}"
        return f"{self.kind.capitalize()} {self.layer}.{self.index}"


def feature(place: object, index: int) -> Unit:
    """Return a feature of the dictionary that reads a place, such as `5.resid_post`."""
    return Unit("feature", str(place), index)


def neuron(layer: int, index: int) -> Unit:
    """Return a neuron of a layer's MLP."""
    return Unit("neuron", f"{layer}.neurons", index)


def head(layer: int, index: int) -> Unit:
    """Return a head of a layer's attention."""
    return Unit("head", f"{layer}.heads", index)
