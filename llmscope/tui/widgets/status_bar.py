"""The two bottom lines: the status text and the key hints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from llmscope.draw.color.theme import Theme
from llmscope.draw.render_options import RenderOptions
from llmscope.tui.actions.keymap import Keymap
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.actions.types import Place
from llmscope.tui.state.workspaces import WORKSPACES
from llmscope.tui.theme.textual_theme import text_styles
from llmscope.tui.widgets.footer import FOOTER, Hint
from llmscope.tui.widgets.status_text import fitting

if TYPE_CHECKING:
    from llmscope.tui.mode import LiveMode

GAP = 2
FIRST = 3
"""Number of leading hints (cursor keys, prompt) that take precedence over the workspaces."""
HERE = "▸"
NAMED = 148
"""Minimum width in cells at which every workspace is named, not only the current one."""
ARROWS = "←→↑↓"


class StatusText(Widget):
    """The cursor's place and its values, in words."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(id="status")
        self._text_styles = text_styles(theme)
        self._clauses: list[str] = []

    def set_render_options(self, look: RenderOptions) -> None:
        """Apply the theme of new render options."""
        self._text_styles = text_styles(look.theme)

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
        return Content.assemble((fitting(self._clauses, self.size.width), self._text_styles.text))


class KeyLine(Widget):
    """The key hints that apply now. A click on one runs its action."""

    class Chosen(Message):
        """Posted when a hint is clicked, with the name of its action."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(
        self,
        theme: Theme,
        keymap: Keymap,
        *,
        mode: LiveMode,
    ) -> None:
        super().__init__(id="key-line")
        self._text_styles = text_styles(theme)
        self._keymap, self._mode = keymap, mode
        self._place = "prompt"
        self._workspace = ""
        self._hints = FOOTER["prompt"]
        self._spans: list[tuple[int, int, str]] = []

    def set_render_options(self, look: RenderOptions) -> None:
        """Apply the theme of new render options."""
        self._text_styles = text_styles(look.theme)

    def show(
        self, place: str, row: str = "", workspace: str = "", *, column: str = "token"
    ) -> None:
        """List the hints of `place`.

        Args:
            place: a key of `FOOTER`.
            row: the unit that up and down move by.
            workspace: the name of the workspace on screen.
            column: the unit that left and right move by.
        """
        words = {"down": row, "token-right": column}
        hints = tuple(
            replace(hint, word=words.get(hint.action) or hint.word)
            for hint in FOOTER[place]
            if not hint.only or workspace in hint.only
            if self._mode.offers(hint.action)
        )
        if (place, hints, workspace) != (self._place, self._hints, self._workspace):
            self._place, self._hints, self._workspace = place, hints, workspace
            self.refresh()

    @property
    def in_prompt(self) -> bool:
        """Whether a prompt has the focus; remains valid after the screen is closed."""
        return self._place.startswith("prompt")

    def render(self) -> Content:
        """Render the hints that fit; on the right the workspaces, the current one marked."""
        listed = [(hint, self._keys(hint)) for hint in self._hints]
        hints = [(hint, keys) for hint, keys in listed if keys]
        tabs = self._tabs()
        least = [pair for at, pair in enumerate(hints) if at < FIRST or pair[0].kept]
        taken = _length(tabs, self._gap)
        if _length(least) + GAP + taken > self.size.width:
            tabs = []
        room = self.size.width - (taken + GAP if tabs else 0)
        loose = [pair for pair in hints if not pair[0].kept]
        while loose and _length(hints) > room:
            hints.remove(loose.pop())
        self._spans = []
        line = self._put(hints, 0)
        if not tabs:
            return line
        at = self.size.width - taken
        return Content.assemble(line, " " * (at - _length(hints)), self._put(tabs, at, self._gap))

    @property
    def _gap(self) -> int:
        """Cells between two workspaces: 1 where only their numbers are shown."""
        return GAP if self.size.width >= NAMED else 1

    def _tabs(self) -> list[tuple[Hint, str]]:
        here = self._workspace
        if not here:
            return []
        wide = self.size.width >= NAMED
        tabs = [
            (one.name, Hint(f"workspace-{place.name}", one.title * (wide or one.name == here)))
            for one, place in zip(self._mode.workspaces, WORKSPACES, strict=False)
        ]
        marked = [(tab, HERE * (name == here), self._keys(tab)) for name, tab in tabs]
        return [(tab, mark + keys) for tab, mark, keys in marked if keys]

    def _put(self, hints: Sequence[tuple[Hint, str]], at: int, gap: int = GAP) -> Content:
        """Render hints starting at column `at`, and record their spans for clicks."""
        parts: list[Content] = []
        for hint, keys in hints:
            word = f" {hint.word}" if keys and hint.word else hint.word
            end = at + cell_len(keys + word)
            self._spans.append((at, end, hint.action))
            at = end + gap
            style = self._text_styles.strong if keys.startswith(HERE) else self._text_styles.dim
            parts.append(Content.assemble((keys, self._text_styles.strong), (word, style)))
        return Content(" " * gap).join(parts)

    def _keys(self, hint: Hint) -> str:
        """Return the first key of the action and of its pair; empty if it has no key here."""
        place: Place = "prompt" if self.in_prompt else "figures"
        names = (hint.pair, hint.action) if hint.pair else (hint.action,)
        keys = [key for name in names for key in self._keymap.shown(BY_NAME[name], place)[:1]]
        return ("" if set(keys) <= set(ARROWS) else " ").join(keys)

    def on_click(self, event: events.Click) -> None:
        """Post the action of the hint under the mouse."""
        offset = event.get_content_offset(self)
        for start, end, action in self._spans:
            if offset is not None and start <= offset.x < end:
                self.post_message(self.Chosen(action))


def _length(hints: Sequence[tuple[Hint, str]], gap: int = GAP) -> int:
    return sum(cell_len(f"{keys} {hint.word}".strip()) + gap for hint, keys in hints) - gap
