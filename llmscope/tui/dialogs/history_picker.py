"""ctrl+r, as in a shell: earlier prompts and some to begin with, found by typing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from llmscope.tui.dialogs.base import LineScreen, TextLine
from llmscope.tui.prompt.library import samples_for
from llmscope.tui.session.prompt_history import PromptRecord, read
from llmscope.tui.widgets.choice_list import Choice, Choices, whole

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk
    from llmscope.tui.prompt.editor import PromptEditor

EARLIER, SHIPPED = "earlier prompts", "prompts to begin with"
AGES = (("min", 60), ("h", 60), ("d", 24), ("wk", 7), ("yr", 52))
"""Units of an age, and how many of the one before each is."""


def open_list(desk: Desk) -> None:
    """List the prompts; the chosen one goes into the editor that has the keys, as one step."""
    desk.push_screen(RecallScreen(desk, desk.prompts.active))


def age(seconds: float) -> str:
    """How long ago something was, in a few letters."""
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


def earlier(found: Iterable[PromptRecord], now: float) -> list[Choice]:
    """The prompts of the history as choices, with their model and age."""
    return [
        Choice(EARLIER, one.text, one.text, aside=(one.model, age(now - one.time))) for one in found
    ]


def shipped(spec: str) -> list[Choice]:
    """The prompts that ship and suit a model, with what they show."""
    return [
        Choice(SHIPPED, one.prompt, one.title, about=one.about, aside=("", ""))
        for one in samples_for(spec)
    ]


def listed(desk: Desk, text: str) -> list[Choice]:
    """All prompts to choose from, the newest first, without the one that is there."""
    autosave = desk.own.autosave
    unwritten = [] if autosave is None else autosave.unwritten[::-1]
    found: dict[tuple[str, str], PromptRecord] = {}
    for one in (*unwritten, *(() if desk.own.anonymous else read())):
        found.setdefault((one.model, one.text), one)
    there = [one for one in found.values() if one.text != text]
    return [*earlier(there, time.time()), *shipped(desk.source.spec)]


class SearchLine(TextLine):
    """The line to search with. Keys that choose are its own, so that they keep their order."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,ctrl+p", "screen.choose(-1)", "the one above", show=False),
        Binding("down,ctrl+n,ctrl+r", "screen.choose(1)", "the one below", show=False),
        Binding("pageup", "screen.page(-1)", "a page up", show=False),
        Binding("pagedown", "screen.page(1)", "a page down", show=False),
    ]


class RecallScreen(LineScreen):
    """A line to search with, and below it what was found: enter takes it, esc leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # In the app it opens this very list.
        Binding("ctrl+r", "choose(1)", "the one below", show=False, priority=True),
    ]

    def __init__(self, desk: Desk, editor: PromptEditor) -> None:
        super().__init__("", "")
        self._desk, self._editor = desk, editor
        self._line = SearchLine(placeholder="search", compact=True, id="line")
        self._line.cursor_blink = False
        self._all = listed(desk, editor.text)
        self.choices = Choices(desk.inks)
        self._about = Static(id="recall-about")

    def compose(self) -> ComposeResult:
        """The line, the list, and more of the chosen one."""
        with Vertical(id="recall") as box:
            box.border_title = Content("Prompts")
            box.border_subtitle = Content("enter takes it · ↑↓ choose · esc leaves")
            yield self._line
            yield self.choices
            yield self._about

    def on_mount(self) -> None:
        """All of them, before anything is typed."""
        self._seek("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Only those that hold what is typed."""
        event.stop()
        self._seek(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the chosen one. An empty line says nothing against it, as it does elsewhere."""
        event.stop()
        event.prevent_default()
        self._seek(event.value)
        if self.choices.chosen is not None:
            self.take(self.choices.chosen)

    def on_choices_taken(self, event: Choices.Taken) -> None:
        """A click on one."""
        event.stop()
        self.take(event.choice)

    def take(self, choice: Choice) -> None:
        """Put it into the editor; one undo brings back what was there."""
        if not self.is_current:
            return
        self.action_leave()
        if choice.text != self._editor.text:
            self._editor.history.checkpoint()
            self._editor.replace_all(choice.text)
        self._desk.screen_stack[0].set_focus(self._editor)

    def action_choose(self, by: int) -> None:
        """The one below, or above."""
        # The list may not have heard of the last letters yet.
        self._seek(self._line.value)
        self.choices.move(by)
        self._explain()

    def action_page(self, by: int) -> None:
        """A page down, or up."""
        self.action_choose(by * max(1, self.choices.size.height - 1))

    def _seek(self, wanted: str) -> None:
        self.choices.show(matching(self._all, wanted), wanted.split())
        self._explain()

    def _explain(self) -> None:
        chosen = self.choices.chosen
        inks = self._desk.inks
        said = [] if chosen is None else [Content.styled(whole(chosen.text), inks.dim)]
        if chosen is not None and chosen.about:
            said.insert(0, Content.styled(whole(chosen.about), inks.text))
        self._about.update(Content("\n").join(said))


def matching(choices: Sequence[Choice], wanted: str) -> list[Choice]:
    """Those that hold every word that is wanted, in whatever order; letter case does not count."""
    words = wanted.casefold().split()
    return [one for one in choices if all(word in one.haystack for word in words)]
