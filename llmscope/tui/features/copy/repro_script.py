"""A view as a few lines of Python that make the same figure, for a notebook or `python -c`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from llmscope.tui.features.copy.repro_command import View

WIDTH = 99
"""Columns of a line at most; a long word of code alone may need more."""
INDENT = 4


class Code(str):
    """A value that stands in the script as it is written here."""


def script(view: View) -> str:
    """The Python that makes the same figure, and binds it to `figure`."""
    source = view.source
    load = {**source.options, **({"adapters": list(view.adapters)} if view.adapters else {})}
    tokens = {} if view.special_tokens else {"special_tokens": False}
    recorded: dict[str, Any] = dict(tokens)
    if view.edits:
        recorded["edits"] = list(view.edits)
    if view.patches:
        recorded["versus_prompt"] = Code("other")
    if view.written:
        recorded["written"] = view.written
    asked = dict(view.focus)
    if view.contrasts:
        asked["versus_prompt"] = Code(f"{called('scope.prompt', [Code('other')], tokens)}.ids")
    lines = [
        "import llmscope",
        "",
        called("scope = llmscope.load", [source.spec], load),
        f"prompt = {literal(view.prompt, before=len('prompt = '))}",
    ]
    if view.other is not None:
        lines.append(f"other = {literal(view.other, before=len('other = '))}")
    lines.append(called("recording = scope.record", [Code("prompt")], recorded))
    if view.words is not None:
        for name, words in zip("ab", view.words, strict=True):
            lines.append(called(f"{name} = scope.words", [words], {}))
        asked["words"] = (Code("a.ids"), Code("b.ids"))
    asked = {"recording": Code("recording"), **asked}
    lines += [called("figure = scope.look", [view.lens], asked), "print(figure.title)"]
    return "\n".join((*lines, ""))


def called(function: str, values: list[Any], named: dict[str, Any]) -> str:
    """A call, on one line if it fits, else with a line for each argument."""
    given = [("", value) for value in values]
    given += [(f"{name}=", value) for name, value in named.items()]
    flat = f"{function}({', '.join(name + _flat(value) for name, value in given)})"
    if len(flat) <= WIDTH:
        return flat
    rows = (f"{name}{literal(value, INDENT, len(name))}" for name, value in given)
    return "\n".join((f"{function}(", *(f"{' ' * INDENT}{row}," for row in rows), ")"))


def literal(value: Any, indent: int = 0, before: int = 0) -> str:
    """A value as Python reads it, on several lines if it is long.

    Args:
        indent: of the line that it stands on.
        before: how many columns of that line are taken already.
    """
    flat = _flat(value)
    if indent + before + len(flat) < WIDTH or isinstance(value, Code):
        return flat
    inner, opening, closing = indent + INDENT, "(", ")"
    if isinstance(value, str):
        rows = [_quoted(piece) for piece in _pieces(value, WIDTH - inner)]
    elif isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        rows = textwrap.wrap(f"{', '.join(map(repr, value))},", WIDTH - inner)
    elif isinstance(value, tuple | list):
        opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        rows = [f"{literal(item, inner)}," for item in value]
    else:
        return flat
    return "\n".join((opening, *(" " * inner + row for row in rows), " " * indent + closing))


def _flat(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_flat, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def _quoted(text: str) -> str:
    """A text as Python reads it: in double quotes, but where it holds some itself.

    What does not print, and half of a surrogate pair, is escaped.
    """
    written = repr(text)
    return written if '"' in written else f'"{written[1:-1]}"'


def _pieces(text: str, room: int) -> Iterator[str]:
    """Parts of a text that take so many columns at most, cut at line ends and between words."""
    start, size, blank = 0, len("''"), 0
    for place, character in enumerate(text):
        size += _columns(character)
        while size > room and start < place:  # a wide character may take more than a word gave back
            end = blank if blank > start else place
            yield text[start:end]
            start = end
            size = len("''") + sum(map(_columns, text[start : place + 1]))
        if character == "\n":
            yield text[start : place + 1]
            start, size = place + 1, len("''")
        if character == " ":
            blank = place + 1
    if start < len(text):
        yield text[start:]


def _columns(character: str) -> int:
    """What a character takes in quotes; an apostrophe is escaped where both kinds stand."""
    return 2 if character == "'" else len(repr(character)) - len("''")
