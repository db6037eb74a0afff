"""The prompt picker (ctrl+r, as in a shell): earlier and bundled prompts, searched by typing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from llmscope.tui.dialogs.search_list import DetailListScreen
from llmscope.tui.prompt.library import samples_for
from llmscope.tui.session.prompt_history import PromptRecord, read
from llmscope.tui.session.state_folder import flaw
from llmscope.tui.widgets.choice_list import ListEntry, whole

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.prompt.editor import PromptEditor

EARLIER, SHIPPED = "earlier prompts", "prompts to begin with"
AGES = (("min", 60), ("h", 60), ("d", 24), ("wk", 7), ("yr", 52))
"""Units of an age; a unit is this many of the unit before it."""


def open_list(host: Host) -> None:
    """Open the picker; the chosen prompt goes into the active editor, as one undo step."""
    host.push_screen(RecallScreen(host, host.prompts.active))
    if warning := flaw():
        host.tell(warning, "warning")


def age(seconds: float) -> str:
    """Format an age in short form, such as `3 h`."""
    count, unit = max(0.0, seconds) / 60, "now"
    for name, many in AGES:
        if name != "min":
            if count < many:
                break
            count /= many
        elif count < 1:
            break
        unit = name
    return unit if unit == "now" else f"{int(count)} {unit}"


def earlier(records: Iterable[PromptRecord], now: float) -> list[ListEntry]:
    """Return prompts of the history as choices, with their model and age at time `now`."""
    return [
        ListEntry(EARLIER, record.text, record.text, aside=(record.model, age(now - record.time)))
        for record in records
    ]


def shipped(spec: str) -> list[ListEntry]:
    """Return the bundled prompts that suit a model, with what they show."""
    return [
        ListEntry(SHIPPED, sample.prompt, sample.title, about=sample.about, aside=("", ""))
        for sample in samples_for(spec)
    ]


def listed(host: Host, text: str) -> list[ListEntry]:
    """Return all prompts to choose from, newest first, except for `text` in the history."""
    autosave = host.user.autosave
    unwritten = [] if autosave is None else autosave.unwritten[::-1]
    records: dict[tuple[str, str], PromptRecord] = {}
    for record in (*unwritten, *(() if host.user.anonymous else read())):
        records.setdefault((record.model, record.text), record)
    there = [record for record in records.values() if record.text != text]
    return [*earlier(there, time.time()), *shipped(host.source.spec)]


class RecallScreen(DetailListScreen):
    """A search line with the prompts below it: enter takes the selected one, esc closes."""

    heading = "Prompts"
    nothing = (
        "no prompt holds all of these words\n"
        "listed are those that were typed before, and the examples of this model"
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        # The app binds it to opening this list.
        Binding("ctrl+r", "choose(1)", "the one below", show=False, priority=True),
    ]

    def __init__(self, host: Host, editor: PromptEditor) -> None:
        super().__init__(host, "search")
        self._editor = editor
        self._all = listed(host, editor.text)

    def take(self, choice: ListEntry) -> None:
        """Put the prompt into the editor; one undo restores the previous text."""
        self.action_leave()
        if choice.text != self._editor.text:
            self._editor.history.checkpoint()
            self._editor.replace_all(choice.text)
        self._host.screen_stack[0].set_focus(self._editor)

    def explain(self) -> None:
        """Show the whole text of the selected prompt, and what it shows."""
        chosen = self.choices.chosen
        text_styles = self._host.text_styles
        parts = [] if chosen is None else [Content.styled(whole(chosen.text), text_styles.dim)]
        if chosen is not None and chosen.about:
            parts.insert(0, Content.styled(whole(chosen.about), text_styles.text))
        self._about.update(Content("\n").join(parts))
