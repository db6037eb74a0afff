"""Learned lenses on the screen: turn to the next one, and choose one from a list."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import abspath
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
from llmscope.tui.widgets.choice_list import Choice

if TYPE_CHECKING:
    from llmscope.learned.published import Known
    from llmscope.tui.host import Host

LOGIT = "logit lens"
HERE, FOLDER, HUB, TYPED = "on this machine", "in this folder", "on the hub", "what is typed"
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


def listed(host: Host, files: Sequence[Known] = ()) -> list[Choice]:
    """Return the lenses to choose from: the logit lens, those known, files, published ones.

    Args:
        host: the screen.
        files: the lenses of this folder that fit the model.
    """
    from llmscope.learned.published import published

    state = host.state
    assert state.info is not None

    def row(heading: str, name: str, kind: str = "") -> Choice:
        used = IN_USE if name == (state.translator or "") else ""
        kind = kind or (name or LOGIT if (name or LOGIT) in ABOUT else "")
        return Choice(heading, name, name or LOGIT, ABOUT.get(kind, ""), (used, ""))

    found = [row(HERE, name) for name in ("", *state.lenses)]
    listed_already = {abspath(name) for name in state.lenses}
    others = [one for one in files if abspath(one.name) not in listed_already]
    found += [row(FOLDER, one.name, one.kind) for one in others]
    names = (state.info.spec, state.info.name)
    return [*found, *(row(HUB, one.name, one.kind) for one in published(names))]


class LensesFound(Message):
    """Posted with the lenses of this folder that fit the model."""

    def __init__(self, files: Sequence[Known]) -> None:
        super().__init__()
        self.files = files


class LensScreen(SearchListScreen):
    """A search line with the lenses below it: enter takes the selected one, esc closes."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "a file, a folder, or org/name:path")
        self._all = listed(host)
        self._about = Static(id="recall-about")

    def compose(self) -> ComposeResult:
        """Yield the line and the list."""
        with Vertical(id="recall") as box:
            box.border_title = Content("Lenses")
            box.border_subtitle = Content("enter takes it · ↑↓ choose · esc leaves")
            yield self._line
            yield self.choices
            yield self._about

    def on_mount(self) -> None:
        """Select the lens in use, and look for files, in a thread: a disk may not answer."""
        super().on_mount()
        Thread(target=self._look, name="llmscope-lenses", daemon=True).start()
        used = self._host.state.translator or ""
        self.choices.move(next((at for at, one in enumerate(self._all) if one.text == used), 0))
        self.explain()

    def _look(self) -> None:
        """Look for lenses in this folder; runs in its own thread."""
        from llmscope.learned.local_files import fitting_files

        info = self._host.state.info
        if info is not None:
            self.post_message(LensesFound(fitting_files(Path(), info)))

    @on(LensesFound)
    def _found(self, message: LensesFound) -> None:
        if message.files:
            chosen = self.choices.at
            self._all = listed(self._host, message.files)
            self.seek(self._line.value)
            self.choices.move(chosen - self.choices.at)
            self.explain()

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
        self._host.lenses.take(self._host, choice.text or None)

    def explain(self) -> None:
        """Say what the selected lens does."""
        chosen = self.choices.chosen
        said = "" if chosen is None else chosen.about
        self._about.update(Content.styled(said, self._host.text_styles.dim))
