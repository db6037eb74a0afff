"""The file of texts that a direction is fitted on: contrast pairs, or texts with a label.

    {"positive": "I love it", "negative": "I hate it", "group": "love"}
    {"text": "I love it", "label": true, "group": "love"}

CSV, TSV and Parquet have these names as columns. `group` is optional: without one, each line is a
group of its own. So is `split`, `train` or `test`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmscope.corpus.records.prompts import PromptSource
from llmscope.errors import ScopeError
from llmscope.support.text import one_line

FORM = (
    'lines of .jsonl as {"positive": "…", "negative": "…"} or {"text": "…", "label": true}, with '
    '"group" if known; or .csv, .tsv or .parquet with columns of these names'
)
PARTS = ("train", "test")
_LABELS = {
    **dict.fromkeys(("true", "1", "pos", "positive", "yes"), True),
    **dict.fromkeys(("false", "0", "-1", "neg", "negative", "no"), False),
}


@dataclass(frozen=True)
class LabelledText:
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


def read_examples(source: PromptSource) -> list[LabelledText]:
    """Return the texts of a file, in its order.

    Args:
        source: the file.

    Raises:
        ScopeError: the file or a line cannot be read, only some lines have a `split`, or all texts
            have the same label.
    """
    examples: list[LabelledText] = []
    for line in source.checked(FORM):
        try:
            examples += _examples(line.inputs, line.number)
        except ValueError as error:
            raise ScopeError(f"{source.place(line.number)}: {error}", FORM) from None
    told_parts = [example for example in examples if example.part]
    if told_parts and len(told_parts) < len(examples):
        at = next(example.line for example in examples if not example.part)
        raise ScopeError(f"{source.place(at)}: it has no split, as others have", "one for each")
    if len({example.positive for example in examples}) < 2:
        raise ScopeError(f"{source.shown} has no texts of two labels", FORM)
    return examples


def _examples(record: Mapping[str, Any], line: int) -> Iterator[LabelledText]:
    part = str(record.get("split") or "").casefold()
    if part not in ("", *PARTS):
        raise ValueError(f"its split is {one_line(part)}, not train or test")
    group = f"line {line}" if record.get("group") in (None, "") else str(record["group"])
    if {"positive", "negative"} <= record.keys():
        for name in ("positive", "negative"):
            yield LabelledText(_text(record, name), name == "positive", group, line, part)
    elif {"text", "label"} <= record.keys():
        yield LabelledText(_text(record, "text"), _label(record["label"]), group, line, part)
    else:
        raise ValueError("it has neither positive and negative, nor text and label")


def _text(record: Mapping[str, Any], name: str) -> str:
    text = record[name]
    if not isinstance(text, str) or not text:
        raise ValueError(f"its {name} is no text")
    return text


def _label(value: Any) -> bool:
    label = _LABELS.get(str(value).strip().casefold())
    if label is None or isinstance(value, float | list | dict):
        raise ValueError(f"its label is {one_line(str(value))}, not true or false")
    return label
