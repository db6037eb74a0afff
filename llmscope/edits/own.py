"""Edits of one's own: a tensor or a function at a place that the grammar of edits names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llmscope.edits.edit import Edit, Own
from llmscope.edits.parse import parse
from llmscope.errors import ScopeError, WrongUseError
from llmscope.support.text import display_text, one_line

PLACES = "head 5.3, neuron 2.77, attention 4, mlp 3 or stream 12, and @tokens if not all"


def own_edit(place: str, value: Any) -> Edit:
    """Return the edit that puts a tensor, or the result of a function, at a place.

    Args:
        place: such as `mlp 3`, `head 5.3 @-1`, `stream 12 @4..`: as in `patch … from B`.
        value: a tensor or array; or a function of the tensor there.

    Raises:
        ScopeError: the text names no place.
    """
    try:
        edit = parse(f"patch {place} from B")
    except ScopeError:
        raise WrongUseError(f"{one_line(repr(place))} is no place of a pass", PLACES) from None
    if edit.part == "layer":
        raise WrongUseError("a layer has several writes", "attention, mlp or stream")
    if edit.into is not None:
        raise WrongUseError(
            "a tensor of your own is read by all later parts", "a place without into"
        )
    kind = getattr(value, "__name__", type(value).__name__)
    return replace(edit, action="own", own=Own(value, display_text(str(kind))))
