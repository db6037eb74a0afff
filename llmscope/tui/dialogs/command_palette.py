"""The command palette: actions, the views of panes, and themes, found by the words of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from llmscope.draw import theme_names
from llmscope.lenses import lens, names
from llmscope.support.text import display_text
from llmscope.tui.actions.menus import AREA
from llmscope.tui.actions.types import ESSENTIAL, listed
from llmscope.tui.dialogs.ranking import Searchable, ranked
from llmscope.tui.dialogs.search_list import SearchListScreen
from llmscope.tui.panes import FigurePane
from llmscope.tui.state.views import MAP_VIEWS
from llmscope.tui.theme_switcher import all_names, choose
from llmscope.tui.widgets.choice_list import MARK, Choices, ListEntry, fit_width, spans

if TYPE_CHECKING:
    from llmscope.tui.actions.types import Action
    from llmscope.tui.host import Host

FIRST = "to begin with"
"""The heading of the most useful entries, while nothing is typed."""
LOGIT_LENS = "view-map-logit-lens-top"
"""The view that belongs to the most useful entries."""
VIEW, THEME = "view", "theme"
"""The headings of the views of panes, and of the themes."""
SOONER = {"workspace": 0, VIEW: 1}
"""The headings that come before all others."""
LAST = ("hide", "pair", THEME)
"""Beginnings of the names of actions that are listed after all others, in this order."""
KEYS = 10
"""Maximum width in cells of the keys of an action."""
NOTHING = "nothing is called that: try another word, or ? for the help"
ANSWER_GAP = 3
"""Cells between a title and the question that it answers."""


@dataclass(frozen=True)
class PaletteEntry:
    """One line of the palette.

    Attributes:
        name: identifies it.
        heading: what it is listed under while nothing is typed.
        found_by: its title, synonyms and question.
        run: performs it.
        keys: the keys of its action, as displayed.
    """

    name: str
    heading: str
    found_by: Searchable
    run: Callable[[], None]
    keys: str = ""

    @property
    def title(self) -> str:
        """The title, as shown."""
        return self.found_by.title


def open_palette(host: Host) -> None:
    """Show all commands, found by typing."""
    if not host.holds(CommandPaletteScreen):
        host.push_screen(CommandPaletteScreen(host))


def commands(actions: Sequence[Action]) -> list[Action]:
    """Return the actions area by area, without the `-anywhere` duplicates."""
    areas = list(dict.fromkeys(action.area for action in actions))
    offered = [action for action in actions if not action.name.endswith("-anywhere")]

    def place(action: Action) -> tuple[int, int]:
        kind = action.name.partition("-")[0]
        return (LAST.index(kind) if kind in LAST else -1, areas.index(action.area))

    return sorted(offered, key=place)


def entries(host: Host) -> list[PaletteEntry]:
    """Return all entries, the most useful ones first."""
    all_entries = [*_actions(host), *_panes_of_packages(host), *_views(host), *_themes(host)]
    by_name = {entry.name: entry for entry in all_entries}
    first = [by_name[name] for name in _first() if name in by_name]
    rest = [entry for entry in all_entries if entry not in first]
    # A word that names both a workspace and a pane leads to the workspace, which holds the pane.
    rest.sort(key=lambda entry: SOONER.get(entry.heading, len(SOONER)))
    return [*(replace(entry, heading=FIRST) for entry in first), *rest]


def _first() -> list[str]:
    return [*ESSENTIAL[:2], LOGIT_LENS, *ESSENTIAL[2:]]


def _actions(host: Host) -> Iterator[PaletteEntry]:
    keymap, panes = host.user.keymap, host.grid.panes
    for action in commands(keymap.actions):
        # A menu is found by what it lists, beside whose titles its keys stand.
        if not listed(host, action) or action.area == AREA:
            continue
        keys = list(keymap.shown(action))
        while len(keys) > 1 and len(" ".join(keys)) > KEYS:
            keys.pop()
        kind, _, key = action.name.partition("-")
        pane = panes.get(key) if kind == "pane" else None
        words = action.words if pane is None else f"{pane.words}, {action.words}"
        found_by = Searchable(host.mode.title_of(action), phrases(words), _question(pane))
        yield PaletteEntry(
            action.name, action.area, found_by, partial(action.run, host), " ".join(keys)
        )


def _panes_of_packages(host: Host) -> Iterator[PaletteEntry]:
    """Yield the panes of other packages."""
    for key in host.grid.added:
        pane = host.grid.panes[key]
        found_by = Searchable(
            f"pane: {display_text(pane.called)}", phrases(pane.words), _question(pane)
        )
        yield PaletteEntry(f"pane-{key}", "pane", found_by, partial(host.grid.enter, key))


def _views(host: Host) -> Iterator[PaletteEntry]:
    """Yield the views of all panes that have several."""
    if not host.mode.offers("map-view"):
        return
    # A lens that has a pane of its own is asked there.
    elsewhere = {
        next(iter(shown_pane.snapshot_modes()), "") for shown_pane in host.grid.panes.values()
    }
    for key, pane in host.grid.panes.items():
        title = display_text(pane.called).removeprefix("the ")
        for index, mode in enumerate(pane.views if len(pane.views) > 1 else ()):
            words = pane.view_words.get(mode, mode.replace("-", " "))
            name, *synonyms = phrases(words)
            lens_name = MAP_VIEWS[index].lens if key == "map" else ""
            question = _lens_question(lens_name) if lens_name and lens_name not in elsewhere else ""
            found_by = Searchable(
                f"{title[:1].upper()}{title[1:]}: {name}", tuple(synonyms), question
            )
            show = partial(_show_view, host, key, index)
            yield PaletteEntry(f"view-{key}-{mode}", VIEW, found_by, show)


def _show_view(host: Host, key: str, index: int) -> None:
    host.grid.enter(key)
    pane = host.grid.panes[key]
    host.look_at(pane.show_view(host.state, index))
    if index in pane.offered_views(host.state):
        return
    if key == "mlp":
        host.tell(f"layer {host.state.focus.layer} is no mixture of experts", "warning")
    elif key == "attribution":
        host.tell("that view needs a model with layers of experts", "warning")
    elif key == "map" and MAP_VIEWS[index].lens == "probe":
        host.tell("that view needs a direction: llmscope MODEL --direction FILE", "warning")
    elif key in ("map", "next-token"):
        keys = host.user.keymap.filled("{lens} turns to one, {lenses} lists them")
        host.tell(f"that view needs a learned lens: {keys}", "warning")


def _themes(host: Host) -> Iterator[PaletteEntry]:
    for name in theme_names() if host.user.anonymous else all_names():
        found_by = Searchable(f"{THEME}: {display_text(name, whitespace=True)}")
        yield PaletteEntry(f"theme-{name}", THEME, found_by, partial(choose, host, name))


def _question(pane: FigurePane | None) -> str:
    """Return the question of the lens that a pane shows; empty if it shows several or none."""
    modes: Mapping[str, object] = {} if pane is None else pane.snapshot_modes()
    return _lens_question(next(iter(modes), ""))


def _lens_question(name: str) -> str:
    return lens(name).question if name in names() else ""


def phrases(text: str) -> tuple[str, ...]:
    """Return the words and phrases of a list that is separated by commas."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


class CommandPaletteScreen(SearchListScreen):
    """A search line with the entries below it: enter runs the selected one, esc closes."""

    nothing = NOTHING

    def __init__(self, host: Host) -> None:
        self._entries = {entry.name: entry for entry in entries(host)}
        self._choices = [
            ListEntry(
                entry.heading,
                entry.name,
                entry.title,
                about=entry.found_by.question,
                aside=(entry.keys, ""),
            )
            for entry in self._entries.values()
        ]
        self._found_by = [entry.found_by for entry in self._entries.values()]
        super().__init__(host, "what do you want to do? a command, a view, a question")

    def compose(self) -> ComposeResult:
        """Yield the line and the list."""
        with Vertical(id="palette") as box:
            box.border_title = Content("Commands")
            box.border_subtitle = Content("enter runs it · ↑↓ choose · esc leaves")
            yield self._line
            yield self.choices

    def make_list(self) -> Choices:
        """Return the list, which shows keys and questions beside the titles."""
        return EntryList()

    def matching(self, wanted: str) -> list[ListEntry]:
        """Return all entries under their headings, or those that match, the best first."""
        if not wanted.strip():
            return self._choices
        return [replace(self._choices[at], heading="") for at in ranked(self._found_by, wanted)]

    def take(self, choice: ListEntry) -> None:
        """Run the entry once the palette is gone."""
        self.action_leave()
        self._host.call_later(self._entries[choice.text].run)


class EntryList(Choices):
    """The list of the palette: titles, the questions that they answer, and keys on the right."""

    def render(self) -> Content:
        """Render the visible rows, or that nothing matches."""
        if not self.found:
            return Content.styled(self.nothing, self.text_styles.dim)
        return super().render()

    def _row(self, index: int) -> Content:
        entry, here = self.found[index], index == self.at
        width, styles = self.size.width - len(MARK), self.text_styles
        keys = entry.aside[0]
        room = max(1, width - (cell_len(keys) + 1 if keys else 0))
        title = fit_width(entry.label, min(room, cell_len(entry.label)))
        title = title if cell_len(entry.label) <= room else fit_width(entry.label, room)
        content = Content.styled(title, styles.strong if here else styles.text)
        for start, end in spans(content.plain, self._words):
            content = content.stylize(styles.accent, start, end)
        left = room - cell_len(title)
        about = entry.about if left >= cell_len(entry.about) + ANSWER_GAP else ""
        gap = " " * ANSWER_GAP if about else ""
        return Content.assemble(
            (MARK if here else " " * len(MARK), styles.accent),
            content,
            (f"{gap}{about}".ljust(left), styles.dim),
            (f" {keys}" if keys else "", styles.strong),
        )
