"""The prompt picker (ctrl+r, as in a shell): earlier and bundled prompts, searched by typing."""

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
from llmscope.tui.session.state_folder import flaw
from llmscope.tui.widgets.choice_list import Choice, Choices, whole

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.prompt.editor import PromptEditor

EARLIER, SHIPPED = "earlier prompts", "prompts to begin with"
AGES = (("min", 60), ("h", 60), ("d", 24), ("wk", 7), ("yr", 52))
"""Units of an age; a unit is this many of the unit before it."""


def open_list(host: Host) -> None:
    """Open the picker; the chosen prompt goes into the active editor, as one undo step."""
    host.push_screen(RecallScreen(host, host.prompts.active))
    if said := flaw():
        host.tell(said, "warning")


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


def earlier(found: Iterable[PromptRecord], now: float) -> list[Choice]:
    """Return prompts of the history as choices, with their model and age at time `now`."""
    return [
        Choice(EARLIER, one.text, one.text, aside=(one.model, age(now - one.time))) for one in found
    ]


def shipped(spec: str) -> list[Choice]:
    """Return the bundled prompts that suit a model, with what they show."""
    return [
        Choice(SHIPPED, one.prompt, one.title, about=one.about, aside=("", ""))
        for one in samples_for(spec)
    ]


def listed(host: Host, text: str) -> list[Choice]:
    """Return all prompts to choose from, newest first, except for `text` in the history."""
    autosave = host.user.autosave
    unwritten = [] if autosave is None else autosave.unwritten[::-1]
    found: dict[tuple[str, str], PromptRecord] = {}
    for one in (*unwritten, *(() if host.user.anonymous else read())):
        found.setdefault((one.model, one.text), one)
    there = [one for one in found.values() if one.text != text]
    return [*earlier(there, time.time()), *shipped(host.source.spec)]


class SearchLine(TextLine):
    """The search line. It binds the selection keys itself, so that they keep their order."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,ctrl+p", "screen.choose(-1)", "the one above", show=False),
        Binding("down,ctrl+n,ctrl+r", "screen.choose(1)", "the one below", show=False),
        Binding("pageup", "screen.page(-1)", "a page up", show=False),
        Binding("pagedown", "screen.page(1)", "a page down", show=False),
    ]


class RecallScreen(LineScreen):
    """A search line with the matches below it: enter takes the selected one, esc closes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # The app binds it to opening this list.
        Binding("ctrl+r", "choose(1)", "the one below", show=False, priority=True),
    ]

    def __init__(self, host: Host, editor: PromptEditor) -> None:
        super().__init__("", "")
        self._host, self._editor = host, editor
        self._line = SearchLine(placeholder="search", compact=True, id="line")
        self._line.cursor_blink = False
        self._all = listed(host, editor.text)
        self.choices = Choices(host.text_styles)
        self._about = Static(id="recall-about")

    def compose(self) -> ComposeResult:
        """Yield the line, the list, and the details of the selected prompt."""
        with Vertical(id="recall") as box:
            box.border_title = Content("Prompts")
            box.border_subtitle = Content("enter takes it · ↑↓ choose · esc leaves")
            yield self._line
            yield self.choices
            yield self._about

    def on_mount(self) -> None:
        """List all prompts, before anything is typed."""
        self._seek("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """List only the prompts that match the line."""
        event.stop()
        self._seek(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the selected prompt, even if the line is empty (which closes other dialogs)."""
        event.stop()
        event.prevent_default()
        self._seek(event.value)
        if self.choices.chosen is not None:
            self.take(self.choices.chosen)

    def on_choices_taken(self, event: Choices.Taken) -> None:
        """Take the prompt that was clicked."""
        event.stop()
        self.take(event.choice)

    def take(self, choice: Choice) -> None:
        """Put the prompt into the editor; one undo restores the previous text."""
        if not self.is_current:
            return
        self.action_leave()
        if choice.text != self._editor.text:
            self._editor.history.checkpoint()
            self._editor.replace_all(choice.text)
        self._host.screen_stack[0].set_focus(self._editor)

    def action_choose(self, by: int) -> None:
        """Move the selection by `by` prompts."""
        # The list may not have been updated for the last letters yet.
        self._seek(self._line.value)
        self.choices.move(by)
        self._explain()

    def action_page(self, by: int) -> None:
        """Move the selection by `by` pages."""
        self.action_choose(by * max(1, self.choices.size.height - 1))

    def _seek(self, wanted: str) -> None:
        self.choices.show(matching(self._all, wanted), wanted.split())
        self._explain()

    def _explain(self) -> None:
        chosen = self.choices.chosen
        text_styles = self._host.text_styles
        said = [] if chosen is None else [Content.styled(whole(chosen.text), text_styles.dim)]
        if chosen is not None and chosen.about:
            said.insert(0, Content.styled(whole(chosen.about), text_styles.text))
        self._about.update(Content("\n").join(said))


def matching(choices: Sequence[Choice], wanted: str) -> list[Choice]:
    """Return the choices that contain every word of `wanted`, in any order and letter case."""
    words = wanted.casefold().split()
    return [one for one in choices if all(word in one.haystack for word in words)]
