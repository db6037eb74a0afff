"""A `View` as a short Python script that reproduces the figure, for a notebook or `python -c`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmscope.tui.features.copy.repro_command import View

if TYPE_CHECKING:
    from llmscope.tui.state.view_state import ViewState

WIDTH = 99
"""Maximum line width in columns; only a single long word of code may exceed it."""
INDENT = 4


class Code(str):
    """A string that is written into the script as code, not as a literal."""


@dataclass(frozen=True)
class Surroundings:
    """What is set on the screen and does not change the figure.

    Attributes:
        adapters: the specs of all adapters that are loaded; empty if only those of the figure are.
        adapter: the name of the adapter in use, of those; None: the base model.
        other: prompt B; None without one, or if the figure reads it.
        switched_off: the edits that are listed and off.
        cursor: layer, head and position of the cursor, by name.
    """

    adapters: tuple[str, ...] = ()
    adapter: str | None = None
    other: str | None = None
    switched_off: tuple[str, ...] = ()
    cursor: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, view: View, state: ViewState) -> Surroundings:
        """Return what a view state has besides the inputs of a figure."""
        place, info, loaded = state.focus, state.info, view.source.adapters
        names = ("layer", "head", "position") if info and info.heads else ("layer", "position")
        return cls(
            adapters=loaded if set(view.adapters) < set(loaded) else (),
            adapter=state.adapter,
            other=state.versus_prompt if view.other is None else None,
            switched_off=tuple(
                str(listed.edit) for listed in state.edits if str(listed.edit) not in view.edits
            ),
            cursor={name: getattr(place, name) for name in names},
        )


def script(view: View, around: Surroundings | None = None) -> str:
    """Return the script that reproduces the figure and binds it to `figure`.

    A model that is in a program's memory is `model` in it, with its `tokenizer`.

    Args:
        view: the inputs of the figure.
        around: what else is set on the screen, to be set in the script too; None: nothing.
    """
    source, around = view.source, around or Surroundings()
    adapters = around.adapters or view.adapters
    load = {**source.options, **({"adapters": list(adapters)} if adapters else {})}
    tokens = {} if view.special_tokens else {"special_tokens": False}
    recorded: dict[str, Any] = dict(tokens)
    if view.edits:
        recorded["edits"] = list(view.edits)
    if view.patches:
        recorded["versus_prompt"] = Code("other")
    if view.written:
        recorded["written"] = view.written
    keywords = dict(view.focus)
    if view.contrasts:
        keywords["versus_prompt"] = Code(f"{called('scope.prompt', [Code('other')], tokens)}.ids")
    lines = [
        "import llmscope",
        "",
        (
            called("scope = llmscope.load", [source.spec], load)
            if source.named
            else called("scope = llmscope.wrap", [Code("model"), Code("tokenizer")], {})
        ),
        *([called("scope.use", [around.adapter], {})] if around.adapters else []),
        f"prompt = {literal(view.prompt, before=len('prompt = '))}",
    ]
    second = source.versus
    if second is not None and second.of_streams:
        layers = [
            int(number) for number in str(second.options.get("layer_ids", "")).split(",") if number
        ]
        read = called("read_hidden_states", [Code(f"Path({second.spec!r})"), layers or None], {})
        lines += [
            "from pathlib import Path",
            "from llmscope.models.hidden_states import read_hidden_states",
            f"scope.compare({read})",
        ]
    elif second is not None:
        options = {
            **second.options,
            **({"adapters": list(second.adapters)} if second.adapters else {}),
        }
        loaded = called("model_b = llmscope.load", [second.spec], options)
        lines += [loaded, "scope.compare(model_b)"]
    if view.translator is not None:
        lines.append(f"scope.translator = {literal(view.translator)}")
    if view.features:
        lines.append(f"scope.features = {literal(view.features, before=len('scope.features = '))}")
    if view.other is not None:
        lines.append(f"other = {literal(view.other, before=len('other = '))}")
    if around.switched_off:
        lines.append(f"switched_off = {literal(list(around.switched_off))}")
    lines.append(called("recording = scope.record", [Code("prompt")], recorded))
    if around.other is not None:
        lines += [
            f"other = {literal(around.other, before=len('other = '))}",
            called("recording_b = scope.record", [Code("other")], tokens),
        ]
    if view.words is not None:
        for name, words in zip("ab", view.words, strict=True):
            lines.append(called(f"{name} = scope.words", [words], {}))
        keywords["words"] = (Code("a.ids"), Code("b.ids"))
    if around.cursor:
        values = ", ".join(str(place) for place in around.cursor.values())
        lines.append(f"{', '.join(around.cursor)} = {values}")
    for name, place in around.cursor.items():
        if keywords.get(name) == place:
            keywords[name] = Code(name)
    keywords = {"recording": Code("recording"), **keywords}
    lines += [called("figure = scope.look", [view.lens], keywords), "print(figure.title)"]
    return "\n".join((*lines, ""))


def called(function: str, values: list[Any], named: dict[str, Any]) -> str:
    """Return a call, on one line if it fits, otherwise with a line for each argument."""
    arguments = [("", value) for value in values]
    arguments += [(f"{name}=", value) for name, value in named.items()]
    flat = f"{function}({', '.join(name + _flat(value) for name, value in arguments)})"
    if len(flat) <= WIDTH:
        return flat
    rows = (f"{name}{literal(value, INDENT, len(name))}" for name, value in arguments)
    return "\n".join((f"{function}(", *(f"{' ' * INDENT}{row}," for row in rows), ")"))


def literal(value: Any, indent: int = 0, before: int = 0) -> str:
    """Return a value as a Python literal, on several lines if it is long.

    Args:
        value: the value.
        indent: the indentation of its line.
        before: the number of columns of that line that are already used.
    """
    flat = _flat(value)
    if indent + before + len(flat) < WIDTH or isinstance(value, Code):
        return flat
    inner, opening, closing = indent + INDENT, "(", ")"
    if isinstance(value, str):
        rows = [_quote_python(piece) for piece in _pieces(value, WIDTH - inner)]
    elif isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        rows = textwrap.wrap(f"{', '.join(map(repr, value))},", WIDTH - inner)
    elif isinstance(value, tuple | list):
        opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        rows = [f"{literal(item, inner)}," for item in value]
    else:
        return flat
    return "\n".join((opening, *(" " * inner + row for row in rows), " " * indent + closing))


def _flat(value: Any) -> str:
    """Return a value as a literal on one line."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return _quote_python(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_flat, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def _quote_python(text: str) -> str:
    """Return a text as a Python literal, in double quotes unless it contains some.

    Unprintable characters and lone surrogates are escaped.
    """
    written = repr(text)
    return written if '"' in written else f'"{written[1:-1]}"'


def _pieces(text: str, room: int) -> Iterator[str]:
    """Yield parts of a text of at most `room` columns, split at line ends and between words."""
    start, size, blank = 0, len("''"), 0
    for place, character in enumerate(text):
        size += _columns(character)
        while size > room and start < place:  # a wide character may need another cut
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
    """Return a character's literal width; an apostrophe is escaped if both quotes occur."""
    return 2 if character == "'" else len(repr(character)) - len("''")
