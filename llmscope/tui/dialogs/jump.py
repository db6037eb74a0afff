"""Jump: one letter goes to any place on screen, and shows on its border which letter that is."""

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
from llmscope.tui.state.workspaces import PANES

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

PROMPT, PROMPT_B, MESSAGE = "prompt", "prompt b", "message"


def letters(titles: Mapping[str, str]) -> dict[str, str]:
    """A letter for each place: the first of its title that no place before it has.

    They do not depend on what is on screen, so that fingers can learn them. A digit stands for
    what comes after the last letter.
    """
    taken: dict[str, str] = {}
    for key, title in titles.items():
        words = [word for word in title.lower().split() if word != "the"]
        initials = [word[0] for word in words]
        free = [*initials, *"".join(words), *"abcdefghijklmnopqrstuvwxyz0123456789"]
        taken[key] = next(c for c in free if c.isalnum() and c not in taken.values())
    return taken


LETTERS = letters({PROMPT: "prompt", **PANES, PROMPT_B: "b"})
# The message stands where panes would: it takes none of their letters.
LETTERS |= letters({PROMPT: "prompt", MESSAGE: "message"})


def targets(desk: Desk) -> dict[str, Widget]:
    """The places on screen that one can go to, by their letters."""
    found: dict[str, Widget] = {LETTERS[PROMPT]: desk.editor}
    if desk.prompts.b.display:
        found[LETTERS[PROMPT_B]] = desk.prompts.b
    if desk.card.display:
        return {**found, LETTERS[MESSAGE]: desk.card}
    overview = desk.overview
    if desk.own.replay is not None:  # whose panes are another file's next time
        shown = {key: overview.panes[key] for key in overview.on_screen}
        here = letters({PROMPT: "prompt", **{key: pane.called for key, pane in shown.items()}})
        return {**found, **{here[key]: pane for key, pane in shown.items()}}
    return {**found, **{LETTERS[key]: overview.panes[key] for key in overview.on_screen}}


def jump(desk: Desk) -> None:
    """Show the letters, and go where the next one says."""
    found = targets(desk)

    def go(letter: str | None) -> None:
        if letter is not None:
            desk.screen.set_focus(found[letter])

    desk.push_screen(JumpScreen(found, desk.size), go)


class JumpScreen(Dialog[str]):
    """Letters over the screen. One of them is the answer; any other key, or a click, is none."""

    def __init__(self, found: Mapping[str, Widget], size: Size) -> None:
        super().__init__(size)
        self._found = found

    def compose(self) -> ComposeResult:
        """One label at the corner of each place."""
        for letter, widget in self._found.items():
            label = Static(Content(f" {letter} "), classes="letter")
            label.styles.offset = widget.region.offset
            yield label

    def on_key(self, event: events.Key) -> None:
        """Go there, or leave."""
        event.stop()
        event.prevent_default()
        letter = event.character.lower() if event.character else ""
        self.leave(letter if letter in self._found else None)
