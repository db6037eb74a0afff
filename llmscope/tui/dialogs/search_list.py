"""A search line with a list below it that follows what is typed: the palette, the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from llmscope.tui.dialogs.base import LONGEST_SEARCH, LineScreen, TextLine
from llmscope.tui.widgets.choice_list import Choices, ListEntry

if TYPE_CHECKING:
    from llmscope.tui.host import Host


class SearchLine(TextLine):
    """The search line. It binds the selection keys itself, so that they keep their order."""

    longest = LONGEST_SEARCH
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,ctrl+p", "screen.choose(-1)", "the one above", show=False),
        Binding("down,ctrl+n,ctrl+r", "screen.choose(1)", "the one below", show=False),
        Binding("pageup", "screen.page(-1)", "a page up", show=False),
        Binding("pagedown", "screen.page(1)", "a page down", show=False),
    ]


class SearchListScreen(LineScreen):
    """A search line with the matches below it: enter takes the selected one, esc closes.

    Each letter searches at once, so that enter takes what the line asks for, however fast it is
    typed.

    Attributes:
        nothing: what stands in place of an empty list: what could be there, and how it is made.
    """

    nothing: ClassVar[str] = Choices.nothing

    def __init__(self, host: Host, placeholder: str) -> None:
        super().__init__("", "")
        self._host = host
        self._line = SearchLine(placeholder=placeholder, compact=True, id="line")
        self._line.cursor_blink = False
        self.choices = self.make_list()
        self.choices.nothing = self.nothing

    def make_list(self) -> Choices:
        """Return the list widget."""
        return Choices()

    def matching(self, wanted: str) -> Sequence[ListEntry]:
        """Return what the list shows for the text of the line, the best match first."""
        raise NotImplementedError

    def take(self, choice: ListEntry) -> None:
        """Act on the chosen entry."""
        raise NotImplementedError

    def explain(self) -> None:
        """Describe the selected entry, where there is room for that."""

    def on_mount(self) -> None:
        """List everything, before anything is typed."""
        super().on_mount()
        self.seek("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """List only what matches the line."""
        event.stop()
        self.seek(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the selected entry, even if the line is empty (which closes other dialogs)."""
        event.stop()
        event.prevent_default()
        self.seek(event.value)
        if self.choices.chosen is not None and self.is_current:
            self.take(self.choices.chosen)

    def on_choices_taken(self, event: Choices.Taken) -> None:
        """Take the entry that was clicked."""
        event.stop()
        if self.is_current:
            self.take(event.choice)

    def action_choose(self, by: int) -> None:
        """Move the selection by `by` entries."""
        # The list may not have been updated for the last letters yet.
        self.seek(self._line.value)
        self.choices.move(by)
        self.explain()

    def action_page(self, by: int) -> None:
        """Move the selection by `by` pages."""
        self.action_choose(by * max(1, self.choices.size.height - 1))

    def seek(self, wanted: str) -> None:
        """Show what matches a text."""
        self.choices.show(self.matching(wanted), wanted.split())
        self.explain()


class DetailListScreen(SearchListScreen):
    """A titled box of a search line, the list, and the details of the selected entry.

    Attributes:
        heading: the title of the box.
    """

    heading: ClassVar[str]

    def __init__(self, host: Host, placeholder: str) -> None:
        super().__init__(host, placeholder)
        self._about = Static(id="recall-about")
        self._all: Sequence[ListEntry] = ()

    def matching(self, wanted: str) -> Sequence[ListEntry]:
        """Return the entries that contain all words of the line."""
        return containing(self._all, wanted)

    def compose(self) -> ComposeResult:
        """Yield the line, the list, and the details of the selected entry."""
        with Vertical(id="recall") as box:
            box.border_title = Content(self.heading)
            box.border_subtitle = Content("enter takes it · ↑↓ choose · esc leaves")
            yield self._line
            yield self.choices
            yield self._about

    def explain(self) -> None:
        """Show the explanation of the selected entry."""
        chosen = self.choices.chosen
        text = "" if chosen is None else chosen.about
        self._about.update(Content.styled(text, self._host.text_styles.dim))


def containing(choices: Sequence[ListEntry], wanted: str) -> list[ListEntry]:
    """Return the choices that contain every word of `wanted`, in any order and letter case."""
    words = wanted.casefold().split()
    return [choice for choice in choices if all(word in choice.haystack for word in words)]
