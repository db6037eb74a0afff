"""Learned lenses on the screen: turn to the next one, and choose one from a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from os.path import abspath
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.tui.dialogs.found_list import FoundListScreen
from llmscope.tui.widgets.choice_list import ListEntry

if TYPE_CHECKING:
    from llmscope.learned.lenses.published import Known
    from llmscope.models.info import ModelInfo
    from llmscope.tui.host import Host

LOGIT = "logit lens"
HERE, FOLDER, HUB = "on this machine", "in this folder", "on the hub"
ABOUT = {
    LOGIT: "Reads each layer as it is, by the final norm and the unembedding.",
    "jacobian": "Maps each layer by what a change of it does to the output, on average over text.",
    "tuned": "Maps each layer by what was trained to predict the output, over text.",
}
IN_USE = "in use"


def turn(host: Host) -> None:
    """Read through the next learned lens, or the logit lens; the map shows it."""
    if host.state.lenses:
        host.lenses.take(host, host.state.with_next_lens().translator)
    else:
        choose(host)


def choose(host: Host) -> None:
    """Open the list of lenses."""
    if host.state.info is not None:
        host.push_screen(LensScreen(host))


def listed(host: Host, files: Sequence[Known] = ()) -> list[ListEntry]:
    """Return the lenses to choose from: the logit lens, those known, files, published ones.

    Args:
        host: the screen.
        files: the lenses of this folder that fit the model.
    """
    from llmscope.learned.lenses.published import published_lenses

    state = host.state
    assert state.info is not None

    def row(heading: str, name: str, kind: str = "") -> ListEntry:
        used = IN_USE if name == (state.translator or "") else ""
        kind = kind or (name or LOGIT if (name or LOGIT) in ABOUT else "")
        return ListEntry(heading, name, name or LOGIT, ABOUT.get(kind, ""), (used, ""))

    choices = [row(HERE, name) for name in ("", *state.lenses)]
    listed_already = {abspath(name) for name in state.lenses}
    others = [file for file in files if abspath(file.name) not in listed_already]
    choices += [row(FOLDER, other.name, other.kind) for other in others]
    names = (state.info.spec, state.info.name)
    return [*choices, *(row(HUB, lens.name, lens.kind) for lens in published_lenses(names))]


class LensScreen(FoundListScreen["Known"]):
    """A search line with the lenses below it: enter takes the selected one, esc closes."""

    heading = "Lenses"
    typed_about = "a file that llmscope fit lens made, or one of the hub"

    def __init__(self, host: Host) -> None:
        super().__init__(host, "a file, a folder, or org/name:path")

    def list_all(self, fitting: Sequence[Known] = ()) -> Sequence[ListEntry]:
        """Return the lenses to choose from."""
        return listed(self._host, fitting)

    def find(self, info: ModelInfo) -> Sequence[Known]:
        """Return the lenses of this folder that fit the model."""
        from llmscope.learned.lenses.local_files import fitting_files

        return fitting_files(Path(), info)

    def in_use(self) -> Collection[str]:
        """Return the name of the lens in use; empty for the logit lens."""
        return (self._host.state.translator or "",)

    def take(self, choice: ListEntry) -> None:
        """Read through the chosen lens."""
        self.dismiss()
        self._host.lenses.take(self._host, choice.text or None)
