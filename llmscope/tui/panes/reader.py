"""The reader: the text as it reads, each token coloured by one of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llmscope.draw.painters.reader import WrappedText, gutter_of, paint_reader, wrap_tokens
from llmscope.draw.painters.strip import strip_scale
from llmscope.draw.painting import Painting
from llmscope.draw.styles import styles_for
from llmscope.engine.events import Token, Want
from llmscope.figure import Figure, Focus
from llmscope.support.text import display_text
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.token_measures import measure_numbers, measure_of, measure_want, upper_end
from llmscope.tui.state.view_state import ViewState


class ReaderPane(FigurePane):
    """The whole text, wrapped; only the lines around the cursor are drawn."""

    key: ClassVar[str] = "reader"
    words: ClassVar[str] = (
        "reader, read, long text, wrapped text, text view, heatmap of the text, coloured text, "
        "colored text, highlighted text"
    )
    usage: ClassVar[str] = """\
The text as it reads, wrapped at words; each line begins with the position of its first token. The \
colour of a token is one of its numbers, which {measure} goes round: surprisal, entropy, KL to \
prompt B or to the unedited pass, and what the token under the cursor attends to, in the mean over \
the heads of the layer or in one head. Up and down move by lines, {page-up} and {page-down} by \
pages, {sentence-next} and {sentence-previous} by sentences, {turn-next} and {turn-previous} by \
turns of a chat."""
    row: ClassVar[str] = "line"
    changes: ClassVar[bool] = False
    _text: WrappedText | None = None

    def want(self, state: ViewState) -> Want:
        """Return the want for the figure that holds the measure."""
        return measure_want(self.key, state)

    def heading(self, result: Shown) -> str:
        """Return the title: what colours the text."""
        measure, extra = measure_of(self._state), result.figure.extra
        parts = ["Text", measure.title]
        if result.figure.lens == "attention" and result.figure.axes:
            word = display_text(result.figure.axes[0].labels[0], whitespace=True)
            head = extra.get("head")
            where = f"layer {extra['layer']}" + ("" if head is None else f" head {head}")
            parts = ["Text", f"attention of ‹{word.replace(' · ', ' ')}›", where]
        return " · ".join(parts)

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the lines around the cursor."""
        measure = measure_of(self._state)
        values = measure_numbers(result.figure, measure)
        if values is not None and len(values) != len(result.tokens):
            values = None
        return self._paint(result.tokens, values, measure.unit, focus.position)

    def _picture(self) -> Painting:
        if self._shown is None and self._state.tokens:  # the text is known before its numbers
            return self._paint(self._state.tokens, None, "", self._state.focus.position)
        return super()._picture()

    def _paint(
        self, tokens: Sequence[Token], values: NDArray[np.float32] | None, unit: str, cursor: int
    ) -> Painting:
        width, height = self.size
        style_set = styles_for(self._look)
        labels = tuple(token.text for token in tokens)
        special = tuple(token.special for token in tokens)
        room = width - gutter_of(len(labels), width) - 1  # the last column shows the place
        self._text = wrap_tokens(labels, room, self._look.ascii, self._text)
        high = 0.0 if values is None else upper_end(values, special, unit)
        return paint_reader(
            self._text,
            values,
            height,
            style_set,
            cursor,
            width=width,
            scale=strip_scale(high, signed=values is not None and bool((values < 0).any())),
            unit=unit,
            special=special,
        )

    @property
    def window(self) -> tuple[int, int] | None:
        """The tokens that are drawn, as a half-open range; None before the first figure."""
        places = [place for _, _, _, place in self._painting.boxes]
        return (min(places), max(places) + 1) if places else None

    def step(self, state: ViewState, by: int) -> ViewState:
        """Move by `by` lines."""
        text = self._text
        if text is None or not 0 <= state.focus.position < len(text.line_of):
            return super().step(state, by)
        return state.move_to(position=text.moved(state.focus.position, by))

    def value_at(self, hit: Mapping[str, int]) -> str:
        """Return the number of the token under the mouse in words; empty without one."""
        result, place = self._shown, hit.get("position")
        values = None if result is None else measure_numbers(result.figure, measure_of(self._state))
        if result is None or place is None or values is None or not place < len(values):
            return ""
        measure = measure_of(self._state)
        unit = "" if measure.unit == "probability" else f" {measure.unit}"
        word = display_text(result.tokens[place].text, whitespace=True)
        return f"‹{word}› at {place:,}: {measure.title} {float(values[place]):.4g}{unit}"
