"""The turns of a conversation: enter moves the cursor to the beginning of one."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from llmscope.tui.dialogs.search_list import DetailListScreen
from llmscope.tui.widgets.choice_list import ListEntry, whole

if TYPE_CHECKING:
    from llmscope.tui.host import Host

LETTERS = 200
"""Characters of a part that its row shows at most."""


@dataclass(frozen=True)
class Listed:
    """A part of a turn in the list.

    Attributes:
        choice: its row.
        start: where it begins in the text.
        position: its first token; None while the tokens are not known.
    """

    choice: ListEntry
    start: int
    position: int | None


def open_list(host: Host) -> None:
    """List the turns of the prompt; say so where it has none."""
    if host.chat.roles:
        host.push_screen(TurnsScreen(host))
    else:
        host.tell("no turns here: the prompt is in no chat template", "warning")


def listed(host: Host) -> list[Listed]:
    """Return the parts of the turns in their order."""
    tokens, text, roles = host.state.tokens, host.text, host.chat.roles
    turns = host.chat.turns
    numbers = [turn_span.turn for turn_span in turns.spans] if turns else range(1, len(roles) + 1)
    ends = [token.end for token in tokens]
    parts = []
    for number, span in zip(numbers, roles, strict=True):
        content = text[span.start : span.end]
        label = f"{number:>4}  {span.role:<9}  {' '.join(content[:LETTERS].split())}"
        # A token that begins in the white space before the part belongs to it.
        first, after = (bisect_right(ends, place) for place in (span.start, span.end))
        count = f"{after - first} token{'s' * (after - first != 1)}"
        aside = (count, f"@{first}") if content and tokens else ("", "" if content else "next")
        position = min(first, len(tokens) - 1) if tokens else None
        choice = ListEntry("", f"{number} {span.start}", label, content, aside)
        parts.append(Listed(choice, span.start, position))
    return parts


class TurnsScreen(DetailListScreen):
    """A search line with the turns below it: enter goes to the selected one, esc closes."""

    heading = "Turns"
    nothing = "no turn holds all of these words\na turn is a message of the chat, by role and text"

    def __init__(self, host: Host) -> None:
        super().__init__(host, "search")
        self._listed = listed(host)
        self._all = [part.choice for part in self._listed]

    def on_mount(self) -> None:
        """Select the turn that the cursor is in; the last one while the tokens are not known."""
        super().on_mount()
        count, here = len(self._host.state.tokens), self._host.state.focus.position
        here = here if here >= 0 else count + here
        before = sum(part.position is None or part.position <= here for part in self._listed)
        self.choices.move(max(0, before - 1))
        self.explain()

    def take(self, choice: ListEntry) -> None:
        """Move the cursor to the first token of the turn, and show its text in the prompt."""
        self.action_leave()
        part = next(candidate for candidate in self._listed if candidate.choice is choice)
        editor = self._host.editor
        if part.start <= len(editor.text):
            place = editor.document.get_location_from_index(part.start)
            editor.move_cursor(place, center=True)
        if part.position is not None:
            self._host.look_at(self._host.state.move_to(position=part.position))

    def explain(self) -> None:
        """Show the whole text of the selected turn."""
        chosen = self.choices.chosen
        text = "" if chosen is None else whole(chosen.about)
        self._about.update(Content.styled(text, self._host.text_styles.dim))
