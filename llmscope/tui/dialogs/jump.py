"""Jump: labels each place on screen with a letter, which moves the focus there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget
from textual.widgets import Static

from llmscope.tui.dialogs.base import Dialog
from llmscope.tui.state.workspaces import TITLES

if TYPE_CHECKING:
    from llmscope.tui.host import Host

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
PROMPT, PROMPT_B, MESSAGE = "prompt", "prompt b", "message"


def letters(titles: Mapping[str, str]) -> dict[str, str]:
    """Assign a letter to each place: the first one of its title that no earlier place has.

    Prefer initials of words, then the title's other letters, then the alphabet and digits. For
    fixed `titles` the letters do not depend on what is on screen, so that users can learn them.
    """
    taken: dict[str, str] = {}
    for key, title in titles.items():
        words = [word for word in title.lower().split() if word != "the"]
        initials = [word[0] for word in words]
        free = [*initials, *"".join(words), *ALPHABET]
        taken[key] = next(c for c in free if c.isalnum() and c not in taken.values())
    return taken


LETTERS = letters({PROMPT: "prompt", **TITLES, PROMPT_B: "b"})
# The placeholder replaces the panes, so it takes none of their letters.
LETTERS |= letters({PROMPT: "prompt", MESSAGE: "message"})


def targets(host: Host) -> dict[str, Widget]:
    """Return the places on screen that can be focused, by their letters."""
    found: dict[str, Widget] = {LETTERS[PROMPT]: host.editor}
    if host.prompts.b.display:
        found[LETTERS[PROMPT_B]] = host.prompts.b
    if host.placeholder.display:
        return {**found, LETTERS[MESSAGE]: host.placeholder}
    grid = host.grid
    shown = {key: grid.panes[key] for key in grid.on_screen}
    here = host.mode.jump_letters(shown)
    return {**found, **{here[key]: pane for key, pane in shown.items()}}


def jump(host: Host) -> None:
    """Show the letters, and focus the place whose letter is pressed."""
    found = targets(host)

    def go(letter: str | None) -> None:
        if letter is not None:
            host.screen.set_focus(found[letter])

    host.push_screen(JumpScreen(found, host.size), go)


class JumpScreen(Dialog[str]):
    """Letters over the screen. The answer is the letter pressed; None on another key or a click."""

    def __init__(self, found: Mapping[str, Widget], size: Size) -> None:
        super().__init__(size)
        self._found = found

    def compose(self) -> ComposeResult:
        """Yield one label at the corner of each place."""
        for letter, widget in self._found.items():
            label = Static(Content(f" {letter} "), classes="letter")
            label.styles.offset = widget.region.offset
            yield label

    def on_key(self, event: events.Key) -> None:
        """Answer with the letter of the key, or None."""
        event.stop()
        event.prevent_default()
        letter = event.character.lower() if event.character else ""
        self.leave(letter if letter in self._found else None)
