"""The prompt editor: a text area that shows the tokens in place."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.content import Content
from textual.document._document import EditResult
from textual.document._document_navigator import DocumentNavigator
from textual.document._edit import Edit
from textual.geometry import Offset
from textual.strip import Strip
from textual.style import Style as ContentStyle
from textual.widgets import TextArea

from llmscope.support.arguments import LONGEST_TEXT
from llmscope.support.text import shared_length
from llmscope.tui.actions.key_order import InOrder
from llmscope.tui.prompt.long_line import LongLine, PromptWrap
from llmscope.tui.session.undo_history import CHANGES, UndoHistory
from llmscope.tui.state.context_marker import context_end
from llmscope.tui.state.document import PromptDocument
from llmscope.tui.theme.textual_theme import PARTS, ROLE_HUES

if TYPE_CHECKING:
    from llmscope.engine.events import Token
    from llmscope.models.tokenizer.roles import RoleSpan

LONG = 2000
"""Characters of a line from which on only its visible rows are built."""
LONGEST_LINE = 250_000
"""Characters of a line that a paste may reach: few enough that each letter after it shows at once.
A whole prompt may reach `LONGEST_TEXT`."""
LETTERS = 1000
"""Characters that may always be pasted, as a terminal may send typed letters together."""
FRAME = "frame"
"""The parts of a text that its chat template adds around the messages."""
HERE = "▸"
ROLE_STYLES = frozenset(
    f"prompt--{name}-{kind}" for name in (*ROLE_HUES, *PARTS, FRAME) for kind in ("even", "odd")
)
"""The component classes that only a text of a chat template is drawn with."""


class PromptEditor(InOrder, TextArea):
    """A text area that tints every other token and marks the one under the shared cursor.

    In a text that follows a chat template, each role has its own tints. The title names the roles,
    and marks the one whose text the cursor is in.
    """

    document: PromptDocument
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "prompt--even",
        "prompt--odd",
        "prompt--focus",
        "prompt--special",
        "prompt--written",
        *ROLE_STYLES,
    }

    def __init__(
        self,
        text: str,
        *,
        id: str,  # noqa: A002
        past: UndoHistory,
        placeholder: str = "type a prompt",
    ) -> None:
        self._called = "Prompt"
        self._tokens: tuple[Token, ...] = ()
        self._tokenized = ""
        self._tinted_places: tuple[tuple[Token, bool], ...] = ()
        self._tinted: dict[int, Text] = {}
        self._tinted_state: tuple[object, ...] = ()
        self._marked = -1
        self._roles: tuple[RoleSpan, ...] = ()
        self._parts: list[tuple[int, str]] = []
        self._written: tuple[tuple[int, int], ...] = ()
        self._note = ""
        super().__init__(
            text,
            id=id,
            soft_wrap=True,
            highlight_cursor_line=False,
            max_checkpoints=CHANGES,
            placeholder=Content(placeholder),
        )
        past.put_into(self.history)
        self.cursor_blink = False
        self.match_cursor_bracket = False
        self.border_title = Content(self._called)

    def on_mount(self) -> None:
        """Put the text cursor at the end."""
        self.move_cursor(self.document.end)

    def _get_component_classes(self) -> frozenset[str]:  # type: ignore[override]
        """Return all, without those of roles in a plain text.

        Textual matches each with all rules whenever the focus comes or goes, and at each start.
        """
        every = super()._get_component_classes()
        return every if self._roles else every - ROLE_STYLES

    def show_tokens(self, text: str, tokens: Sequence[Token], focus: int) -> None:
        """Tint the tokens of a text; if the editor's text differs, only the shared beginning."""
        if (self._tokenized, self._tokens, self._marked) == (text, tuple(tokens), focus):
            return
        if self._tokens != tuple(tokens):
            self._tinted_places = tinted_places(tokens)
        self._tokenized, self._tokens, self._marked = text, tuple(tokens), focus
        self._repaint()
        self._show_marked()

    def on_resize(self) -> None:
        """Keep in sight what the new rows have to show."""
        self.call_after_refresh(self.scroll_cursor_visible if self.has_focus else self._show_marked)

    def on_focus(self) -> None:
        """Show the text cursor, which moves again."""
        self.call_after_refresh(self.scroll_cursor_visible)

    def on_blur(self) -> None:
        """Show the token under the shared cursor: the text cursor moves no more."""
        self.call_after_refresh(self._show_marked)

    def _show_marked(self) -> None:
        """Scroll to the token under the shared cursor, unless the text cursor has the focus.

        Without a token, as while the model loads, scroll to the text cursor.
        """
        if self.has_focus or not self.size.height:
            return
        here = next((token for token in self._tokens if token.position == self._marked), None)
        if here is None or self.text != self._tokenized:
            self.scroll_cursor_visible()
            return
        place = self.document.get_location_from_index(here.start)
        row, top = self.wrapped_document.location_to_offset(place).y, self.scroll_offset.y
        if not top <= row < top + self.size.height:
            self.scroll_to(y=row - self.size.height // 2, animate=False)

    def show_roles(self, roles: Sequence[RoleSpan]) -> None:
        """Tint the text of each role; an empty sequence stands for a plain text."""
        if self._roles == tuple(roles):
            return
        self._roles = tuple(roles)
        # The start and the role of each part, which reaches to the next one.
        self._parts = [(0, FRAME)] if roles else []
        for span in self._roles:
            self._parts += [(span.start, span.role), (span.end, FRAME)]
        self.set_class(bool(roles), "-chat")
        self.app.stylesheet.apply(self)  # the title is drawn now
        self._repaint()

    def show_written(self, spans: Sequence[tuple[int, int]], note: str) -> None:
        """Mark the generated parts of the text; `note` is added to the title."""
        if (self._written, self._note) != (tuple(spans), note):
            self._written, self._note = tuple(spans), note
            self._repaint()

    def edit(self, edit: Edit) -> EditResult:
        """Edit as the base class does, and show a row that the edit added at once."""
        rows = self.wrapped_document.height
        result = super().edit(edit)
        if self.wrapped_document.height != rows:
            # The base class has scrolled before the new number of rows was known.
            self.call_after_refresh(self.scroll_cursor_visible)
        return result

    def scroll_cursor_visible(self, center: bool = False, animate: bool = False) -> Offset:
        """Scroll as the base class does, unless the cursor is where there is no text any more.

        That occurs in the middle of an undo of many rows, when the scroll bar disappears before the
        cursor is moved.
        """
        if self.cursor_location[0] >= self.document.line_count:
            return Offset(0, 0)
        return super().scroll_cursor_visible(center, animate)

    def replace_all(self, text: str) -> None:
        """Replace the prompt by another one; undo brings the old one back."""
        self.replace(text, self.document.start, self.document.end)
        self.move_cursor(self.document.end)

    @property
    def last_step(self) -> object:
        """Return the step that undo would take back, for `rewrite`; None if there is no step."""
        stack = self.history._undo_stack
        return stack[-1] if stack else None

    def rewrite(self, start: int, text: str, *, joined: object = None) -> None:
        """Replace all text from the index `start` on.

        Args:
            joined: the last step, if one undo is to take both back; None keeps them separate.
        """
        document, stack = self.document, self.history._undo_stack
        follows = self.cursor_location == document.end
        self.history.checkpoint()
        self.replace(text, document.get_location_from_index(start), document.end)
        if joined is not None and len(stack) > 1 and stack[-2] is joined:
            stack[-2].extend(stack.pop())
        if follows:
            self.move_cursor(self.document.end)

    def turn_to(self, text: str, past: UndoHistory) -> None:
        """Hold the prompt of another model, with that prompt's undo history."""
        self._tokens, self._tokenized, self._marked = (), "", -1
        self._tinted_places = ()
        self.load_text(text)
        past.put_into(self.history)
        self.move_cursor(self.document.end)
        self._repaint()

    def called(self, name: str) -> None:
        """Set the editor's name in the title."""
        if name != self._called:
            self._called = name
            self.border_title = self._title()

    def say(self, note: Content | None) -> None:
        """Show a note about the prompt on the lower border; None removes it."""
        self.border_subtitle = note

    def _repaint(self) -> None:
        self._line_cache.clear()
        self.border_title = self._title()
        self.refresh()

    def _title(self) -> Content:
        here = next((token for token in self._tokens if token.position == self._marked), None)
        speaker = self._part(here.start) if here and self.text == self._tokenized else ""
        words: list[Content] = []
        for role in dict.fromkeys(span.role for span in self._roles):
            tint = self.get_component_rich_style(f"prompt--{role}-odd", partial=True)
            style = ContentStyle.from_rich_style(tint + Style(underline=False))
            words.append(Content.assemble((f"{HERE if role == speaker else ''}{role}", style)))
        if (cut := context_end(self.text)) is not None:
            before = sum(token.end <= cut for token in self._tokens)
            words.append(Content(f"context {before} · query {len(self._tokens) - before} tokens"))
        if self._written:
            spans = self._written
            count = sum(
                any(a <= token_here.start < b for a, b in spans) for token_here in self._tokens
            )
            words.append(Content(f"{count} written"))
        if self._note:
            words.append(Content(self._note))
        return Content(" · ").join([Content(self._called), *words])

    def _part(self, place: int) -> str:
        """Return the role at a place in the text, or `FRAME`; empty in plain text."""
        at = bisect_right(self._parts, place, key=lambda part: part[0])
        return self._parts[at - 1][1] if at else ""

    @property
    def token_at_cursor(self) -> int | None:
        """Return the token at or before the text cursor; None while a pass is awaited."""
        if self.text != self._tokenized:
            return None
        place = self.document.get_index_from_location(self.cursor_location)
        spans = [(token.start, token.end, token.position) for token in self._tokens]
        ends = [end for start, end, _ in spans if end > start]
        index = bisect_left(ends, place)
        if index == len(ends):
            return None
        return next(
            position for start, end, position in spans if end == ends[index] and end > start
        )

    def _set_document(self, text: str, language: str | None) -> None:
        # The base class would split at every character that Unicode calls a line end, and so change
        # the prompt.
        self._highlight_query = None
        self.document = PromptDocument(text)
        self.wrapped_document = PromptWrap(self.document, tab_width=self.indent_width)
        self.navigator = DocumentNavigator(self.wrapped_document)
        self._build_highlight_map()
        self.move_cursor((0, 0))
        self._rewrap_and_refresh_virtual_size()

    def get_line(self, line_index: int) -> Text:
        """Return a line with the backgrounds of its roles and tokens.

        The base class asks once for each row that a line is wrapped to, and draws on the result.
        """
        text = self.text
        sight = self._sight()
        what = (text, self._tokenized, self._tokens, self._marked, self._roles, self._written)
        state = (*what, sight, self.app.theme)
        if self._tinted_state != state:
            self._tinted_state, self._tinted = state, {}
        if line_index not in self._tinted:
            self._tinted[line_index] = self._tint(line_index, text, sight)
        return self._tinted[line_index].copy()

    def render_line(self, y: int) -> Strip:
        """Return a line; an empty one where there is no column, to which no text can be wrapped."""
        return super().render_line(y) if self.content_size.width > 0 else Strip.blank(0)

    def _sight(self) -> tuple[int, int]:
        """Return the part of the text that is on screen, and as much again on either side.

        Every row is drawn by cutting it out of its whole, tinted line: in a prompt of thousands of
        tokens on one line, only the visible tokens are worth tinting.
        """
        rows = max(self.size.height, 1)
        top = max(0, self.scroll_offset.y - rows)
        ends = (top, min(self.wrapped_document.height, top + 3 * rows))
        first, last = (
            self.document.get_index_from_location(
                self.wrapped_document.offset_to_location(Offset(0, row))
            )
            for row in ends
        )
        return first, len(self.text) if ends[1] == self.wrapped_document.height else last

    def _tint(self, line_index: int, text: str, sight: tuple[int, int]) -> Text:
        line_text = self.document.get_line(line_index)
        line = Text(line_text, end="", no_wrap=True)
        if len(line_text) > LONG:
            line = LongLine(line_text, end="", no_wrap=True)
            line.rows = self.wrapped_document.get_offsets(line_index)
        start = self.document.get_index_from_location((line_index, 0))
        shared = shared_length(text, self._tokenized)
        end = start + len(line.plain)
        styles: dict[str, Style] = {}

        def tint(name: str, begin: int, stop: int) -> None:
            if name not in styles:
                styles[name] = self.get_component_rich_style(f"prompt--{name}", partial=True)
            line.stylize(styles[name], max(0, begin - start), stop - start)

        for (begin, name), (stop, _) in pairwise([*self._parts, (end, "")]):
            if begin < min(stop, end) and stop > start:
                tint(f"{name}-even", begin, stop)
        marked = (0, 0)
        places = self._tinted_places
        first = bisect_right(
            places, max(start, sight[0]), key=lambda token_place: token_place[0].end
        )
        for token, even in islice(places, first, None):
            place = (token.start, token.end)
            if token.end > shared or token.start >= min(end, sight[1]):
                break
            if token.position == self._marked:
                marked = place
            part = self._part(token.start)
            tint(f"{part}{'-' * bool(part)}{'even' if even else 'odd'}", *place)
            if token.special:
                tint("special", *place)
        for begin, stop in self._written:
            if begin < min(stop, end) and stop > start:
                tint("written", begin, stop)
        if marked[1] > start:
            tint("focus", *marked)
        if start == context_end(text):
            tint("special", start, end)
        return line

    async def _on_paste(self, event: events.Paste) -> None:
        # Terminals send carriage returns for the line ends of pasted text. The framework calls the
        # base class's own handler next.
        event.text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        if reason := self._too_long(event.text):
            event.prevent_default()
            event.stop()
            self.app.notify(reason, severity="error", timeout=10, markup=False)

    def _too_long(self, pasted: str) -> str:
        """Return why a text cannot be pasted; empty if it can. Letters are always accepted."""
        if len(pasted) <= LETTERS:
            return ""
        length = len(self.text) - len(self.selected_text) + len(pasted)
        line = len(self.document.get_line(self.cursor_location[0]))
        line += max(map(len, pasted.split("\n")))
        return _reason(length, line, "not pasted: ")


def tinted_places(tokens: Sequence[Token]) -> tuple[tuple[Token, bool], ...]:
    """Return the tokens that have a place in the text, and whether each has the even tint.

    The tokens of one character share its place, and are tinted as one.
    """
    places: list[tuple[Token, bool]] = []
    visible, before = 0, (0, 0)
    for token in tokens:
        place = (token.start, token.end)
        if token.end > token.start:
            visible += place != before
            before = place
            places.append((token, visible % 2 == 0))
    return tuple(places)


def too_long(text: str) -> str:
    """Return why a text is too long for the editor; empty if it is not.

    A longer text that is in the editor already is drawn, but each letter takes seconds.
    """
    return _reason(len(text), max(map(len, text.split("\n"))), "")


def _reason(length: int, line: int, before: str) -> str:
    if length > LONGEST_TEXT:
        return f"{before}{length:,} characters, and the prompt holds {LONGEST_TEXT:,} at most"
    if line > LONGEST_LINE:
        return f"{before}a line of {line:,} characters, and one holds {LONGEST_LINE:,} at most"
    return ""
