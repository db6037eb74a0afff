"""The turns of a conversation: enter moves the cursor to the beginning of one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from textual.content import Content

from llmscope.tui.dialogs.search_list import DetailListScreen, containing
from llmscope.tui.widgets.choice_list import Choice, whole

if TYPE_CHECKING:
    from llmscope.engine.events import Token
    from llmscope.tui.host import Host

LETTERS = 200
"""Characters of a part that its row shows at most."""


def open_list(host: Host) -> None:
    """List the turns of the prompt; say so where it has none."""
    if not host.chat.roles:
        host.tell("no turns here: the prompt is in no chat template", "warning")
    elif not host.state.tokens:
        host.tell("the turns are listed once their tokens are there", "warning")
    else:
        host.push_screen(TurnsScreen(host))


def listed(host: Host) -> list[tuple[Choice, int]]:
    """Return the parts of the turns as choices, each with the position of its first token."""
    tokens, text, roles = host.state.tokens, host.text, host.chat.roles
    turns = host.chat.turns
    numbers = [one.turn for one in turns.spans] if turns else range(1, len(roles) + 1)
    starts = [token.start for token in tokens]
    found = []
    for number, group in groupby(zip(numbers, roles, strict=True), lambda one: one[0]):
        for _, span in group:
            said = text[span.start : span.end]
            first = _first(tokens, starts, span.start)
            count = _first(tokens, starts, span.end) - first if said else 0
            label = f"{number:>4}  {span.role:<9}  {' '.join(said[:LETTERS].split())}"
            amount = f"{count} token{'s' * (count != 1)}"
            aside = (amount, f"@{first}") if said else ("", "next")
            choice = Choice("", f"{number} {span.start}", label, said, aside)
            found.append((choice, min(first, len(tokens) - 1)))
    return found


def _first(tokens: Sequence[Token], starts: Sequence[int], place: int) -> int:
    """Return the position of the first token that begins at or after a place in the text.

    One that begins in the white space before it belongs to it.
    """
    at = bisect_left(starts, place)
    while at and tokens[at - 1].end > place:
        at -= 1
    return at


class TurnsScreen(DetailListScreen):
    """A search line with the turns below it: enter goes to the selected one, esc closes."""

    heading = "Turns"

    def __init__(self, host: Host) -> None:
        super().__init__(host, "search")
        self._listed = listed(host)
        self._all = [choice for choice, _ in self._listed]

    def on_mount(self) -> None:
        """Select the turn that the cursor is in."""
        super().on_mount()
        here = self._host.state.focus.position
        here = here if here >= 0 else len(self._host.state.tokens) + here
        before = sum(position <= here for _, position in self._listed)
        self.choices.move(max(0, before - 1))
        self.explain()

    def matching(self, wanted: str) -> list[Choice]:
        """Return the turns that hold all words of the line."""
        return containing(self._all, wanted)

    def take(self, choice: Choice) -> None:
        """Move the cursor to the first token of the turn."""
        self.action_leave()
        position = {one.text: at for one, at in self._listed}[choice.text]
        self._host.look_at(self._host.state.move_to(position=position))

    def explain(self) -> None:
        """Show the whole text of the selected turn."""
        chosen = self.choices.chosen
        said = "" if chosen is None else whole(chosen.about)
        self._about.update(Content.styled(said, self._host.text_styles.dim))
