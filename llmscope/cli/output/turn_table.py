"""The turns of a transcript as a table, or as JSON."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmscope.corpus.records.transcripts import Transcript, Turn
    from llmscope.models.tokenizer.conversation import Rendered, TurnSpan
    from llmscope.models.tokenizer.tokens import Encoded

WORDS = 60
"""Characters of a turn that its row shows."""


@dataclass(frozen=True)
class TurnRow:
    """A turn and its tokens.

    Attributes:
        turn: its number, from 1.
        role: who speaks.
        parts: its spans in the text.
        tokens: the number of tokens that begin in them.
        first: the position of the first of them; None without any.
        words: how it begins.
    """

    turn: int
    role: str
    parts: tuple[TurnSpan, ...]
    tokens: int
    first: int | None
    words: str


def turn_rows(transcript: Transcript, rendered: Rendered, encoded: Encoded) -> list[TurnRow]:
    """Return a row for each turn."""
    starts = [start for start, _ in encoded.spans]
    parts: dict[int, list[TurnSpan]] = {}
    for span in rendered.spans:
        parts.setdefault(span.turn, []).append(span)
    rows = []
    for number, turn in enumerate(transcript.turns, 1):
        parts_of_turn = tuple(parts.get(number, ()))
        inside = [
            (bisect_left(starts, part.start), bisect_left(starts, part.end))
            for part in parts_of_turn
        ]
        count = sum(end - begin for begin, end in inside)
        first = next((begin for begin, end in inside if end > begin), None)
        rows.append(TurnRow(number, turn.role, parts_of_turn, count, first, _words(turn)))
    return rows


def turn_table(rows: Sequence[TurnRow], encoded: Encoded) -> str:
    """Return the rows as a table for the terminal, with the tokens of the template below."""
    from llmscope.cli.output.table import table

    listed = [("turn", "role", "tokens", "from", "")]
    for row in rows:
        first = "" if row.first is None else f"@{row.first}"
        words = row.words if len(row.words) <= WORDS else f"{row.words[: WORDS - 1]}…"
        listed.append((str(row.turn), row.role, str(row.tokens), first, words))
    inside = sum(row.tokens for row in rows)
    total = f"{len(encoded)} in all, {len(encoded) - inside} of them the template's"
    listed.append(("", "", str(inside), "", total))
    return table(listed, right=frozenset({0, 2, 3}))


def turn_record(
    transcript: Transcript, rendered: Rendered, rows: Sequence[TurnRow], encoded: Encoded
) -> dict[str, Any]:
    """Return the turns as JSON: each with its parts in the text, and its tokens."""
    from llmscope.version import __version__

    return {
        "schema": 1,
        "llmscope": __version__,
        "line": transcript.line,
        "tokens": len(encoded),
        "generation_prompt": transcript.asked and not transcript.plain,
        "turns": [
            {
                "turn": row.turn,
                "role": row.role,
                "tokens": row.tokens,
                "position": row.first,
                "parts": [
                    {"role": part.role, "start": part.start, "end": part.end} for part in row.parts
                ],
            }
            for row in rows
        ],
        "text": rendered.text,
        "notes": list(rendered.notes),
    }


def _words(turn: Turn) -> str:
    """Return how a turn begins, on one line."""
    text = turn.content or turn.reasoning
    if not text.strip() and turn.calls:
        text = ", ".join(f"calls {call.name}" for call in turn.calls)
    return " ".join(text[: 8 * WORDS].split())
