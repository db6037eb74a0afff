"""The report of an activation difference, from its record in a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmscope.cli.output.table import table
from llmscope.support.text import display_text

WORDS = 6
"""Tokens of a reading that are listed; the summary has more."""


def difference_report(record: Mapping[str, Any]) -> str:
    """Return what an activation difference says after its middle layer, as text for a terminal."""
    verdict, layer = record["verdict"], record["layer"]
    lines = [
        f"activation difference, B − A at the first {record['tokens']} tokens of {record['texts']} "
        f"texts, after layer {layer}: {verdict['status']}"
    ]
    lines += [verdict["reason"]] if verdict["reason"] else []
    lines += [note for note in record["notes"] if note != verdict["reason"]]
    text = "".join(f"{display_text(line)}\n" for line in lines)
    if verdict["status"] == "refused":
        return text
    rows = [("token", "B says", "÷ noise", "noise says", "")]
    rows += [
        (
            str(reading["token"] + 1),
            _words(reading["top"]),
            "–" if reading["ratio"] is None else f"{reading['ratio']:.2f}",
            _words(reading["control"]) or "–",
            "! doubtful" if reading["doubt"] else "",
        )
        for reading in record["readings"]
        if reading["layer"] == layer
    ]
    text += table(rows, frozenset({0, 2}))
    if record["steered"]:
        text += table(
            [
                ("A goes on", "", "with the difference", "with noise of that norm"),
                *(
                    (
                        text["prompt"],
                        *map(_quote_text, (text["plain"], text["steered"], text["noise"])),
                    )
                    for text in record["steered"]
                ),
            ]
        )
    return text


def _words(top: Sequence[Sequence[Any]]) -> str:
    return " ".join(f"‹{word}›" for word, _ in top[:WORDS])


def _quote_text(text: str | None) -> str:
    return "–" if text is None else f"‹{text}›"
