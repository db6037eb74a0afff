"""Base classes of the modal dialogs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from rich.console import RenderableType
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Input, Static

from llmscope.support.text import forms
from llmscope.tui.actions.key_order import InOrder
from llmscope.tui.dialogs.dimmed_screen import DimmedScreen

if TYPE_CHECKING:
    from llmscope.tui.host import Host

HIDDEN = "?"
"""The stand-in for a character that cannot be shown in a one-line input."""
Answer = TypeVar("Answer")

LONGEST_LINE = 10_000
"""The most characters of a line."""
LONGEST_NAME = 4096
"""The most characters of a line that searches for names and takes new ones, such as paths."""
LONGEST_SEARCH = 200
"""The most characters of a line that searches on each key."""
OVERLAYS = Path(__file__).parents[1] / "overlays.tcss"


class Overlay(ModalScreen[ScreenResultType]):
    """A modal screen that does nothing more once it is closed.

    Keys come faster than screens open and close. A second dismissal, which a key typed ahead may
    ask for, is ignored; and so is whatever reaches the screen after the first, such as its own
    mount or what a thread found for it: its widgets may never have been there, or be gone.
    """

    CSS_PATH = OVERLAYS
    _dismissed = False

    @property
    def host(self) -> Host:
        """The app."""
        return cast("Host", self.app)

    @property
    def gone(self) -> bool:
        """Whether the screen was closed, perhaps before it was open."""
        return self._dismissed or self._pruning or self._closing

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Dismiss the screen, unless it is already dismissed."""
        if not self.is_current:
            return AwaitComplete()
        self._dismissed = True
        return super().dismiss(result)

    def call_after_refresh(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Call a function after the next redraw, unless the screen is gone by then."""

        def call() -> Any:
            return None if self.gone else callback(*args, **kwargs)

        return super().call_after_refresh(call)

    def _get_dispatch_methods(
        self, method_name: str, message: Message
    ) -> Iterable[tuple[type, Callable[[Message], Awaitable[Any]]]]:
        """Yield the handlers of a message; once the screen is gone, only those of Textual."""
        for cls, method in super()._get_dispatch_methods(method_name, message):
            if not self.gone or cls.__module__.startswith("textual."):
                yield cls, method

    def render(self) -> RenderableType:
        """Return the screen below, dimmed."""
        drawn = super().render()
        if isinstance(drawn, BackgroundScreen):
            return DimmedScreen(drawn.screen, drawn.color)
        return drawn


class Dialog(Overlay["Answer | None"], Generic[Answer]):
    """A modal that closes on a click and when the terminal is resized.

    Args:
        size: the size of the terminal.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._size_at_first = size

    def leave(self, answer: Answer | None = None) -> None:
        """Close with an answer; None is no answer."""
        self.dismiss(answer)

    def on_click(self, event: events.Click) -> None:
        """Close without an answer."""
        self.leave()

    def on_resize(self, event: events.Resize) -> None:
        """Close if the size changed: the regions that it points at have moved."""
        if event.size != self._size_at_first:
            self.leave()


class TextLine(InOrder, Input):
    """An input line that never passes control characters in its text to the terminal.

    Attributes:
        longest: the most characters that it takes; of a longer paste it takes the beginning.
    """

    longest: int = LONGEST_LINE

    def replace(self, text: str, start: int, end: int) -> None:
        """Replace a part of the line by a text, as far as there is room for it."""
        first, last = sorted((max(0, start), min(len(self.value), end)))
        room = max(0, self.longest - len(self.value) + last - first)
        if len(text) > room:
            self.restricted()
        super().replace(text[:room], start, end)

    @property
    def _value(self) -> Text:
        # One character for each: the cursor and the selection count characters.
        drawn = zip(self.value, forms(self.value, cells=False), strict=True)
        characters = (char if form == char != "\n" else HIDDEN for char, form in drawn)
        return Text("".join(characters), no_wrap=True, overflow="ignore", end="")


class LineScreen(Overlay[None]):
    """A modal with one input line at the bottom: enter submits it, esc closes.

    Args:
        words: the label above the line.
        value: the initial content of the line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", show=False),
        Binding("ctrl+c", "leave", "leave", show=False, priority=True),
    ]

    def __init__(self, words: str, value: str) -> None:
        super().__init__()
        self._label = Static(Content(words), id="ask-words")
        self._line = TextLine(value, compact=True, id="line")
        self._line.cursor_blink = False
        self._ahead: list[events.Key] | None = []

    def compose(self) -> ComposeResult:
        """Yield the label and the input line."""
        with Vertical(id="ask"):
            yield self._label
            yield self._line

    def on_mount(self) -> None:
        """Schedule the focus of the line, which then replays the keys typed ahead."""
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._line.focus()
        ahead, self._ahead = self._ahead or (), None
        # Keys that were sent to a pane first arrive by another route, and later.
        for key in sorted(ahead, key=lambda key: key.time):
            self._line._forward_event(key)

    def typed_ahead(self, event: events.Key) -> None:
        """Forward a key pressed before the line had the focus, if the line handles that key.

        A key that the line got this way and refused, such as one that scrolls where nothing can be
        scrolled, comes back here, and is not forwarded again.
        """
        if event._sender is self._line or not self._line.takes(event):
            return
        event.stop()
        event.prevent_default()
        key = events.Key(event.key, event.character)
        key.set_sender(self._line)
        key.time = event.time
        if self._ahead is None:
            self._line._forward_event(key)
        else:
            self._ahead.append(key)

    def on_key(self, event: events.Key) -> None:
        """Forward a key to the line while nothing has the focus."""
        if self.focused is None:
            self.typed_ahead(event)

    def action_leave(self) -> None:
        """Close without submitting."""
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Submit the line; close if it is empty."""
        event.stop()
        if not self.is_current:
            return
        if event.value.strip():
            self.submit(event)
        else:
            self.action_leave()

    def submit(self, event: Input.Submitted) -> None:
        """Handle a submitted line that is not empty."""
        raise NotImplementedError

    def say(self, words: str) -> None:
        """Replace the label by `words`."""
        self._label.update(Content(words.replace("\n", " ")))
