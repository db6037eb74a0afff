"""The list of a file of prompts, drawn from the view state without a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.style import Style
from textual.content import Content

from llmscope.draw import styles_for
from llmscope.draw.cells import Line, finish, fit, plain_text, token_text, wrap
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import column, number
from llmscope.draw.painting import Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import Styles
from llmscope.draw.symbols import own_text
from llmscope.engine.prompt_list import ListedToken, PromptReport
from llmscope.support.numbers import amount, percent
from llmscope.support.text import quoted_token
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.prompt_list import PromptList
from llmscope.tui.state.view_state import ViewState

NO_FILE = "no file of prompts: {read-file} opens one, llmscope MODEL --prompts FILE starts with one"
READING = "the first prompt is being read"
NOTHING = "no token could be read"
VALUE = 8
"""Cells of the mark and the value, with a gap."""
SMALL = 60
"""Columns below which a row has no room for what the models expect: the status line says it."""
TOKEN = (8, 16)
"""The least and the most cells of a token in its context."""
EXPECTED = (15, 24)
"""The least and the most cells of what a model expects."""
HEADED = 4
"""The least rows of a list that has a heading."""


class PromptsPane(FigurePane):
    """The tokens of a file of prompts where two models part most, or the most surprising ones."""

    key: ClassVar[str] = "prompts"
    words: ClassVar[str] = (
        "list of prompts, file of prompts, where two models part, largest KL, most surprising "
        "tokens, worst prompts"
    )
    usage: ClassVar[str] = """\
The prompts and chats of a file, read in the background while nothing else is asked of the model: \
llmscope MODEL --prompts FILE, or {read-file} from here. With a second model, or with an adapter \
that is on, the tokens stand on top after which the two models predict most differently: \
KL(A ‖ B) in nats, and the likeliest next token of each with its probability. A is the model with \
its adapter, B the second model or else the base. Of one model, the most surprising tokens: their \
surprisal in bits, and what was expected in their place.

Up and down choose a token; {take} opens its prompt with the cursor on it, where all tabs show \
it, and {cancel} leads back to the list. A token after the same text counts once in the list, and \
each time in the means below it. A line that cannot be read is counted, and the first is named. \
Another adapter or model begins the list anew. Edits are left out."""
    row: ClassVar[str] = "row"
    lists = ("row",)
    one_view: ClassVar[str] = "the list has one view"

    def want(self, state: ViewState) -> None:
        """Return None: the pane shows what was read of a file, and no figure."""

    def listed(self, state: ViewState) -> Sequence[object]:
        """Return the tokens of the list, by row."""
        return () if state.prompts is None else state.prompts.rows

    def chosen_row(self, state: ViewState) -> int | None:
        """Return the row of the chosen token; None without a file."""
        return None if state.prompts is None else state.prompts.chosen

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with the token of a row chosen."""
        return state if state.prompts is None else state.with_prompts(state.prompts.choose(row))

    def side(self, state: ViewState, by: int) -> ViewState:
        """Return the state unchanged: the list has one column."""
        return state

    def _heading(self) -> Content:
        prompts = self._state.prompts
        if prompts is None:
            return Content("Prompts")
        edits = "without the edits" if self._state.in_force else ""
        parts = ("Prompts", prompts.file.name, _describe_measure(prompts), edits)
        return Content(plain_text(" · ".join(filter(None, parts)), self._look.ascii))

    def _picture(self) -> Painting:
        return paint_prompts(self._state.prompts, *self.size, self._look, self.filled(NO_FILE))


def _describe_measure(prompts: PromptList) -> str:
    """Return what the tokens are ranked by, and of which models."""
    if prompts.b:
        return f"KL(A ‖ B) · A {prompts.a} · B {prompts.b}"
    return f"most surprising tokens · {prompts.a}" if prompts.a else ""


def describe_counts(report: PromptReport) -> str:
    """Return how far a file was read, and the means so far, most important first."""
    if report.done or report.total is None:
        read = f"{amount(report.read, 'prompt')} read"
        if not report.done:
            read += f", {percent(report.share)} of the file"
    else:
        read = f"{report.read + report.skipped:,} of {report.total:,} read"
    parts = [read]
    if report.skipped:
        parts.append(f"{report.skipped:,} not")
    if report.tokens:
        of_two = report.measure == "kl"
        parts.append(f"mean {'KL' if of_two else 'surprisal'} {number(report.mean)}")
        parts.append(f"{'same top' if of_two else 'expected'} {percent(report.agree, 0)}")
    if report.cut:
        parts.append(f"{report.cut:,} cut")
    return " · ".join(parts)


def paint_prompts(
    prompts: PromptList | None, width: int, height: int, look: RenderOptions, no_file: str
) -> Painting:
    """Draw the list in `width` × `height` cells, scrolled to the chosen token.

    Args:
        prompts: the list; None without a file.
        width, height: the size in cells.
        look: the render options.
        no_file: what is said without a file.
    """
    style_set = styles_for(look)
    report = None if prompts is None else prompts.report
    if prompts is None or report is None:
        message = no_file if prompts is None else READING
        return Painting(finish(_message(message, width, style_set), width, height, style_set.base))
    text = own_text(describe_counts(report), look.ascii)
    legend = Line().add(text, style_set.dim).row(min(cell_len(text), width), style_set.dim)
    foot = _message(_flaw(report), width, style_set)
    if not report.rows:
        message = READING if not report.done else NOTHING if not report.error else ""
        rows = [*_message(message, width, style_set), *foot]
        return Painting(finish(rows, width, height, style_set.base), legend)
    foot = foot[: max(0, height // 4)]
    room = height - len(foot)
    head = [_head(report, width, style_set)] if room >= HEADED else []
    room -= len(head)
    window = Window.around(prompts.chosen, len(report.rows), room)
    values = column(np.array([row.value for row in report.rows], np.float32), VALUE - 2, "")
    listed = [
        _token(report.rows[at], values[at], at == prompts.chosen, report, width, style_set)
        for at in window.indices()
    ]
    body = finish(listed, width, room, style_set.base)
    down = {y + len(head): ("row", at) for y, at in enumerate(window.indices())}
    return Painting(finish((*head, *body, *foot), width, height, style_set.base), legend, down=down)


def _flaw(report: PromptReport) -> str:
    """Return why reading ended, or what is wrong with the first line that could not be read."""
    if report.error:
        return f"reading ended: {report.error}"
    if not report.skipped:
        return ""
    others = report.skipped - 1
    more = f" (and {amount(others, 'line')} more)" if others else ""
    return f"not read: {report.flaw}{more}"


def _message(text: str, width: int, style_set: Styles) -> list[Row]:
    """Return the rows of a message."""
    plain = plain_text(text, style_set.look.ascii)
    return [
        Line().add(f" {line}", style_set.dim).row(width, style_set.base)
        for line in wrap(plain, max(1, width - 2))
    ]


def _columns(width: int, of_two: bool) -> tuple[int, int, int]:
    """Return the cells of the text before a token, of the token, and of what a model expects."""
    count = 2 if of_two else 1
    expected = 0
    if width >= SMALL:
        expected = max(EXPECTED[0], min(EXPECTED[1], (width - VALUE) // 5))
    room = max(0, width - VALUE - count * expected)
    token = max(TOKEN[0], min(TOKEN[1], room // 3))
    return max(0, room - token), token, expected


def _head(report: PromptReport, width: int, style_set: Styles) -> Row:
    """Draw the heading of the columns."""
    of_two = report.measure == "kl"
    before, token, expected = _columns(width, of_two)
    line = Line()
    line.add(f"{'nats' if of_two else 'bits':>{VALUE - 1}} ", style_set.dim)
    title = "after ‹token›" if of_two else "‹token›"
    line.pad(VALUE + max(0, before - cell_len(title.partition("‹")[0])), style_set.dim)
    line.add(own_text(title, style_set.look.ascii), style_set.dim)
    line.pad(VALUE + before + token, style_set.dim)
    for name in (("A expects", "B expects") if of_two else ("expected",)) if expected else ():
        line.add(fit(name, expected), style_set.dim)
    return line.row(width, style_set.base)


def _token(
    token: ListedToken,
    value: str,
    chosen: bool,
    report: PromptReport,
    width: int,
    style_set: Styles,
) -> Row:
    """Draw `▸ 3.21 The capital of France‹ is›   ‹·Paris› 61 %  ‹·Lyon› 40 %`."""
    of_two = report.measure == "kl"
    before, room, expected = _columns(width, of_two)
    glyphs = style_set.glyphs
    text = style_set.strong if chosen else style_set.base
    line = Line().add(glyphs.mark if chosen else " ", style_set.accent)
    line.add(f"{value:>{VALUE - 2}} ", text)
    context = " ".join(token_text(part, style_set.look.ascii) for part in token.before.split(" "))
    line.add(_keep_end(context, before, glyphs.ellipsis), text if chosen else style_set.dim)
    line.add(fit(_quote(token.token, room - 1, style_set), room), style_set.accent)
    if expected:
        _add_expected(line, token.top_a, token.p_top_a, expected, text, style_set)
        if of_two:
            _add_expected(line, token.top_b, token.p_top_b, expected, text, style_set)
    return line.row(width, style_set.base)


def _add_expected(
    line: Line, label: str, probability: float, width: int, style: Style, style_set: Styles
) -> None:
    share = f" {percent(probability, 0)} "
    token = _quote(label, max(3, width - len(share)), style_set)
    line.add(fit(f"{token}{share}", width), style)


def _quote(label: str, width: int, style_set: Styles) -> str:
    """Return a token in quotation marks, cut to a width."""
    look = style_set.look
    inside = token_text(label, look.ascii)
    if cell_len(inside) > width - 2:
        inside = fit(inside, max(1, width - 2), style_set.glyphs.ellipsis)
    left, right = (own_text(mark, look.ascii) for mark in "‹›")
    return f"{left}{inside}{right}"


def _keep_end(text: str, width: int, ellipsis: str) -> str:
    """Return the end of a text, padded on the left or cut there to exactly `width` cells."""
    if cell_len(text) <= width:
        return fit(text, width, align="right")
    ending: list[str] = []
    room = width - len(ellipsis)
    for character in reversed(text):
        room -= cell_len(character)
        if room < 0:
            break
        ending.append(character)
    return fit(ellipsis + "".join(reversed(ending)), width, align="right")


def describe_chosen(prompts: PromptList) -> list[str]:
    """Return the clauses that describe the chosen token of a list, most important first."""
    token, report = prompts.chosen_token, prompts.report
    if token is None or report is None:
        return []
    place = f"line {token.prompt.line}, token {token.position}"
    if report.measure == "kl":
        a = f"A {quoted_token(token.top_a)} {percent(token.p_top_a)}"
        b = f"B {quoted_token(token.top_b)} {percent(token.p_top_b)}"
        return [f"{a}, {b}", f"after {quoted_token(token.token)}", place]
    expected = f"expected {quoted_token(token.top_a)} {percent(token.p_top_a)}"
    return [expected, f"in place of {quoted_token(token.token)}", place]
