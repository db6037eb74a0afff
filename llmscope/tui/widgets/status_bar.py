"""The two bottom lines: the status text and the key hints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message

from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.actions.types import Place
from llmscope.tui.theme.hosted_widget import HostedWidget
from llmscope.tui.widgets.footer import FOOTER, Hint
from llmscope.tui.widgets.status_text import fitting

GAP = 2
BEFORE_PANES = 3
"""The hints that a narrow line keeps rather than how many panes are on screen."""
ARROWS = "←→↑↓"


class StatusText(HostedWidget):
    """The cursor's place and its values, in words."""

    def __init__(self) -> None:
        super().__init__(id="status")
        self._clauses: list[str] = []

    @property
    def text(self) -> str:
        """All clauses as one line, whether they fit or not."""
        return fitting(self._clauses, 10_000)

    def say(self, clauses: list[str]) -> None:
        """Show these clauses."""
        if clauses != self._clauses:
            self._clauses = clauses
            self.refresh()

    def render(self) -> Content:
        """Render the clauses that fit."""
        return Content.assemble((fitting(self._clauses, self.size.width), self.text_styles.text))


class KeyLine(HostedWidget):
    """The key hints that apply now. A click on one runs its action."""

    class Chosen(Message):
        """Posted when a hint is clicked, with the name of its action."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(
        self,
    ) -> None:
        super().__init__(id="key-line")
        self._place = "prompt"
        self._says_missing = False
        self._hints = FOOTER["prompt"]
        self._spans: list[tuple[int, int, str]] = []

    def show(
        self,
        place: str,
        row: str = "",
        workspace: str = "",
        *,
        column: str = "token",
        panes: str = "",
    ) -> None:
        """List the hints of `place`.

        Args:
            place: a key of `FOOTER`.
            row: the unit that up and down move by.
            workspace: the name of the workspace on screen.
            column: the unit that left and right move by.
            panes: how many panes are on screen; empty if all are.
        """
        words = {"down": row, "token-right": column, "pane-next": panes}
        self._says_missing = bool(panes)
        hints = tuple(
            replace(hint, word=words.get(hint.action) or hint.word)
            for hint in FOOTER[place]
            if not hint.only or workspace in hint.only
            if self.host.mode.offers(hint.action)
        )
        if (place, hints) != (self._place, self._hints):
            self._place, self._hints = place, hints
            self.refresh()

    @property
    def in_prompt(self) -> bool:
        """Whether a prompt has the focus; remains valid after the screen is closed."""
        return self._place.startswith("prompt")

    def render(self) -> Content:
        """Render the hints that fit."""
        listed = [(hint, self._keys(hint)) for hint in self._hints]
        hints = [(hint, keys) for hint, keys in listed if keys]
        loose = [pair for pair in hints if not pair[0].kept]
        # That panes are not on screen is said before all but the cursor's keys and the prompt's.
        missing = [pair for pair in loose if pair[0].action == "pane-next" and self._says_missing]
        loose = [pair for pair in loose if pair not in missing]
        loose[BEFORE_PANES:BEFORE_PANES] = missing
        while loose and _length(hints) > self.size.width:
            hints.remove(loose.pop())
        self._spans, at, parts = [], 0, []
        for hint, keys in hints:
            word = f" {hint.word}" if keys and hint.word else hint.word
            end = at + cell_len(keys + word)
            self._spans.append((at, end, hint.action))
            at = end + GAP
            parts.append(
                Content.assemble((keys, self.text_styles.strong), (word, self.text_styles.dim))
            )
        return Content(" " * GAP).join(parts)

    def _keys(self, hint: Hint) -> str:
        """Return the first key of the action and of its pair; empty if it has no key here."""
        place: Place = "prompt" if self.in_prompt else "figures"
        names = (hint.pair, hint.action) if hint.pair else (hint.action,)
        keys = [key for name in names for key in self.keymap.shown(BY_NAME[name], place)[:1]]
        return ("" if set(keys) <= set(ARROWS) else " ").join(keys)

    def on_click(self, event: events.Click) -> None:
        """Post the action of the hint under the mouse."""
        offset = event.get_content_offset(self)
        for start, end, action in self._spans:
            if offset is not None and start <= offset.x < end:
                self.post_message(self.Chosen(action))


def _length(hints: Sequence[tuple[Hint, str]]) -> int:
    return sum(cell_len(f"{keys} {hint.word}".strip()) + GAP for hint, keys in hints) - GAP
