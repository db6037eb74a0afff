"""The list of dictionaries of features: those in use, shipped, and found in folders."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import abspath, expanduser, isdir
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from llmscope.text import display_text
from llmscope.tui.dialogs.search_list import SearchListScreen
from llmscope.tui.state.workspaces import BY_NAME
from llmscope.tui.widgets.choice_list import Choice

if TYPE_CHECKING:
    from llmscope.dictionaries.dictionary import Header
    from llmscope.models.info import DictionaryFacts
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

SHOW, USED = "enter shows it", "enter takes it out of use"
KNOWN, FOUND, TYPED = "enter puts it in use", "found in folders", "what is typed"
ADD = "enter puts it in use"
HERE = "on screen"


def choose(host: Host) -> None:
    """Open the list of dictionaries."""
    if host.state.info is None:
        host.tell("the model is not there yet", "warning")
    else:
        host.push_screen(DictionaryScreen(host))


def listed(state: ViewState, folders: Sequence[Header] = ()) -> list[Choice]:
    """Return what can be chosen: which is shown, which are in use, those known, and folders.

    Args:
        state: the view state.
        folders: folders of dictionaries that fit the model.
    """
    used = [
        Choice(USED, name, name, _places(ours), (_layers(ours), ""))
        for name in state.features
        if (ours := [one for one in state.dictionaries if one.given == name])
    ]
    shipped = () if state.info is None else state.info.shipped_features
    known = [
        name
        for name in dict.fromkeys((*shipped, *state.listed_features))
        if name not in state.features
    ]
    taken = {abspath(name) for name in (*state.features, *known)}
    others = [one for one in folders if abspath(one.name) not in taken]
    several = state.dictionaries if len(state.dictionaries) > 1 else ()
    return [
        *(
            Choice(
                *(SHOW, one.name, f"{one.title} · {one.name}", f"{one.features} features"),
                aside=(HERE if one == state.dictionary else "", ""),
            )
            for one in several
        ),
        *used,
        *(Choice(KNOWN, name, name, ADD) for name in known),
        *(
            Choice(
                *(FOUND, one.name, one.name, f"{ADD}; {one.title}, {one.features} features"),
                aside=(f"layer {one.reads.layer}", ""),
            )
            for one in others
        ),
    ]


def _layers(ours: Sequence[DictionaryFacts]) -> str:
    layers = sorted({one.layer for one in ours})
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"{len(ours)}, layers {layers[0]}–{layers[-1]}"


def _places(ours: Sequence[DictionaryFacts]) -> str:
    return "; ".join(f"{one.title}, {one.features} features" for one in ours)


class FoldersFound(Message):
    """Posted with the dictionaries in folders that fit the model."""

    def __init__(self, folders: Sequence[Header]) -> None:
        super().__init__()
        self.folders = folders


class DictionaryScreen(SearchListScreen):
    """A search line with the dictionaries below it: enter does what is above the chosen one."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "a folder of SAELens or Gemma Scope, or org/name:path")
        self._all = listed(host.state)
        self._about = Static(id="recall-about")

    def compose(self) -> ComposeResult:
        """Yield the line and the list."""
        with Vertical(id="recall") as box:
            box.border_title = Content("Dictionaries of features")
            box.border_subtitle = Content("enter takes it · ↑↓ choose · esc leaves")
            yield self._line
            yield self.choices
            yield self._about

    def on_mount(self) -> None:
        """Select the dictionary that is shown, and look for folders, in a thread."""
        super().on_mount()
        Thread(target=self._look, name="llmscope-dictionaries", daemon=True).start()
        here = self._host.state.dictionary
        names = () if here is None else (here.name, here.given)
        self.choices.move(next((at for at, one in enumerate(self._all) if one.text in names), 0))
        self.explain()

    def _look(self) -> None:
        """Look in the working folder and in the model's; runs in its own thread."""
        from llmscope.dictionaries.local_folders import fitting_folders

        info = self._host.state.info
        if info is None:
            return
        found = fitting_folders(Path(), info)
        if isdir(folder := expanduser(info.spec)):
            found += fitting_folders(Path(folder), info)
        self.post_message(FoldersFound(found))

    @on(FoldersFound)
    def _found(self, message: FoldersFound) -> None:
        if message.folders:
            chosen = self.choices.at
            self._all = listed(self._host.state, message.folders)
            self.seek(self._line.value)
            self.choices.move(chosen - self.choices.at)
            self.explain()

    def matching(self, wanted: str) -> Sequence[Choice]:
        """Return the dictionaries whose names hold all words, and what was typed as a name."""
        words = wanted.casefold().split()
        found = [one for one in self._all if all(word in one.haystack for word in words)]
        typed = wanted.strip()
        if typed and all(one.text != typed for one in found):
            found.append(Choice(TYPED, typed, display_text(typed), ADD))
        return found

    def take(self, choice: Choice) -> None:
        """Show the chosen dictionary, put it in use, or take it out."""
        self.dismiss()
        host = self._host
        if choice.heading == SHOW:
            one = next(one for one in host.state.dictionaries if one.name == choice.text)
            host.grid.show(BY_NAME["features"])
            host.look_at(host.state.show_dictionary(one))
        else:
            host.dictionaries.toggle(host, choice.text)

    def explain(self) -> None:
        """Say what the selected entry holds, and what enter does."""
        chosen = self.choices.chosen
        said = "" if chosen is None else chosen.about
        self._about.update(Content.styled(said, self._host.text_styles.dim))
