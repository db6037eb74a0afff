"""A `Focus` made from named options, checked, and as JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmscope.errors import WrongTypeError
from llmscope.figure import Focus, plain
from llmscope.lenses.base import options, suggested
from llmscope.lenses.indices import resolve_indices
from llmscope.lenses.options import FIELDS, HEADS, LAYERS


def focus_from(named_values: Mapping[str, Any]) -> Focus:
    """Return the focus with these options; all others have their defaults.

    Raises:
        TypeError: no lens has an option of that name.
    """
    known = options()
    for name in named_values:
        if name not in known and name not in FIELDS:
            raise WrongTypeError(
                f"no lens has an option {name!r}{suggested(name, (*known, *FIELDS))}"
            )
    focus = Focus(**{name: value for name, value in named_values.items() if name not in known})
    for name, value in named_values.items():
        if name in known:
            focus = known[name].set(focus, value)
    return focus


def span_rows(focus: Focus, length: int) -> range:
    """Return the tokens of a focus: those of its span, or all of `length`.

    Negative ends of the span count from the end, and an end of 0 is the end. A span behind the
    prompt, as on a screen whose prompt has become shorter, stands for the token of the focus.
    """
    if focus.span is None:
        return range(length)
    start, stop = focus.span
    start, stop = (start + length if start < 0 else start), (stop + length if stop <= 0 else stop)
    rows = range(max(0, start), min(stop, length))
    return rows if rows else range(focus.position, focus.position + 1)


def sweep_layers(focus: Focus, count: int) -> Collection[int]:
    """Return the layers that a sweep runs over: those of the option `layers`, or all of `count`.

    Raises:
        ValueError: one of them does not exist.
    """
    return resolve_indices("layers", LAYERS.of(focus), count)


def sweep_heads(focus: Focus, count: int) -> Collection[int]:
    """Return the heads of a layer that a sweep runs over: those of `heads`, or all of `count`.

    Raises:
        ValueError: one of them does not exist.
    """
    return resolve_indices("heads", HEADS.of(focus), count)


def sweep_part(focus: Focus, labels: Sequence[str]) -> str:
    """Name the part of a sweep that a focus asks for, for the caption; empty for all of it.

    Args:
        focus: the focus.
        labels: the labels of the prompt's tokens.
    """
    named = [
        f"{option.name} {option.text(option.of(focus))}"
        for option in (LAYERS, HEADS)
        if option.of(focus) is not None
    ]
    if focus.span is not None:
        rows = span_rows(focus, len(labels))
        first, last = (f"{row} ‹{labels[row]}›" for row in (rows[0], rows[-1]))
        named.append(f"token {first}" if len(rows) == 1 else f"tokens {first} to {last}")
    return f"only {', '.join(named)}" if named else ""


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
