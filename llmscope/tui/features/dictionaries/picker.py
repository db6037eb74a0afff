"""The list of dictionaries of features: those in use, shipped, and found in folders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from os.path import abspath, expanduser, isdir
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.tui.dialogs.found_list import FoundListScreen
from llmscope.tui.state.workspaces import BY_NAME
from llmscope.tui.widgets.choice_list import ListEntry

if TYPE_CHECKING:
    from llmscope.learned.dictionaries.dictionary import DictionaryHeader
    from llmscope.models.info import DictionaryFacts, ModelInfo
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

SHOW, USED = "enter shows it", "enter takes it out of use"
KNOWN, FOUND = "enter puts it in use", "found in folders"
ADD = "enter puts it in use"
HERE = "on screen"


def choose(host: Host) -> None:
    """Open the list of dictionaries."""
    if host.state.info is None:
        host.tell("the model is not there yet", "warning")
    else:
        host.push_screen(DictionaryScreen(host))


def listed(state: ViewState, folders: Sequence[DictionaryHeader] = ()) -> list[ListEntry]:
    """Return what can be chosen: which is shown, which are in use, those known, and folders.

    Args:
        state: the view state.
        folders: folders of dictionaries that fit the model.
    """
    used = [
        ListEntry(USED, name, name, _places(ours), (_layers(ours), ""))
        for name in state.features
        if (ours := [dictionary for dictionary in state.dictionaries if dictionary.given == name])
    ]
    shipped = () if state.info is None else state.info.shipped_features
    known = [
        name
        for name in dict.fromkeys((*shipped, *state.listed_features))
        if name not in state.features
    ]
    listed_paths = {abspath(name) for name in (*state.features, *known)}
    others = [folder for folder in folders if abspath(folder.name) not in listed_paths]
    several = state.dictionaries if len(state.dictionaries) > 1 else ()
    return [
        *(
            ListEntry(
                SHOW,
                facts.name,
                f"{facts.title} · {facts.name}",
                f"{facts.features} features",
                aside=(HERE if facts == state.dictionary else "", ""),
            )
            for facts in several
        ),
        *used,
        *(ListEntry(KNOWN, name, name, ADD) for name in known),
        *(
            ListEntry(
                FOUND,
                other.name,
                other.name,
                f"{ADD}; {other.title}, {other.features} features",
                aside=(f"layer {other.reads.layer}", ""),
            )
            for other in others
        ),
    ]


def _layers(ours: Sequence[DictionaryFacts]) -> str:
    layers = sorted({facts.layer for facts in ours})
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"{len(ours)}, layers {layers[0]}–{layers[-1]}"


def _places(ours: Sequence[DictionaryFacts]) -> str:
    return "; ".join(f"{facts.title}, {facts.features} features" for facts in ours)


class DictionaryScreen(FoundListScreen["DictionaryHeader"]):
    """A search line with the dictionaries below it: enter does what is above the chosen one."""

    heading = "Dictionaries of features"
    typed_about = ADD
    nothing = (
        "no dictionary for this model is here\n"
        "SAELens, or another trainer of sparse autoencoders, makes a folder:\n"
        "start llmscope beside it, or type its path; org/name:path is one of the hub"
    )

    def __init__(self, host: Host) -> None:
        super().__init__(host, "a folder of SAELens or Gemma Scope, or org/name:path")

    def list_all(self, headers: Sequence[DictionaryHeader] = ()) -> Sequence[ListEntry]:
        """Return the dictionaries to choose from."""
        return listed(self._host.state, headers)

    def find(self, info: ModelInfo) -> Sequence[DictionaryHeader]:
        """Return the dictionaries in the working folder and in the model's that fit it."""
        from llmscope.learned.dictionaries.local_folders import fitting_folders

        headers = fitting_folders(Path(), info)
        if isdir(folder := expanduser(info.spec)):
            headers += fitting_folders(Path(folder), info)
        return headers

    def in_use(self) -> Collection[str]:
        """Return the names of the dictionary that is shown."""
        here = self._host.state.dictionary
        return () if here is None else (here.name, here.given)

    def take(self, choice: ListEntry) -> None:
        """Show the chosen dictionary, put it in use, or take it out."""
        self.dismiss()
        host = self._host
        if choice.heading == SHOW:
            chosen = next(
                dictionary
                for dictionary in host.state.dictionaries
                if dictionary.name == choice.text
            )
            host.grid.show(BY_NAME["features"])
            host.look_at(host.state.show_dictionary(chosen))
        else:
            host.dictionaries.toggle(host, choice.text)
