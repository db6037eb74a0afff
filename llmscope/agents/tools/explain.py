"""The tool `explain`: what a lens, an edit or a verdict means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import LIMIT, size
from llmscope.agents.establishes import VERDICTS
from llmscope.agents.parameters import Parameter, Tool
from llmscope.errors import ScopeError
from llmscope.lenses import lens, names, suggested
from llmscope.support.arguments import quote_value

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession
    from llmscope.lenses import Lens

TOPICS = ("lenses", "edits", "verdicts")
NEXT_PART_BYTES = 60
"""Bytes for the line that tells of the next part."""
WIDTH = 110
"""Characters of a line of help."""


def explain(session: AgentSession, arguments: Mapping[str, Any], call: AgentCall) -> str:
    """Return one part of the help of a topic; the last line tells of the next part."""
    parts = _parts(_lines(arguments["topic"]))
    number = arguments.get("part", 1)
    if number > len(parts):
        raise ScopeError(f"{arguments['topic']} has {len(parts)} parts", f"part=1 to {len(parts)}")
    more = f"(part {number} of {len(parts)}; part={number + 1} goes on)"
    return "\n".join([*parts[number - 1], *([more] if number < len(parts) else [])])


def _parts(lines: list[str]) -> list[list[str]]:
    """Return lines in parts, each of which fits in an answer with a line about the next."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if size("\n".join([*parts[-1], line])) > LIMIT - NEXT_PART_BYTES:
            parts.append([])
        parts[-1].append(line)
    return parts


def _lines(topic: str) -> list[str]:
    if topic == "lenses":
        return [
            "Lenses, each with its question; explain topic=NAME tells its modes and options.",
            *(f"{name}: {lens(name).question}" for name in names()),
        ]
    if topic == "edits":
        from llmscope.edits import EXAMPLES, GRAMMAR

        return [
            "Edits, as the tool edit takes them, made in their order.",
            f"Examples: {'; '.join(EXAMPLES)}",
            *GRAMMAR.splitlines(),
        ]
    if topic == "verdicts":
        return [
            "Verdicts: how far a number may be trusted, as measured on the open model.",
            *(f"{status}: {about}" for status, about in VERDICTS.items()),
            "The error is the largest one relative to the largest magnitude of a row; in float32 "
            "the bound is 1e-5.",
        ]
    if topic in names():
        return _of_lens(lens(topic))
    known = (*TOPICS, *names())
    raise ScopeError(
        f"no topic {quote_value(topic)}{suggested(topic, known)}", f"{', '.join(TOPICS)} or a lens"
    )


def _of_lens(chosen: Lens) -> list[str]:
    import textwrap

    lines = [f"{chosen.name}: {chosen.question}"]
    if chosen.modes:
        lines += textwrap.wrap(f"modes, the first is the default: {', '.join(chosen.modes)}", WIDTH)
    for option in chosen.options:
        if option.help:
            lines += textwrap.wrap(f"option {option.name} ({option.kind}): {option.help}", WIDTH)
    for part in chosen.explanation.split("\n\n"):
        lines += textwrap.wrap(part, WIDTH)
    return lines


EXPLAIN = Tool(
    "explain",
    "Tell what a topic means: lenses (all of them), the name of a lens (how to read it, its modes "
    "and options), edits (their grammar) or verdicts.",
    (
        Parameter("topic", "text", "lenses, edits, verdicts or the name of a lens.", required=True),
        Parameter("part", "integer", "Which part of a long help, from 1.", least=1),
    ),
    explain,
)
