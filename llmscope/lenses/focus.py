"""A `Focus` made from named options, checked, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmscope.figure import Focus, plain
from llmscope.lenses.base import options, suggested
from llmscope.lenses.options import FIELDS


def focus_from(given: Mapping[str, Any]) -> Focus:
    """Return the focus with these options; all others have their defaults.

    Raises:
        TypeError: no lens has an option of that name.
    """
    known = options()
    for name in given:
        if name not in known and name not in FIELDS:
            raise TypeError(f"no lens has an option {name!r}{suggested(name, (*known, *FIELDS))}")
    focus = Focus(**{name: value for name, value in given.items() if name not in known})
    for name, value in given.items():
        if name in known:
            focus = known[name].set(focus, value)
    return focus


def columns_of(focus: Focus, length: int) -> range:
    """Return the positions to compute; negative ends of the span count from the end."""
    if focus.span is None:
        return range(length)
    start, stop = focus.span
    start, stop = (start + length if start < 0 else start), (stop + length if stop <= 0 else stop)
    start = max(0, min(start, focus.position))
    return range(start, max(min(stop, length), focus.position + 1))


def checked_focus(focus: Focus, vocabulary: int) -> Focus:
    """Return a focus whose values have their plain types and are in range.

    Whether a layer, head or position exists depends on the model: see `Focus.resolve`.

    Args:
        focus: the focus to check.
        vocabulary: number of tokens in the model's vocabulary.

    Raises:
        TypeError, ValueError: a value is of another type, or out of range.
    """
    known = options()
    plain_values = {}
    for name in FIELDS:
        value = getattr(focus, name)
        checked = known[name].checked(value, vocabulary)
        if checked is not value:
            plain_values[name] = checked
    if plain_values:
        focus = replace(focus, **plain_values)
    for name, value in focus.options:
        focus = known[name].set(focus, known[name].checked(value, vocabulary))
    return focus


def focus_dict(focus: Focus) -> dict[str, Any]:
    """Return the options of a focus as JSON types: all that several lenses have, and those set."""
    known = options()
    names = [name for name in known if name in FIELDS]
    return plain({name: getattr(focus, name) for name in names} | dict(focus.options))  # type: ignore[no-any-return]
