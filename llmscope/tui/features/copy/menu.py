"""The copy menu (key `y`); its letters stay the same everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError
from llmscope.support.text import without_controls
from llmscope.tui.dialogs.menu import MenuEntry, MenuScreen
from llmscope.tui.features.copy.cursor_value import number, picture

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState


NOTHING = "nothing to copy yet"
UNNAMED = (
    "no command makes this figure: it lacks prompt B, its model has no name of its own or is in a "
    "program's memory, or its prompt holds control characters"
)
TOO_LONG = "too long for a command line: the palette's `save the state` writes a file to open"
BROKEN = re.compile("[\ud800-\udfff]")
"""Lone surrogates: the model reads U+FFFD for them, and a clipboard cannot hold them."""


@dataclass(frozen=True)
class Copy:
    """An entry of the copy menu: its letter, its name, and the text to copy."""

    letter: str
    what: str
    text: str


def copies(host: Host) -> list[Copy]:
    """Return everything that can be copied here."""
    pane, state = host.grid.pane, host.state
    edits = "\n".join(map(str, state.in_force))
    listed = [
        Copy("y", "the line in words", host.status.text),
        Copy("e", "the edits, a line each", edits),
    ]
    result = host.figures.shown(pane.key)
    if result is not None and state.token is not None:
        size = (pane.outer_size.width, pane.outer_size.height)
        figure = picture(
            result,
            state,
            "txt",
            size=size,
            look=host.look,
            tokens=host.figures.tokens_of(result),
        )
        listed += [
            Copy("f", "the figure as text", str(figure)),
            Copy("n", "the number at the cursor", _number(result, state)),
        ]
        listed += [Copy(*command) for command in host.mode.commands(host.source, result, state)]
    listed.append(Copy("c", "the command that opens this screen", host.mode.opening_command(host)))
    return [copy for copy in listed if copy.text]


def _number(result: Shown, state: ViewState) -> str:
    """Return the number at the cursor; empty while the pane still shows another place."""
    try:
        return (number(result.figure, state) or "") if result.at(state) else ""
    except (KeyError, IndexError, TypeError, ValueError):  # an incomplete figure of a replayed file
        return ""


def _found(host: Host) -> dict[str, Copy]:
    """Return the entries by letter; empty if a figure of a replayed file cannot be drawn."""
    try:
        return {copy.letter: copy for copy in copies(host)}
    except ScopeError:
        return {}


def ask(host: Host) -> None:
    """Open the copy menu, and copy the entry that the next key chooses."""
    by_letter = _found(host)
    if not by_letter:
        host.tell(NOTHING, "warning")
        return

    entries = [
        MenuEntry(copy.letter, copy.what, copy.text.strip().split("\n")[0])
        for copy in by_letter.values()
    ]
    host.push_screen(
        MenuScreen("copy", entries, lambda letter: _put(host, by_letter[letter]), host.size)
    )


def put(host: Host, letter: str) -> None:
    """Copy the menu's entry with this letter."""
    by_letter = _found(host)
    if letter in by_letter:
        _put(host, by_letter[letter])
    elif letter == "c" and host.source.named and not host.mode.read_only:
        host.tell(TOO_LONG, "warning")
    else:
        host.tell(UNNAMED if "f" in by_letter else NOTHING, "warning")


def _put(host: Host, copy: Copy) -> None:
    # Text pasted into a terminal must not control it: an escape ends a bracketed paste.
    text = without_controls(BROKEN.sub("\N{REPLACEMENT CHARACTER}", copy.text))
    host.copy_to_clipboard(text)
    host.tell(f"copied {copy.what}")
