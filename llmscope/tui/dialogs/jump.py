"""Jump: labels each place on screen with a letter, which moves the focus there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Offset, Size
from textual.widget import Widget
from textual.widgets import Static

from llmscope.tui.dialogs.base import Dialog
from llmscope.tui.state.workspaces import TITLES, WORKSPACES

if TYPE_CHECKING:
    from llmscope.tui.host import Host

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
PROMPT, PROMPT_B, MESSAGE = "prompt", "prompt b", "message"


def letters(
    titles: Mapping[str, str], together: Callable[[str, str], bool] = lambda first, other: True
) -> dict[str, str]:
    """Assign a letter to each place: the first one of its title that no earlier place has.

    Prefer initials of words, then the title's other letters, then the alphabet and digits. For
    fixed `titles` the letters do not depend on what is on screen, so that users can learn them.

    Args:
        titles: the titles of the places, by key.
        together: returns whether two places can be on screen at once, given their keys.
    """
    chosen: dict[str, str] = {}
    for key, title in titles.items():
        used = {letter for other, letter in chosen.items() if together(key, other)}
        words = [word for word in title.lower().split() if word not in ("the", "of", "by")]
        initials = [word[0] for word in words]
        free = [*initials, *"".join(words), *ALPHABET]
        chosen[key] = next(c for c in free if c.isalnum() and c not in used)
    return chosen


def _together(key: str, other: str) -> bool:
    """Return whether a workspace has both panes; the prompts are in all of them."""
    alone = {key, other} & {PROMPT, PROMPT_B}
    return bool(alone) or any({key, other} <= set(workspace.panes) for workspace in WORKSPACES)


LETTERS = letters({PROMPT: "prompt", PROMPT_B: "b", **TITLES}, _together)
# The placeholder replaces the panes, so it takes none of their letters.
LETTERS |= letters({PROMPT: "prompt", MESSAGE: "message"})


@dataclass(frozen=True)
class Target:
    """A place on screen that a letter leads to.

    Attributes:
        at: where the letter is displayed.
        go: goes there.
    """

    at: Offset
    go: Callable[[], object]


def targets(host: Host) -> dict[str, Target]:
    """Return the places on screen by their letters: prompts, panes, and the tabs by their keys."""
    widgets: dict[str, Widget] = {LETTERS[PROMPT]: host.editor}
    if host.prompts.b.display:
        widgets[LETTERS[PROMPT_B]] = host.prompts.b
    grid = host.grid
    if host.placeholder.display:
        widgets[LETTERS[MESSAGE]] = host.placeholder
    else:
        panes = {key: grid.panes[key] for key in grid.on_screen}
        here = host.mode.jump_letters(panes)
        widgets |= {here[key]: pane for key, pane in panes.items()}
    by_letter = {
        letter: Target(widget.region.offset, partial(host.screen.set_focus, widget))
        for letter, widget in widgets.items()
    }
    left = host.tabs.content_region.offset
    for start, _, action in host.tabs.spans:
        digit = action.removeprefix("tab-")
        if digit.isdigit():
            go = partial(grid.open, grid.tabs[int(digit) - 1])
            by_letter.setdefault(digit, Target(left + Offset(start - 1, 0), go))
    return by_letter


def jump(host: Host) -> None:
    """Show the letters, and go to the place whose letter is pressed."""
    by_letter = targets(host)

    def go(letter: str | None) -> None:
        if letter is not None:
            by_letter[letter].go()

    host.push_screen(JumpScreen(by_letter, host.size), go)


class JumpScreen(Dialog[str]):
    """Letters over the screen. The answer is the letter pressed; None on another key or a click."""

    def __init__(self, by_letter: Mapping[str, Target], size: Size) -> None:
        super().__init__(size)
        self._found = by_letter

    def compose(self) -> ComposeResult:
        """Yield one label at the corner of each place."""
        for letter, target in self._found.items():
            label = Static(Content(f" {letter} "), classes="letter")
            label.styles.offset = target.at
            yield label

    def on_key(self, event: events.Key) -> None:
        """Answer with the letter of the key, or None."""
        event.stop()
        event.prevent_default()
        letter = event.character.lower() if event.character else ""
        self.leave(letter if letter in self._found else None)
