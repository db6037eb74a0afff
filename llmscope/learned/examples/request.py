"""Units as the command line names them: `5/1234`, `5.mlp_out/all`, `1234`, `5.120`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from llmscope.errors import WrongValueError

_FEATURE = re.compile(
    r"(?:(?P<place>[0-9]{1,6}(?:\.[a-z_]{1,16}(?:\.[0-9]{1,6})?)?)/)?(?P<index>[0-9]{1,8}|all)",
    re.ASCII,
)
_OF_LAYER = re.compile(r"([0-9]{1,6})\.([0-9]{1,8})", re.ASCII)
FEATURE_FORMS = "LAYER/FEATURE such as 5/1234, PLACE/FEATURE such as 5.mlp_out/1234, or all"


@dataclass(frozen=True)
class FeatureRequest:
    """Features that the user names.

    Attributes:
        place: the layer, or what the dictionary reads; empty: that of the only dictionary.
        index: the feature; None: all.
    """

    place: str
    index: int | None

    @classmethod
    def parse(cls, text: str) -> FeatureRequest:
        """Return the request of a text.

        Raises:
            ValueError: it is of another form.
        """
        match = _FEATURE.fullmatch(text)
        if match is None:
            raise WrongValueError(FEATURE_FORMS)
        index = match["index"]
        return cls(match["place"] or "", None if index == "all" else int(index))

    def names(self, place: str) -> bool:
        """Return whether it may be of the dictionary that reads a place."""
        return self.place in ("", place, place.partition(".")[0])

    def __str__(self) -> str:
        index = "all" if self.index is None else str(self.index)
        return f"{self.place}/{index}" if self.place else index


def by_layer(texts: Iterable[str]) -> dict[int, tuple[int, ...]]:
    """Return the units of `LAYER.UNIT`, by layer, both ascending.

    Raises:
        ValueError: one is of another form.
    """
    units: dict[int, set[int]] = {}
    for text in texts:
        match = _OF_LAYER.fullmatch(text)
        if match is None:
            raise WrongValueError("LAYER.NUMBER, such as 5.120")
        units.setdefault(int(match[1]), set()).add(int(match[2]))
    return {layer: tuple(sorted(units_of_layer)) for layer, units_of_layer in sorted(units.items())}
