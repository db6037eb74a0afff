"""The report of an activation difference, from its record in a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmscope.cli.output.table import table
from llmscope.support.text import display_text

WORDS = 6
"""Tokens of a reading that are listed; the summary has more."""


def difference_report(found: Mapping[str, Any]) -> str:
    """Return what an activation difference says after its middle layer, as text for a terminal."""
    verdict, layer = found["verdict"], found["layer"]
    lines = [
        f"activation difference, B − A at the first {found['tokens']} tokens of {found['texts']} "
        f"texts, after layer {layer}: {verdict['status']}"
    ]
    lines += [verdict["reason"]] if verdict["reason"] else []
    lines += [note for note in found["notes"] if note != verdict["reason"]]
    text = "".join(f"{display_text(line)}\n" for line in lines)
    if verdict["status"] == "refused":
        return text
    rows = [("token", "B says", "÷ noise", "noise says", "")]
    rows += [
        (
            str(one["token"] + 1),
            _words(one["top"]),
            "–" if one["ratio"] is None else f"{one['ratio']:.2f}",
            _words(one["control"]) or "–",
            "! doubtful" if one["doubt"] else "",
        )
        for one in found["readings"]
        if one["layer"] == layer
    ]
    text += table(rows, frozenset({0, 2}))
    if found["steered"]:
        text += table(
            [
                ("A goes on", "", "with the difference", "with noise of that norm"),
                *(
                    (one["prompt"], *map(_shown, (one["plain"], one["steered"], one["noise"])))
                    for one in found["steered"]
                ),
            ]
        )
    return text


def _words(top: Sequence[Sequence[Any]]) -> str:
    return " ".join(f"‹{word}›" for word, _ in top[:WORDS])


def _shown(text: str | None) -> str:
    return "–" if text is None else f"‹{text}›"
