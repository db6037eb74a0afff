"""Learned lenses on the screen: turn to the next one, and choose one from a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from llmscope.text import display_text
from llmscope.tui.dialogs.search_list import SearchListScreen
from llmscope.tui.state.views import MAP_VIEWS
from llmscope.tui.widgets.choice_list import Choice

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

LOGIT = "the logit lens"
HERE, FOLDER, HUB, TYPED = "on this machine", "in this folder", "on the hub", "as it is typed"
MOST = 200
"""Files of this folder that are listed."""


def turn(host: Host) -> None:
    """Read through the next learned lens, or the logit lens; the map shows it."""
    if not host.state.lenses:
        choose(host)
        return
    host.look_at(_on_the_map(host, host.state.with_next_lens().translator))


def choose(host: Host) -> None:
    """Open the list of lenses."""
    if host.state.info is not None:
        host.push_screen(LensScreen(host))


def _on_the_map(host: Host, name: str | None) -> ViewState:
    """Return the state with a lens, and the map on a view that it changes."""
    state = host.state.with_lens(name)
    view = state.map_view
    if view.lens != "logit-lens" or view.mode == "lenses":
        top = next(at for at, one in enumerate(MAP_VIEWS) if one.mode == "top")
        state = replace(state, view=top)
    return state


def listed(host: Host) -> list[Choice]:
    """Return the lenses to choose from: the logit lens, those known, files, published ones."""
    from llmscope.learned.published import published

    state = host.state
    assert state.info is not None
    found = [Choice(HERE, "", LOGIT)]
    found += [Choice(HERE, name, name) for name in state.lenses]
    files = sorted(path for suffix in ("*.pt", "*.safetensors") for path in Path().glob(suffix))
    found += [Choice(FOLDER, str(path), str(path)) for path in files[:MOST]]
    names = (state.info.spec, state.info.name)
    found += [Choice(HUB, one.name, one.name, aside=(one.kind, "")) for one in published(names)]
    return found


class LensScreen(SearchListScreen):
    """A search line with the lenses below it: enter takes the selected one, esc closes."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "a file, a folder, or org/name:path")
        self._all = listed(host)

    def compose(self) -> ComposeResult:
        """Yield the line and the list."""
        with Vertical(id="recall") as box:
            box.border_title = Content("Learned lenses")
            yield self._line
            yield self.choices
            yield Static(id="recall-about")

    def matching(self, wanted: str) -> Sequence[Choice]:
        """Return the lenses whose names hold all words, and what was typed as a name itself."""
        words = wanted.casefold().split()
        found = [one for one in self._all if all(word in one.haystack for word in words)]
        typed = wanted.strip()
        if typed and all(one.text != typed for one in found):
            found.append(Choice(TYPED, typed, display_text(typed)))
        return found

    def take(self, choice: Choice) -> None:
        """Read through the chosen lens."""
        self.dismiss()
        self._host.look_at(_on_the_map(self._host, choice.text or None))
