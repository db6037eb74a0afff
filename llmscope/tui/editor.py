"""The prompt editor: its text with the tokens visible in place."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.document._document_navigator import DocumentNavigator
from textual.document._wrapped_document import WrappedDocument
from textual.widgets import TextArea

from llmscope.engine.events import Token
from llmscope.tui.actions import bindings
from llmscope.tui.document import PromptDocument
from llmscope.tui.scene import shared_length


class PromptEditor(TextArea):
    """A text area that tints every other token and marks the one under the shared cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("prompt")]
    document: PromptDocument
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "prompt--even",
        "prompt--odd",
        "prompt--focus",
    }

    def __init__(self, text: str, *, id: str) -> None:  # noqa: A002
        self._tokens: tuple[Token, ...] = ()
        self._tokenized = ""
        self._marked = -1
        super().__init__(
            text,
            id=id,
            soft_wrap=True,
            highlight_cursor_line=False,
            placeholder=Content("type a prompt"),
        )
        self.cursor_blink = False
        self.match_cursor_bracket = False
        self.border_title = Content("Prompt")

    def on_mount(self) -> None:
        """Begin where a person would go on typing."""
        self.move_cursor(self.document.end)

    def show_tokens(self, text: str, tokens: Sequence[Token], focus: int) -> None:
        """Tint the tokens of a text; where the editor holds another one, only what they share."""
        if (self._tokenized, self._tokens, self._marked) == (text, tuple(tokens), focus):
            return
        self._tokenized, self._tokens, self._marked = text, tuple(tokens), focus
        self._line_cache.clear()
        self.refresh()

    def replace_all(self, text: str) -> None:
        """Put another prompt in the place of this one; undo brings the old one back."""
        self.replace(text, self.document.start, self.document.end)
        self.move_cursor(self.document.end)

    def say(self, note: Content | None) -> None:
        """A note about this very prompt, on the lower border."""
        self.border_subtitle = note

    @property
    def token_at_cursor(self) -> int | None:
        """The token that the text cursor stands in or behind; None while a pass is awaited."""
        if self.text != self._tokenized:
            return None
        place = self.document.get_index_from_location(self.cursor_location)
        spans = [(token.start, token.end, token.position) for token in self._tokens]
        ends = [end for start, end, _ in spans if end > start]
        found = bisect_left(ends, place)
        if found == len(ends):
            return None
        return next(
            position for start, end, position in spans if end == ends[found] and end > start
        )

    def _set_document(self, text: str, language: str | None) -> None:
        # The base class would split at every character that Unicode calls a line end, and so
        # change the prompt.
        self._highlight_query = None
        self.document = PromptDocument(text)
        self.wrapped_document = WrappedDocument(self.document, tab_width=self.indent_width)
        self.navigator = DocumentNavigator(self.wrapped_document)
        self._build_highlight_map()
        self.move_cursor((0, 0))
        self._rewrap_and_refresh_virtual_size()

    def get_line(self, line_index: int) -> Text:
        """A line with the backgrounds of its tokens."""
        line = Text(self.document.get_line(line_index), end="", no_wrap=True)
        start = self.document.get_index_from_location((line_index, 0))
        shared = shared_length(self.text, self._tokenized)
        styles = self._styles()
        visible = 0
        for token in self._tokens:
            if token.end > shared or token.start >= start + len(line.plain):
                break
            if token.end == token.start:
                continue
            visible += 1
            if token.end > start:
                which = 2 if token.position == self._marked else visible % 2
                line.stylize(styles[which], max(0, token.start - start), token.end - start)
        return line

    def _styles(self) -> tuple[Style, Style, Style]:
        names = ("prompt--even", "prompt--odd", "prompt--focus")
        even, odd, focus = (self.get_component_rich_style(name, partial=True) for name in names)
        return even, odd, focus

    async def _on_paste(self, event: events.Paste) -> None:
        # Terminals send carriage returns for the line ends of what is pasted. The base class's own
        # handler is called next, by the framework.
        event.text = event.text.replace("\r\n", "\n").replace("\r", "\n")
