"""The panes: those of one workspace are on screen, and get the figures they asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from textual import events
from textual.containers import Container
from textual.geometry import Offset
from textual.message import Message

from llmscope.draw.render_options import RenderOptions
from llmscope.tui.state.layout import (
    LEAST,
    Area,
    Arrangement,
    areas,
    layout_for,
    reachable_panes,
    visible,
)
from llmscope.tui.state.workspaces import (
    BY_SUBJECT,
    FIRST,
    PANES,
    WORKSPACES,
    Workspace,
    sharing,
    tabs_of,
    workspace_of,
)

if TYPE_CHECKING:
    from llmscope.engine.events import Want, Working
    from llmscope.tui.actions.user_keymap import Keymap
    from llmscope.tui.panes import FigurePane
    from llmscope.tui.state.figure_store import FigureStore, Shown
    from llmscope.tui.state.view_state import ViewState

ELSEWHERE = "elsewhere"
"""In the `extra` of a refused figure: another place of the cursor has one to show."""


class PaneGrid(Container):
    """Holds the panes, decides which are on screen, and hands them their figures.

    Args:
        workspaces: all workspaces.
        make: makes the panes, by key; None makes those of all workspaces.

    Attributes:
        workspace: the workspace on screen.
        arrangements: the user's arrangement of each workspace, by its name.
        current: the pane that gets the cursor keys, if it is on screen.
        added: the keys of panes from other packages, once the panes are made.
        areas: where each pane on screen is.
        aside: figures that a dialog needs besides those of the panes.
    """

    class Rearranged(Message):
        """Posted when other panes are on screen, or another one has the focus."""

    def __init__(
        self,
        look: RenderOptions,
        *,
        fades: bool = True,
        workspace: str = "",
        arrangements: Mapping[str, Arrangement] | None = None,
        tabs: Collection[str] = (),
        workspaces: Sequence[Workspace] = WORKSPACES,
        make: Callable[[RenderOptions], dict[str, FigurePane]] | None = None,
    ) -> None:
        super().__init__(id="grid")
        self._look = look
        self._fades = fades
        self.layout_name = layout_for(80, 24)
        self.workspaces, self._make = workspaces, make
        self.kept_tabs, self._with_subject = set(tabs), set[str]()
        self._last_of: dict[str, str] = {}  # by the name of a tab: the workspace shown last of it
        self._remembered = arrangements or {}
        self._remember(self._remembered)
        self.workspace: Workspace = {known.name: known for known in workspaces}.get(
            workspace, workspaces[0]
        )
        self._last_of[self.workspace.tab] = self.workspace.name
        self.current = self.workspace.spine
        self._detail = next(iter(self.workspace.details), "")
        self._maximized: str | None = None
        self.added: tuple[str, ...] = ()
        self._layers = self._room = self._width = 1
        self._has_focus, self._room_of = False, ""
        self.areas: dict[str, Area] = {}
        self.aside: tuple[Want, ...] = ()
        self._drag: Callable[[Offset], None] | None = None
        self._folds: dict[tuple[object, ...], bool] = {}
        self._folded: frozenset[str] = frozenset()
        self._tallest: dict[tuple[object, ...], int] = {}
        self._messages: dict[str, int] = {}
        self._silent: Mapping[str, str] = {}
        self._keymap: Keymap | None = None

    @cached_property
    def panes(self) -> dict[str, FigurePane]:
        """Return all panes, by key. They are created after the first paint, which shows none."""
        if self._make is not None:
            return self._make(self._look)
        from llmscope.tui.panes import pane_classes

        classes = pane_classes()
        self._join([cls for key, cls in classes.items() if key not in PANES])
        return {key: cls(self._look) for key, cls in classes.items()}

    def _join(self, added: Sequence[type[FigurePane]]) -> None:
        """Add panes of other packages to their workspaces, as the user arranged them."""
        self.added = tuple(cls.key for cls in added)
        for cls in added:
            self.workspaces = tuple(
                replace(workspace, details=(*workspace.details, cls.key))
                if workspace.name == cls.workspace
                else workspace
                for workspace in self.workspaces
            )
        if added:
            self.workspace = next(
                workspace for workspace in self.workspaces if workspace.name == self.workspace.name
            )
            self._remember(self._remembered)

    @property
    def tabs(self) -> list[Workspace]:
        """Return the workspaces that have a tab, in the order of their digits."""
        if self._make is not None:  # the pages of a file
            return list(self.workspaces)
        return tabs_of(self.workspaces, self.kept_tabs | self._with_subject, self.workspace.name)

    @property
    def has_more_tabs(self) -> bool:
        """Return whether there may be workspaces without a tab: not among the pages of a file."""
        return self._make is None

    def offer(self, names: set[str], *, turns: bool) -> list[Workspace]:
        """Give a tab to the workspaces whose subject is there; return those whose subject came.

        Args:
            names: the workspaces whose subject is there.
            turns: whether the tab on screen turns to what came last, and away from what is gone.
        """
        before, open_tabs = self._with_subject, {tab.tab for tab in self.tabs}
        shared = {workspace.tab for workspace in self.workspaces if workspace.name in before}
        came, gone, self._with_subject = names - before, before - names, set(names)
        added = [workspace for workspace in self.workspaces if workspace.name in came]
        for workspace in added:
            if workspace.tab in FIRST:
                continue
            if self.workspace.tab != workspace.tab:
                self._last_of[workspace.tab] = workspace.name
            elif turns:
                self._turn_to(workspace)
        if turns and self.workspace.name in gone:
            left = [workspace for workspace in self.shared_tab if workspace.name in names]
            if left:
                self._turn_to(left[0])
        # One whose tab was opened by hand is no news, unless the tab has another one too.
        return [
            workspace
            for workspace in added
            if workspace.within or workspace.tab not in open_tabs - shared
        ]

    @property
    def shared_tab(self) -> list[Workspace]:
        """Return the workspaces that the tab on screen turns through.

        Those that need a subject are left out while it is not there, unless one is on screen.
        """
        return [
            workspace
            for workspace in sharing(self.workspaces, self.workspace.tab)
            if workspace.name == self.workspace.name
            or workspace.name in self._with_subject
            or workspace.name not in BY_SUBJECT
        ]

    def shown_last(self, tab: Workspace) -> Workspace:
        """Return the workspace that a tab shows: of several that share it, the one shown last."""
        name = self._last_of.get(tab.tab, tab.name)
        return next(workspace for workspace in self.workspaces if workspace.name == name)

    def turn_tab(self) -> bool:
        """Show the next workspace that shares the tab on screen; return whether there is one."""
        turned = self.shared_tab
        at = [workspace.name for workspace in turned].index(self.workspace.name)
        self._turn_to(turned[(at + 1) % len(turned)])
        return len(turned) > 1

    def _turn_to(self, workspace: Workspace) -> None:
        """Show a workspace, and focus its main figure if a figure has the focus."""
        inside = self.screen.focused in self.panes.values()
        self.show(workspace)
        if inside:
            self.screen.set_focus(self.pane)

    def close(self, name: str) -> None:
        """Take back the tab of a workspace that was opened, and of those that share it."""
        tab = next((workspace.tab for workspace in self.workspaces if workspace.name == name), name)
        self.kept_tabs -= {name, *(workspace.name for workspace in sharing(self.workspaces, tab))}

    def _remember(self, arrangements: Mapping[str, Arrangement]) -> None:
        """Arrange the panes of each workspace as given, and by default where nothing is."""
        self.arrangements = {}
        for workspace in self.workspaces:
            arrangement = arrangements.get(workspace.name, Arrangement(()))
            self.arrangements[workspace.name] = arrangement.of_workspace(workspace)

    def fill(self, keymap: Keymap) -> None:
        """Show the panes of the workspace; each of the others is mounted once it gets room."""
        self._keymap = keymap
        self._arrange()

    def set_render_options(self, look: RenderOptions) -> None:
        """Draw panes that are mounted later with new render options."""
        self._look = look
        for pane in self.panes.values() if self._keymap is not None else ():
            if pane.parent is None:
                pane.set_render_options(look)

    @property
    def arrangement(self) -> Arrangement:
        """Return the arrangement of the workspace on screen."""
        return self.arrangements[self.workspace.name]

    @property
    def reachable(self) -> tuple[str, ...]:
        """Return the panes that the user can step through."""
        panes = reachable_panes(self.layout_name, self.workspace, self.arrangement)
        return self._speaking(panes)

    @property
    def shown_of(self) -> str:
        """Return how many of the workspace's panes are on screen; empty if all are.

        Panes that the user has hidden do not count, nor those that another one speaks for.
        """
        panes = self._speaking((self.workspace.spine, *self.arrangement.shown))
        count_shown, count = len(self.on_screen), len(panes)
        return "" if count_shown == count else f"{count_shown} of {count} panes"

    @property
    def on_screen(self) -> tuple[str, ...]:
        """Return the keys of the panes on screen."""
        return self._speaking(self.requested)

    @property
    def requested(self) -> tuple[str, ...]:
        """Return the keys of the panes on screen, and of those that another one speaks for.

        A pane is left out while it could only repeat the message of another one, such as that the
        model has no adapter. Its figure is requested, so that it is back once it has one.
        """
        return visible(
            self.layout_name,
            self.workspace,
            self.arrangement,
            detail=self._detail,
            maximized=self._maximized,
        )

    def _speaking(self, panes: Sequence[str]) -> tuple[str, ...]:
        """Return the panes without those whose message another one of them has."""
        return tuple(key for key in panes if self._silent.get(key) not in panes)

    @property
    def maximized(self) -> str:
        """Return the key of the pane that has all the room; empty without one."""
        return self._maximized or ""

    @property
    def pane(self) -> FigurePane:
        """Return the pane that gets the cursor keys."""
        return self.panes[self.current if self.current in self.on_screen else self.on_screen[0]]

    @property
    def window(self) -> tuple[int, int] | None:
        """The tokens that the first pane with tokens draws, as a half-open range."""
        windows = (self.panes[key].window for key in self.on_screen)
        return next((window for window in windows if window is not None), None)

    def on_resize(self) -> None:
        """Fit the panes to the terminal's new size."""
        self.fit(*self.app.size, self.size.height)

    def model(self, layers: int) -> None:
        """Set the number of layers that later layouts are made for."""
        self._layers = layers
        self._folds.clear()
        self._tallest.clear()

    def fit(self, width: int, height: int, room: int) -> None:
        """Lay out for the size of the terminal, of which the panes get `room` rows."""
        before, self.layout_name = self.layout_name, layout_for(width, height)
        self._width, self._room = width, room
        was_alone = before == "tiny" != self.layout_name  # a larger screen has room for others
        if was_alone or self._maximized not in self.reachable:
            self._maximized = None
        self._arrange()

    def show(self, workspace: Workspace) -> None:
        """Show another workspace, its main figure as the current pane."""
        if workspace != self.workspace:
            self._silent = {}
            self.workspace, self._maximized = workspace, None
            self._last_of[workspace.tab] = workspace.name
            if workspace.tab not in FIRST:
                self.kept_tabs.add(workspace.tab)
            self.current = workspace.spine
            self._detail = next(iter(workspace.details), "")
            self._arrange()

    def restore(self, workspace: Workspace, arrangements: Mapping[str, Arrangement]) -> None:
        """Show a workspace, with the panes of all of them arranged as given, else by default."""
        self._remember(arrangements)
        inside = self.screen.focused in self.panes.values()
        self.workspace, self._maximized = workspace, None
        self._last_of = {workspace.tab: workspace.name}
        self.current = workspace.spine
        self._detail = next(iter(workspace.details), "")
        self._arrange()
        if inside:
            self.screen.set_focus(self.pane)

    def open(self, workspace: Workspace) -> None:
        """Show a workspace, and focus its main figure."""
        self.show(workspace)
        self.screen.set_focus(self.pane)

    def enter(self, key: str) -> None:
        """Focus a pane in its workspace.

        A hidden pane is shown, and one without room in the layout is maximized.
        """
        self.show(workspace_of(key, self.workspace, self.workspaces))
        key = self._silent.get(key, key)
        if key in self.arrangement.hidden:
            self.arrangements[self.workspace.name] = self.arrangement.show(key)
        if self.layout_name == "tiny":
            self._maximized = None if key == self.reachable[0] else key
        elif key not in self.reachable or self._maximized is not None:
            self._maximized = key
        if key != self.workspace.spine:
            self._detail = key
        self.current = key
        self._arrange()
        self.screen.set_focus(self.pane)

    def point(self, key: str) -> None:
        """Make a pane of this workspace the current one, to get the keys when figures show."""
        key = self._silent.get(key, key)
        self.current = key
        if key != self.workspace.spine:
            self._detail = key
        self._arrange()

    def next(self, by: int) -> None:
        """Focus the next pane, or the previous one for a negative `by`."""
        order, here = self.reachable, self.pane.key
        at = order.index(here) if here in order else -1
        self.enter(order[(at + by) % len(order)])

    def rearrange(self, arrangement: Arrangement) -> None:
        """Apply another choice or order of panes."""
        self.arrangements[self.workspace.name], self._maximized = arrangement, None
        self._arrange()

    def resize(self, *, rows: int = 0, columns: int = 0) -> bool:
        """Make the current pane taller by `rows`, and its column wider by `columns`.

        Returns:
            Whether there is a pane beside it that gives the room.
        """
        here = self.areas.get(self.pane.key)
        if here is None:
            return False
        if columns:
            second = self._second_column
            if second is not None and here.width < self._width:
                self._move_column(second + (columns if here.x == 0 else -columns))
            return second is not None
        beside = [
            (first, other) for first, other in self._borders() if self.pane.key in (first, other)
        ]
        if not beside:
            return False
        above, below = beside[-1]
        self._move_border(above, below, rows if above == self.pane.key else -rows)
        return True

    def reset_sizes(self) -> None:
        """Undo what the user did to the sizes of the panes of this workspace."""
        self.rearrange(replace(self.arrangement, heights={}, main=None))

    def _borders(self) -> list[tuple[str, str]]:
        """Return the panes with a border that can be moved between them: upper and lower one."""
        return [
            (above, other)
            for above, upper in self.areas.items()
            for other, lower in self.areas.items()
            if (upper.x, upper.width) == (lower.x, lower.width)
            if upper.y + upper.height == lower.y and not {above, other} & self._folded
        ]

    def _move_border(self, above: str, below: str, rows: int) -> None:
        """Move the border between two panes down by `rows`, as far as both stay useful."""
        upper, lower = self.areas[above], self.areas[below]
        if upper.height + lower.height < 2 * LEAST:
            return  # there is no place for the border at which both are useful
        rows = max(LEAST - upper.height, min(rows, lower.height - LEAST))
        room = sum(
            area.height
            for key, area in self.areas.items()
            if area.x == upper.x and key not in self._folded
        )
        heights = {above: (upper.height + rows) / room, below: (lower.height - rows) / room}
        if rows:
            self.rearrange(self.arrangement.sized(heights))

    def _move_column(self, x: int) -> None:
        """Move the border right of the first column to cell `x`."""
        self.rearrange(replace(self.arrangement, main=max(0.1, min(x / self._width, 0.9))))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Take hold of a border between panes."""
        self._drag = self._drag_at(event.screen_offset - self.region.offset)
        if self._drag is not None:
            self.capture_mouse()
            event.stop()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Move the border that is held."""
        if self._drag is not None:
            self._drag(event.screen_offset - self.region.offset)

    def on_mouse_up(self) -> None:
        """Let go of the border."""
        if self._drag is not None:
            self._drag = None
            self.release_mouse()

    def _drag_at(self, at: Offset) -> Callable[[Offset], None] | None:
        """Return what moves the border at an offset in the grid; None if no border is there."""
        for above, below in self._borders():
            lower = self.areas[below]
            if self.panes[below].on_title(at.x - lower.x, at.y - lower.y):
                continue
            if at.y in (lower.y - 1, lower.y) and lower.x <= at.x < lower.x + lower.width:
                return lambda to: self._move_border(above, below, to.y - self.areas[below].y)
        second = self._second_column
        if second is not None and at.x in (second - 1, second):
            return lambda to: self._move_column(to.x)
        return None

    @property
    def _second_column(self) -> int | None:
        """Where the second column of panes begins; None if there is one column."""
        return min((area.x for area in self.areas.values() if area.x), default=None)

    def maximize(self) -> None:
        """Give the pane all the room, or put it back in its place."""
        self._maximized = None if self._maximized else self.pane.key
        self._arrange()

    def wants(self, state: ViewState, *, sweeps: bool = True) -> list[Want]:
        """Return the figures that panes on screen need: the focused one's first, tokens always.

        Args:
            sweeps: include figures that take many passes. They come last.
        """
        from llmscope.tui.state.figure_store import TOKENS  # not needed at first

        also = (key for pane in self.requested for key in self.panes[pane].also_reads)
        panes = [self.panes[key] for key in dict.fromkeys((*self.requested, *also))]
        panes.sort(key=lambda pane: pane.key != self.current)
        quick = [want for pane in panes if not pane.sweeps(state) and (want := _want(pane, state))]
        slow = [
            want for pane in panes if sweeps and pane.sweeps(state) and (want := _want(pane, state))
        ]
        quick += self.aside
        return [*quick, *slow] if TOKENS in quick else [*quick, TOKENS, *slow]

    def present(
        self, state: ViewState, figures: FigureStore, *, late: bool, dim: bool, runs: bool = True
    ) -> None:
        """Hand each pane on screen its figure.

        Args:
            late: mark figures that are out of date.
            dim: dim them too.
            runs: whether newer ones are being computed.
        """
        from llmscope.tui.state.figure_store import TOKENS

        self._fold(state, figures)
        for key in self.on_screen:
            pane, result = self.panes[key], figures.shown(key)
            stale = late and figures.stale(key)
            pane.dim, pane.awaits = dim and self._fades, runs
            pane.present(state, result, stale=stale, tokens=figures.shown(TOKENS.key))

    def landed(self, state: ViewState, figures: FigureStore, keys: Collection[str]) -> ViewState:
        """Return the view state that follows from the figures that the engine sent.

        Args:
            state: the view state.
            figures: the figures.
            keys: the panes whose figures came.
        """
        for key in self.requested:
            result = figures.shown(key)
            if key in keys and result is not None:
                state = self.panes[key].landed(state, result)
        return state

    def show_work(self, work: Working | None) -> None:
        """Show how far the running work is in the panes that wait for it."""
        for key in self.on_screen:
            self.panes[key].show_work(work)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Update the current pane, which the mouse may have changed."""
        if event.widget in self.children:
            self.current = event.widget.id or self.current
        self.post_message(self.Rearranged())

    def show_focus(self, has_focus: bool) -> None:
        """Give the current pane of a small screen most of the room, or not: it has the focus."""
        self._has_focus = has_focus
        if self.layout_name == "small" and self._focused != self._room_of:
            self._arrange()

    @property
    def _focused(self) -> str:
        """Return the pane that has the focus; empty if none has it."""
        return self.pane.key if self._has_focus else ""

    def _fold(self, state: ViewState, figures: FigureStore) -> None:
        """Shrink details whose figure was refused to the rows of the message that they show.

        For each layer the first figure decides, and a later one that is not refused decides again:
        panes may move when the cursor changes the layer, but never because of typing. A message
        may grow by typing: its pane is never too low for it where rows are free.
        """
        folded: set[str] = set()
        messages: dict[str, int] = {}
        silent = self._repeated_messages(state, figures)
        for key in self.requested:
            if key in silent:
                continue
            pane, is_detail = self.panes[key], key != self.workspace.spine
            place = (key, is_detail, state.adapter, state.focus.layer)
            result = figures.shown(key)
            if result is not None and not figures.stale(key):
                figure = result.figure
                refused = figure.verdict.status == "refused" and not figure.extra.get(ELSEWHERE)
                self._folds[place] = refused and self._folds.get(place, True)
                if self._folds[place]:
                    messages[key] = self._message_rows(pane, result, state, place)
            elif key in self._messages:
                messages[key] = self._messages[key]
            if pane.brief or (is_detail and self._folds.get(place, key in self._folded)):
                folded.add(key)
                messages.setdefault(key, 1)
        before = (self._folded, self._messages, self._silent)
        self._folded, self._messages, self._silent = frozenset(folded), messages, silent
        if before != (self._folded, self._messages, self._silent):
            self._arrange()
            if self.current in silent:
                had_focus = self.panes[self.current].has_focus
                self.current = silent[self.current]
                if had_focus:
                    self.screen.set_focus(self.pane)

    def _repeated_messages(self, state: ViewState, figures: FigureStore) -> dict[str, str]:
        """Return the panes that could only repeat a message, each with the pane that has it."""
        speakers: dict[str, str] = {}
        silent: dict[str, str] = {}
        for key in self.requested:
            result = figures.shown(key)
            if result is None or result.figure.verdict.status != "refused":
                continue
            if figures.stale(key):  # as it was, until it is known
                if key in self._silent:
                    silent[key] = self._silent[key]
                continue
            message = result.figure.missing or self.panes[key].message(result, state)
            if message in speakers:
                silent[key] = speakers[message]
            elif message:
                speakers[message] = key
        return {key: speaker for key, speaker in silent.items() if speaker not in silent}

    def _message_rows(
        self, pane: FigurePane, result: Shown, state: ViewState, place: tuple[object, ...]
    ) -> int:
        """Return the rows of the tallest message so far at a place and the pane's width."""
        area = self.areas.get(pane.key)
        is_spine = pane.key == self.workspace.spine
        width = area.width if is_spine and area is not None else self._width
        rows = pane.message_rows(result, state, width)
        self._tallest[place, width] = max(rows, self._tallest.get((place, width), 0))
        return self._tallest[place, width]

    def _arrange(self) -> None:
        if self._keymap is None:
            return
        self._room_of = self._focused
        self.areas = areas(
            self.layout_name,
            self.on_screen,
            (self._width, self._room),
            {key: pane.useful_rows(self._layers) for key, pane in self.panes.items()},
            self.arrangement,
            self._folded,
            self._messages,
            focused=self._room_of,
        )
        new = [self.panes[key] for key in self.areas if self.panes[key].parent is None]
        if new and self.is_attached:  # the app may be closing
            self._keymap.bind("figures", *new)
            self.mount(*new)
        for key, pane in self.panes.items():
            area = self.areas.get(key)
            pane.display = area is not None
            if area is not None:
                pane.styles.offset = area.x, area.y
                pane.styles.width, pane.styles.height = area.width, area.height
        self.post_message(self.Rearranged())


def _want(pane: FigurePane, state: ViewState) -> Want | None:
    """Return the figure that a pane needs; as a change if those are shown and it supports them."""
    want = pane.want(state)
    able = pane.apart if state.apart else pane.changes
    if want is None or not (state.shows_change and able):
        return want
    return replace(want, focus=replace(want.focus, change=True))
