"""The list of edits to the forward pass, drawn from the view state without the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.content import Content

from llmscope.draw import styles_for
from llmscope.draw.cells import Line, finish, fit, plain_text, wrap
from llmscope.draw.grid.window import Window
from llmscope.draw.painting import Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import Styles
from llmscope.edits import Edit, number
from llmscope.support.text import VISIBLE, VISIBLE_ASCII
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.state.offered_edits import Offered
from llmscope.tui.state.view_state import ViewState

ON, OFF, WRONG = "✓", "·", "✗"
NONE_YET = "{edit-zero} ablates what is under the cursor, {edit-write} writes an edit:"
WAITS = "waits for a prompt B"
NO_B = "no prompt B: {keep-b} keeps this prompt as B, {write-b} writes it"
Fill = Callable[[str], str]


class EditsPane(FigurePane):
    """The edits in order, which of them are on, and prompt B."""

    key: ClassVar[str] = "edits"
    also_reads: ClassVar[tuple[str, ...]] = ("next-token",)
    least_rows: ClassVar[int] = 5
    most_rows: ClassVar[int | None] = 12
    words: ClassVar[str] = "edits, list of edits, interventions, active edits"
    usage: ClassVar[str] = """\
{edit-zero} in any pane ablates what is under the cursor there (a head, a neuron, a layer), and \
takes that back; {edit-write} writes any edit, and in this pane the chosen one anew. What is wrong \
stays in the line, with the reason.

Up and down choose an edit. {edit-toggle} switches it off or on, {edit-remove} removes it, \
{edit-weaker} and {edit-stronger} turn the strength of a steering or a scale, from any pane, \
through zero and on; {edit-earlier} makes it earlier in the order, the first one last. {edits-all} \
switches all off at once and on again, to compare by eye. {change} shows in every pane what the \
edits changed instead of what is: with them less without them. Where no edit is made and there is \
a prompt B, it is A − B.

✓ is on, · off, ✗ what the model cannot take, with the reason, or what waits for a prompt B. \
{keep-b} keeps the present prompt as B and {write-b} writes one; {keep-b} once more is no B \
again."""
    row: ClassVar[str] = "edit"
    lists = ("edit",)

    def want(self, state: ViewState) -> None:
        """Return None: the pane shows the user's edits and no figure."""

    def listed(self, state: ViewState) -> Sequence[ListedEdit]:
        """Return the edits in their order."""
        return state.edits

    def chosen_row(self, state: ViewState) -> int:
        """Return the place of the chosen edit."""
        return state.chosen

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with an edit chosen."""
        return state.choosing(row - state.chosen)

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the selected edit."""
        return None if state.chosen_edit is None else state.chosen_edit.edit

    def _heading(self) -> Content:
        state = self._state
        if not state.edits:
            return Content("Edits")
        if state.muted:
            return Content("Edits · all off")
        return Content(f"Edits · {len(state.in_force)} of {len(state.edits)} on")

    def _inputs(self) -> tuple[object, ...]:
        return (*super()._inputs(), self._examples)

    @property
    def _examples(self) -> tuple[str, ...]:
        """Edits that this model can make, while none is listed."""
        offered = None
        if not self._state.edits:
            offered = Offered.of(self._state, self.host.figures)
        return () if offered is None else offered.examples

    def _picture(self) -> Painting:
        state = self._state
        return paint_edits(state, *self.size, self._look, self.filled, self._examples)


def paint_edits(
    state: ViewState,
    width: int,
    height: int,
    look: RenderOptions,
    fill: Fill,
    examples: Sequence[str] = (),
) -> Painting:
    """Draw the list in `width` × `height` cells, scrolled to the selected edit; prompt B below it.

    Args:
        state: the view state with the edits.
        width: the width in cells.
        height: the height in cells.
        look: the render options.
        fill: replaces `{action}` in a text by the action's key.
        examples: edits to write, where none is listed.
    """
    style_set = styles_for(look)
    if not state.edits:
        rows = [
            _text_row(line, width, style_set) for line in wrap(fill(NONE_YET), max(1, width - 2))
        ]
        rows += [_text_row(f"  {example}", width, style_set, faint=False) for example in examples]
        foot = _foot(state, width, height, len(rows), style_set, fill)
        rows = list(finish(rows, width, height - len(foot), style_set.base))
        return Painting(finish((*rows, *foot), width, height, style_set.base))
    listed: list[tuple[int, Row]] = []
    for at, listed_edit in enumerate(state.edits):
        listed.append((at, _edit(state, at, width, style_set)))
        if why := _why(state, listed_edit):
            listed.append((at, _text_row(f"{' ' * _indent(state)}{why}", width, style_set)))
    foot = _foot(state, width, height, len(listed), style_set, fill)
    room = height - len(foot)
    lines = [at for at, _ in listed]
    # Keep the reason below the selected edit visible too.
    explains = lines.count(state.chosen) > 1 and room > 1
    window = Window.around(lines.index(state.chosen) + explains, len(listed), room)
    inside = listed[window.start : window.stop]
    body = finish((row for _, row in inside), width, room, style_set.base)
    down = {y: ("edit", at) for y, (at, _) in enumerate(inside)}
    return Painting(finish((*body, *foot), width, height, style_set.base), down=down)


def _foot(
    state: ViewState, width: int, height: int, rows: int, style_set: Styles, fill: Fill
) -> list[Row]:
    """Return what stands below the list: prompt B in a row, or how to give one in those left over.

    Args:
        state: the view state with prompt B.
        width, height: the size of the pane in cells.
        rows: the rows of the list.
        style_set: the styles.
        fill: replaces `{action}` in a text by the action's key.
    """
    if height <= 2:
        return []
    if state.versus_prompt is not None:
        return [_prompt_b(state.versus_prompt, width, style_set)]
    lines, room = wrap(fill(NO_B), max(1, width - 2)), max(1, height - rows)
    if len(lines) > room:
        lines[room - 1 :] = [" ".join(lines[room - 1 :])]
    return [_text_row(line, width, style_set) for line in lines]


def _indent(state: ViewState) -> int:
    return len(str(len(state.edits))) + 4


def _edit(state: ViewState, at: int, width: int, style_set: Styles) -> Row:
    """Draw `▸1 ✓ steer 6 token " Paris" 4      4`; only the text is cut to fit."""
    listed = state.edits[at]
    is_chosen = at == state.chosen
    is_made = listed.on and not state.muted
    mark = WRONG if _why(state, listed) else ON if is_made else OFF
    strength = _strength(listed.edit, style_set)
    numbered = len(str(len(state.edits)))
    head = f"{style_set.glyphs.mark if is_chosen else ' '}{at + 1:>{numbered}} {mark} "
    line = Line().add(head, style_set.accent if is_chosen else style_set.base)
    room = max(1, width - cell_len(head) - (len(strength) + 1 if strength else 0))
    text = fit(_text(listed.edit, style_set), room, style_set.glyphs.ellipsis)
    line.add(text, style_set.base if is_made else style_set.dim)
    if strength:
        line.add(f" {strength}", style_set.strong if is_made else style_set.dim)
    return line.row(width, style_set.base)


def _strength(edit: Edit, style_set: Styles) -> str:
    if not edit.turnable:
        return ""
    return f"{style_set.glyphs.cut if edit.action == 'scale' else ''}{number(edit.factor)}"


def _why(state: ViewState, edit: ListedEdit) -> str:
    """Return why a listed edit cannot be applied; empty if the user merely switched it off."""
    return edit.flaw or (WAITS if edit.on and state.waits(edit) else "")


def _prompt_b(text: str, width: int, style_set: Styles) -> Row:
    line = Line().add(" B ", style_set.strong)
    line_text = fit(_one_line(text, style_set), max(1, width - 3), style_set.glyphs.ellipsis)
    return line.add(line_text, style_set.base).row(width, style_set.base)


def _text_row(text: str, width: int, style_set: Styles, *, faint: bool = True) -> Row:
    style = style_set.dim if faint else style_set.base
    line_text = fit(plain_text(f" {text}", style_set.look.ascii), width, style_set.glyphs.ellipsis)
    return Line().add(line_text, style).row(width, style_set.base)


def _text(edit: Edit, style_set: Styles) -> str:
    return _one_line(str(edit), style_set)


def _one_line(text: str, style_set: Styles) -> str:
    """Return untrusted text on one line, with visible line ends."""
    ascii_only = style_set.look.ascii
    ends = VISIBLE_ASCII if ascii_only else VISIBLE
    pieces = (plain_text(piece, ascii_only) for piece in text.split("\n"))
    return ends["\n"].join(pieces)
