"""The tab bar: the names of the workspaces that have a tab, the one on screen marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.style import Style

from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.state.workspaces import TABS, Workspace
from llmscope.tui.theme.hosted_widget import HostedWidget

HERE = "▸"
MORE = "…"
MENU = "menu-tabs"
"""The action that lists all workspaces."""
GAPS = (3, 2, 1)
"""Cells between two tabs, from the widest terminal to the narrowest."""


@dataclass(frozen=True)
class Tab:
    """A workspace's tab.

    Attributes:
        text: the mark of the workspace on screen, its key and its name.
        action: the action that shows it.
        here: whether it is on screen.
    """

    text: str
    action: str
    here: bool


class TabBar(HostedWidget):
    """One line with the names of the workspaces that have a tab. A click on one shows it.

    Where there are more workspaces, … with the key of the menu that lists all stands at the end.
    """

    class Chosen(Message):
        """Posted when a tab is clicked, with the name of its action."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(
        self,
        tabs: Sequence[Workspace],
        current: str,
        *,
        more: bool,
    ) -> None:
        super().__init__(id="tabs")
        self._tabs = tuple(tabs)
        self._current, self._has_more = current, more
        self._typing = more
        self._hovered: str | None = None
        self._spans: list[tuple[int, int, str]] = []
        self._marks: list[tuple[int, int, str]] = []

    def show(self, tabs: Sequence[Workspace], workspace: str) -> None:
        """Show these tabs, the one of the workspace with this name marked."""
        if (workspace, tuple(tabs)) != (self._current, self._tabs):
            self._current, self._tabs = workspace, tuple(tabs)
            self.refresh()

    def hide_keys(self, hidden: bool) -> None:
        """Leave the cells of the keys blank, or not: in the prompt a digit is text."""
        if hidden != self._typing:
            self._typing = hidden
            self.refresh()

    @property
    def spans(self) -> list[tuple[int, int, str]]:
        """The tabs on screen: the first cell, the one after the last, and the action."""
        return self._spans

    def render(self) -> Content:
        """Render the tabs that fit."""
        every = [
            (workspace, self._action(at), self._key(at)) for at, workspace in enumerate(self._tabs)
        ]
        menu_key = self._menu_key()
        shown_key = " " * cell_len(menu_key) if self._typing else menu_key
        menu = f"  {shown_key} {MORE}" if self._has_more else ""
        room = self.size.width - cell_len(menu)
        tabs, gap, (before, after) = fit_tabs(every, self._current, room)
        actions = [action for _, action, _ in every]
        keys = {action: key for _, action, key in every if self._typing}
        first = actions.index(tabs[0].action)
        self._spans, self._marks = [], []
        parts: list[tuple[str, Style]] = []
        at = 0

        def put(text: str, style: Style) -> tuple[int, int]:
            nonlocal at
            parts.append((text, style))
            start, at = at, at + cell_len(text)
            return start, at

        if before:
            self._marks.append((*put(f"{MORE} ", self._more_style(first - 1)), actions[first - 1]))
        for number, tab in enumerate(tabs):
            if number:
                put(" " * gap, self.text_styles.dim)
            key = keys.get(tab.action, "")
            text = tab.text.replace(key, " " * cell_len(key), 1)
            self._spans.append((*put(text, self._style(tab)), tab.action))
        if after:
            stop = first + len(tabs)
            self._marks.append((*put(f" {MORE}", self._more_style(stop)), actions[stop]))
        if menu:
            lit = self.text_styles.text if self._hovered == MENU else self.text_styles.dim
            self._marks.append((*put(menu, lit), MENU))
        return Content.assemble(*parts)

    def _action(self, at: int) -> str:
        """Return the action of the tab at an index."""
        return f"tab-{at + 1}" if at < TABS else MENU

    def _menu_key(self) -> str:
        return next(iter(self.keymap.shown(BY_NAME[MENU], "figures")), "")

    def _key(self, at: int) -> str:
        keys = self.keymap.shown(BY_NAME[self._action(at)], "figures") if at < TABS else ()
        return next(iter(keys), "")

    def _style(self, tab: Tab) -> Style:
        if tab.here:
            return self.text_styles.strong + Style(reverse=True)
        return self.text_styles.text if tab.action == self._hovered else self.text_styles.dim

    def _more_style(self, at: int) -> Style:
        """Return the style of a mark that stands for the workspace at an index and those on."""
        hovered = self._action(at) == self._hovered
        return self.text_styles.text if hovered else self.text_styles.dim

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Light up the tab under the mouse."""
        self._hover(self._at(event))

    def on_leave(self) -> None:
        """Light up no tab."""
        self._hover(None)

    def on_click(self, event: events.Click) -> None:
        """Post the action of the tab under the mouse."""
        action = self._at(event)
        if action is not None:
            self.post_message(self.Chosen(action))

    def _at(self, event: events.MouseEvent) -> str | None:
        offset = event.get_content_offset(self)
        if offset is None:
            return None
        places = (*self._spans, *self._marks)
        return next((name for start, end, name in places if start <= offset.x < end), None)

    def _hover(self, action: str | None) -> None:
        if action != self._hovered:
            self._hovered = action
            self.refresh()


def fit_tabs(
    workspaces: Sequence[tuple[Workspace, str, str]], current: str, width: int
) -> tuple[list[Tab], int, tuple[bool, bool]]:
    """Return the tabs that fit into `width` cells, their distance, and what was left out.

    The last is whether there are more tabs before those, and whether there are more after them.
    The name of the current workspace is whole, the others are abbreviated from the longest on. If
    even those do not fit, the tabs next to the current one are shown, whole where there is room.

    Args:
        workspaces: each with the action that shows it, and the key that is displayed.
        current: the name of the workspace on screen.
    """
    short: set[str] = set()
    others = sorted(
        (each for each, _, _ in workspaces if each.name != current),
        key=lambda workspace: len(workspace.short) - len(workspace.title),
    )

    def made() -> list[Tab]:
        return [
            Tab(
                (HERE if each.name == current else "")
                + f"{key} {each.short if each.name in short else each.title}".strip(),
                action,
                each.name == current,
            )
            for each, action, key in workspaces
        ]

    def length(tabs: Sequence[Tab], gap: int) -> int:
        return sum(cell_len(tab.text) + gap for tab in tabs) - gap

    for gap in GAPS:
        if length(made(), gap) <= width:
            return made(), gap, (False, False)
    for each in others:
        short.add(each.name)
        for gap in GAPS[1:]:
            if length(made(), gap) <= width:
                return made(), gap, (False, False)
    tabs, gap = made(), GAPS[-1]
    here = next((at for at, tab in enumerate(tabs) if tab.here), 0)
    first, stop = here, here + 1

    def needed(first: int, stop: int) -> int:
        marks = (len(MORE) + 1) * ((first > 0) + (stop < len(tabs)))
        return length(tabs[first:stop], gap) + marks

    grown = True
    while grown:
        grown = False
        for low, high in ((first, stop + 1), (first - 1, stop)):
            if low >= 0 and high <= len(tabs) and needed(low, high) <= width:
                first, stop, grown = low, high, True
    for each, _, _ in workspaces[first:stop]:
        abbreviated = tabs
        short.discard(each.name)
        tabs = made()
        if needed(first, stop) > width:
            short.add(each.name)
            tabs = abbreviated
    return tabs[first:stop], gap, (first > 0, stop < len(tabs))
