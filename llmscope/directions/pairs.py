"""The file of texts that a direction is fitted on: contrast pairs, or texts with a label.

    {"positive": "I love it", "negative": "I hate it", "group": "love"}
    {"text": "I love it", "label": true, "group": "love"}

`group` is optional: without one, each line is a group of its own. So is `split`, `train` or `test`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError
from llmscope.text import display_text, one_line, told

FORM = '{"positive": "…", "negative": "…"} or {"text": "…", "label": true}, with "group" if known'
PARTS = ("train", "test")
_LABELS = {
    **dict.fromkeys(("true", "1", "pos", "positive", "yes"), True),
    **dict.fromkeys(("false", "0", "-1", "neg", "negative", "no"), False),
}


@dataclass(frozen=True)
class Example:
    """A text with its label.

    Attributes:
        group: what must not be in the training and the test set both.
        line: of the file, from 1; both texts of a pair have the same.
        part: `train` or `test` if the file tells; else empty.
    """

    text: str
    positive: bool
    group: str
    line: int
    part: str = ""


def read_examples(path: Path) -> list[Example]:
    """Return the texts of a file, in its order.

    Raises:
        ScopeError: the file or a line cannot be read, only some lines have a `split`, or all texts
            have the same label.
    """
    shown = display_text(str(path))
    if not isfile(path):  # Path.is_file raises for a name that is too long
        raise ScopeError(f"there is no file {shown}", f"a .jsonl file of lines such as {FORM}")
    found: list[Example] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    found += _examples(line, number)
    except _BadLineError as error:
        raise ScopeError(f"{shown}, line {error.line}: {error}", FORM) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScopeError(f"{shown} cannot be read: {told(error)}", "a .jsonl file") from None
    told_parts = [one for one in found if one.part]
    if told_parts and len(told_parts) < len(found):
        at = next(one.line for one in found if not one.part)
        raise ScopeError(f"{shown}, line {at}: it has no split, as others have", "one for each")
    if len({one.positive for one in found}) < 2:
        raise ScopeError(f"{shown} has no texts of two labels", FORM)
    return found


class _BadLineError(ValueError):
    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def _examples(text: str, line: int) -> Iterator[Example]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise _BadLineError(line, "it is no JSON") from None
    if not isinstance(record, dict):
        raise _BadLineError(line, "it is no JSON object")
    part = str(record.get("split") or "").casefold()
    if part not in ("", *PARTS):
        raise _BadLineError(line, f"its split is {one_line(part)}, not train or test")
    group = f"line {line}" if record.get("group") is None else str(record["group"])
    if {"positive", "negative"} <= record.keys():
        for name in ("positive", "negative"):
            yield Example(_text(record, name, line), name == "positive", group, line, part)
    elif {"text", "label"} <= record.keys():
        yield Example(_text(record, "text", line), _label(record["label"], line), group, line, part)
    else:
        raise _BadLineError(line, "it has neither positive and negative, nor text and label")


def _text(record: dict[str, Any], name: str, line: int) -> str:
    text = record[name]
    if not isinstance(text, str) or not text:
        raise _BadLineError(line, f"its {name} is no text")
    return text


def _label(value: Any, line: int) -> bool:
    label = _LABELS.get(str(value).strip().casefold())
    if label is None or isinstance(value, float | list | dict):
        raise _BadLineError(line, f"its label is {one_line(str(value))}, not true or false")
    return label
