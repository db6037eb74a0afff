"""The base class of all panes: a border with a title and legend, and cached rows of cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from textual import events
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.style import Style

from llmscope.draw.numbers import number
from llmscope.draw.painting import Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.scale import ranks_of
from llmscope.edits import Edit
from llmscope.engine.events import Want, Working
from llmscope.figure import Figure, Focus
from llmscope.support.numbers import percent
from llmscope.support.text import display_text, mark_quoted, one_line, quoted_token
from llmscope.tui.panes.missing import article, how_to_give
from llmscope.tui.panes.titles import OUT_OF_DATE, SAVED, fitting_title
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.layout import UsefulRows
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.work import bar, describe_work
from llmscope.tui.state.workspaces import TITLES
from llmscope.tui.theme.hosted_widget import HostedWidget
from llmscope.tui.theme.textual_theme import text_styles

BLANK = Painting(())
CURSOR = {"layer": "layer", "head": "head", "token": "position"}
"""The axes that the cursor has a place on, as panes name them and as the focus does."""
CHANGE = "change"
"""Title remark for a figure of the difference made by the edits."""
APART = "A − B"
"""Title remark for a figure of this prompt minus prompt B."""
WIDEST_BAR = 24
"""The most cells of the bar of a pane without a figure."""


class FigurePane(HostedWidget, can_focus=True):
    """A figure on the screen.

    A pane returns the figure it wants for a view state and the view state after a key or a click,
    and draws the figure it is given. It never sends requests and never changes the app's state.
    """

    key: ClassVar[str]
    title: ClassVar[str] = ""
    """The name as displayed, of a pane from another package; ours have it in `PANES`."""
    workspace: ClassVar[str] = ""
    """The workspace that a pane from another package joins, as its last detail."""
    usage: ClassVar[str] = ""
    """How to use it, for its help page; `{action}` stands for the key of an action."""
    words: ClassVar[str] = ""
    """What else users may type to find it in the palette, separated by commas."""
    views: ClassVar[tuple[str, ...]] = ("",)
    """Its views, which the keys for the next and the previous view cycle through."""
    view_words: ClassVar[Mapping[str, str]] = {}
    """For the palette, the name of each view and what else users may type to find it, separated by
    commas; a missing view is called by its mode."""
    row: ClassVar[str] = "token"
    """The axis of its rows, by which up and down move: one of `CURSOR`, or things it lists."""
    column: ClassVar[str] = "token"
    """The axis of its columns, by which left and right move."""
    snapshots: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The figures of a snapshot that it can show: modes by lens, "" for no mode."""
    clicks: ClassVar[tuple[str, ...]] = ()
    """Axes of the cursor that a click sets beside those of its rows and columns."""
    lists: ClassVar[tuple[str, ...]] = ()
    """Names of the axes of its figures whose indices are those of `listed`."""
    changes: ClassVar[bool] = True
    """Whether its figure can show the difference made by the edits."""
    one_view: ClassVar[str] = "this pane has one view"
    """The notice for a next-view key where there is no other view."""
    live: ClassVar[bool] = True
    """Whether a model computes its figures; in a replay they are those of a file."""
    slow: ClassVar[bool] = False
    """Whether its figure takes many forward passes, so that other figures are requested first."""
    brief: ClassVar[bool] = False
    """Whether it has one line of text and takes no more room than that."""
    also_reads: ClassVar[tuple[str, ...]] = ()
    """Keys of the panes whose figures it shows something of, too."""
    least_rows: ClassVar[int] = 8
    """The rows of content that it needs to be useful."""
    most_rows: ClassVar[int | None] = None
    """The rows of content beyond which it would be empty or list what hardly matters; None: any."""
    layer_rows: ClassVar[int | None] = None
    """If its rows are the layers, the rows of content besides them."""
    ALLOW_SELECT = False

    class Pointed(Message):
        """Posted on a click or the wheel, with the resulting view state."""

        def __init__(self, state: ViewState) -> None:
            super().__init__()
            self.state = state

    class Zoomed(Message):
        """Posted on a double click, to maximize the pane."""

    class TitleClicked(Message):
        """Posted on a click on the title, to choose a view."""

    class Sized(Message):
        """Posted after a resize: more rows may be wanted."""

    def __init__(self, look: RenderOptions) -> None:
        super().__init__(id=self.key)
        self._look = look
        self.dim = False
        self.awaits = True
        self._state = ViewState()
        self._shown: Shown | None = None
        self._work: Working | None = None
        self._stale = False
        self._painting = BLANK
        self._drawn: tuple[object, ...] = ()
        self.border_title = Content(self.called)

    def set_render_options(self, look: RenderOptions) -> None:
        """Redraw with new render options."""
        self._look, self._drawn = look, ()
        self._repaint()

    @classmethod
    def snapshot_modes(cls) -> Mapping[str, tuple[str, ...]]:
        """Return the figures of a snapshot that it can show: modes by lens, "" for no mode."""
        return cls.snapshots

    @property
    def called(self) -> str:
        """The name of the pane shown to the user."""
        return TITLES.get(self.key) or self.title

    @property
    def rows(self) -> int:
        """The number of rows to request; a multiple of 10, so that few resizes request again."""
        return max(10, -(-self.size.height // 10) * 10)

    def useful_rows(self, layers: int) -> UsefulRows:
        """Return the rows of content that it can use, for a model of `layers` layers."""
        highest = self.most_rows if self.layer_rows is None else layers + self.layer_rows
        return UsefulRows(self.least_rows, highest)

    @property
    def apart(self) -> bool:
        """Whether its figure can show A − B."""
        return self.changes

    def want(self, state: ViewState) -> Want | None:
        """Return the figure that the pane needs; None if it shows no figure."""
        raise NotImplementedError

    def sweeps(self, state: ViewState) -> bool:
        """Return whether the figure of its view takes many forward passes."""
        return self.slow

    def landed(self, state: ViewState, result: Shown) -> ViewState:
        """Return the view state that follows from a figure that the engine sent for the pane."""
        return state

    def heading(self, result: Shown) -> str:
        """Return the title without its verdict: what is shown, and for which place.

        The place is that of the figure, not of the cursor: while a newer figure is being computed,
        title and numbers still match.
        """
        return mark_quoted(display_text(result.figure.title)).replace("\n", " ")

    def status(self, result: Shown) -> str:
        """Return the verdict of a figure, for the title."""
        return result.figure.verdict.status

    def unfinished(self, result: Shown) -> bool:
        """Return whether the verdict may still change: all but that is known."""
        return False

    def row_axis(self, state: ViewState) -> str:
        """Return the axis of the rows in the view that is shown."""
        return self.row

    def column_axis(self, state: ViewState) -> str:
        """Return the axis of the columns in the view that is shown."""
        return self.column

    def listed(self, state: ViewState) -> Sequence[object]:
        """Return what it lists, in the order of the rows; empty for rows of the cursor's axes."""
        return ()

    def chosen_row(self, state: ViewState) -> int | None:
        """Return the row of what is chosen among what it lists; None if that is not listed."""
        return None

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with what it lists in a row chosen."""
        return state

    def step(self, state: ViewState, by: int) -> ViewState:
        """Return the view state after up or down: `by` rows further."""
        return self._move(state, self.row_axis(state), by)

    def _move(self, state: ViewState, axis: str, by: int) -> ViewState:
        """Return the view state with the cursor moved along an axis, or through what it lists."""
        if axis in CURSOR:
            return state.move(**{CURSOR[axis]: by})
        count, at = len(self.listed(state)), self.chosen_row(state)
        if not count:
            return state
        return self.choose_row(state, 0 if at is None else max(0, min(at + by, count - 1)))

    def page(self, state: ViewState, by: int) -> ViewState:
        """Return the view state after page up or down: as many rows as the pane has."""
        return self.step(state, by * max(1, self.size.height - 1))

    def side(self, state: ViewState, by: int) -> ViewState:
        """Return the view state after left or right: `by` columns further."""
        return self._move(state, self.column_axis(state), by)

    def view_index(self, state: ViewState) -> int:
        """Return the index of the view that is shown."""
        return self.views.index(state.view_of(self.key, self.views))

    def show_view(self, state: ViewState, index: int) -> ViewState:
        """Return the view state with one of the views."""
        return state.with_view(self.key, index)

    def offered_views(self, state: ViewState) -> Sequence[int]:
        """Return the indices of the views that there are for this model."""
        return range(len(self.views))

    def view_name(self, index: int) -> str:
        """Return what a view is called."""
        mode = self.views[index]
        return self.view_words.get(mode, mode.replace("-", " ")).partition(",")[0]

    def turn(self, state: ViewState, by: int = 1) -> ViewState | None:
        """Return the view state with the view `by` places on; None if there is only one."""
        offered, here = list(self.offered_views(state)), self.view_index(state)
        if len(offered) < 2:
            return None
        at = offered.index(here) if here in offered else 0
        return self.show_view(state, offered[(at + by) % len(offered)])

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the edit for the item under the cursor; None if it cannot be edited."""
        return state.zero_head if self.column_axis(state) == "head" else None

    def knockout_here(self, state: ViewState) -> Edit | None:
        """Return the edit that stops the cursor's token from reading what it reads most.

        None if the pane shows no such thing.
        """
        return None

    def choose_edited(self, state: ViewState) -> ViewState:
        """Return the view state with the item of `edit_here` chosen, where the edit may hide it."""
        return state

    def leads_to(self, state: ViewState) -> tuple[str, str] | None:
        """Return where enter leads, as the names of a workspace and a pane; None if nowhere."""
        return None

    def point(self, state: ViewState, hit: Mapping[str, int]) -> ViewState:
        """Return the view state after a click.

        Args:
            state: the view state.
            hit: the indices of the cell, by the names of the figure's axes.
        """
        axes = {self.row_axis(state), self.column_axis(state), *self.clicks}
        head = hit.get("head", hit.get("component"))
        if (
            head is not None
            and state.info is not None
            and head >= state.info.heads_at(state.focus.layer)
        ):
            head = None  # the column of a part that is no head
        state = state.move_to(
            layer=self.layer_at(hit.get("layer")) if "layer" in axes else None,
            head=head if "head" in axes else None,
            position=hit.get("position", hit.get("query")) if "token" in axes else None,
        )
        row = next((hit[name] for name in self.lists if name in hit), None)
        inside = row is not None and row < len(self.listed(state))
        return self.choose_row(state, row) if row is not None and inside else state

    def layer_at(self, row: int | None) -> int | None:
        """Return the layer of a row of the figure; None if `row` is None or there is no figure."""
        if row is None or self._shown is None:
            return None
        label = self._shown.figure.axes[0].labels[row]
        # The embedding's row belongs to no layer; layer 0 is the closest.
        return int(label) if label.isdecimal() else 0

    def filled(self, text: str) -> str:
        """Replace each `{name}` in a text by the key of that action."""
        return self.keymap.filled(text)

    def wheel(self, state: ViewState, by: int) -> ViewState:
        """Return the view state after the wheel moved by `by`."""
        return self.step(state, by)

    def message(self, result: Shown, state: ViewState) -> str:
        """Return the text that stands in place of a refused figure; empty for any other figure.

        For a figure that lacks something, it says how to give that.
        """
        missing = result.figure.missing
        if missing:
            return self.filled(how_to_give(missing, state))
        verdict = result.figure.verdict
        return verdict.reason if verdict.status == "refused" else ""

    def message_rows(self, result: Shown, state: ViewState, width: int) -> int:
        """Return the rows of content of its message if it is `width` columns wide."""
        from llmscope.draw.painters.message import message_lines

        inside = max(1, width - self.gutter.width)
        return len(message_lines(self.message(result, state), inside, ascii=self._look.ascii))

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the figure to fit the pane; a refused one as its message."""
        from llmscope.draw import paint

        message = self.message(result, self._state)
        if message:
            result = replace(result, figure=Figure.refused(result.figure.lens, "", message))
        width, height = self.size
        stale = self._stale and self.dim
        return paint(result.figure, width, height, self._look, focus, tokens=tokens, stale=stale)

    @property
    def shown(self) -> Shown | None:
        """The figure that is shown; None before the first one."""
        return self._shown

    @property
    def window(self) -> tuple[int, int] | None:
        """The tokens that are drawn, as a half-open range; None if the pane draws no tokens."""
        drawn = (*self._painting.across.values(), *self._painting.down.values())
        places = [place for name, place in drawn if name in ("position", "query")]
        return (min(places), max(places) + 1) if places else None

    @property
    def stale(self) -> bool:
        """Whether the figure is marked as out of date; if `dim` is set, it is also dimmed."""
        return self._stale

    def present(
        self, state: ViewState, result: Shown | None, *, stale: bool, tokens: Shown | None = None
    ) -> None:
        """Show a figure with the cursor of a view state.

        Args:
            state: the view state.
            result: the figure; None shows an empty pane.
            stale: whether the figure is out of date.
            tokens: the figure of the tokens, for panes that draw their surprisal.
        """
        self._state, self._shown, self._stale = state, result, stale
        self._repaint()

    def show_work(self, work: Working | None) -> None:
        """Show how far the work is, while there is no figure or a dimmed one."""
        self._work = work
        self._repaint()

    def on_resize(self) -> None:
        """Redraw for the new size."""
        self._repaint()
        self.post_message(self.Sized())

    def _inputs(self) -> tuple[object, ...]:
        """Return everything that the drawing depends on."""
        figure = None if self._shown is None else id(self._shown.figure)
        dimmed = self._stale and self.dim
        work = self._work if figure is None or dimmed else None
        stale = self._stale and (dimmed, self.awaits)
        return (figure, self._state, stale, work, self.size)

    def _repaint(self) -> None:
        if not self.display or not self.size.area or self._inputs() == self._drawn:
            return
        self._drawn = self._inputs()
        old = self._painting
        try:
            self._painting = self._picture()
            self._title()
        except Exception:
            if self._shown is None or not self._shown.saved:
                raise
            # Another state of the code wrote the figure: the pane waits for its own.
            self._shown, self._painting = None, BLANK
            self._title()
        if len(old.rows) != len(self._painting.rows):
            self.refresh()
            return
        changed = [y for y, row in enumerate(self._painting.rows) if row != old.rows[y]]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _picture(self) -> Painting:
        """Draw the content of the pane."""
        result = self._shown
        if result is None:
            return BLANK if self._work is None else self._progress(self._work)
        focus, last = self._state.focus, len(result.tokens) - 1
        return self.draw(result, replace(focus, position=min(focus.position, last)))

    def _progress(self, work: Working) -> Painting:
        """Draw how far the work is, in the middle of an empty pane."""
        width, height = self.size
        style = self.rich_style + text_styles(self._look.theme).dim.rich_style
        lines = describe_work(work).split(" · ", 1)  # the time left fits on a line of its own
        if work.total:
            lines.append(bar(work.done, work.total, min(WIDEST_BAR, width)))
        texts = [line[:width].center(width) for line in lines[:height]]
        above = (height - len(texts)) // 2
        blank = " " * width
        rows = [blank] * above + texts + [blank] * (height - above - len(texts))
        return Painting(tuple((Segment(row, style),) for row in rows))

    def _heading(self) -> Content:
        """Return the complete title, with remarks and verdict."""
        result = self._shown
        if result is None:
            return Content(self.called)
        status, styles = self.status(result), text_styles(self._look.theme)
        if result.figure.missing:
            needs = f"needs {article(result.figure.missing)}"
            return Content.assemble(self.called.capitalize(), (f" · {needs}", styles.dim))
        first, *rest = self.heading(result).split(" · ")
        # Remarks come before the other parts, since a long title loses its last parts.
        changed = CHANGE if result.request.edits else APART
        change = changed if result.want.focus.change and result.request.of_two else ""
        adapter = result.request.adapter
        on = "" if adapter is None else f"+ {one_line(adapter)}"
        remarks = (change, on, self._bar(result.figure), self._painting.remark)
        text = " · ".join(
            [first, *filter(None, remarks), *(part for part in rest if part != change)]
        )
        if result.saved:
            return Content("".join(fitting_title(text, SAVED, self.size.width)))
        if self._stale and not self.awaits:  # the newer figure was refused, or its work stopped
            heading, word = fitting_title(text, OUT_OF_DATE, self.size.width)
            return Content.assemble(heading, (word, styles.dim))
        heading, word = fitting_title(text, status, self.size.width)
        known = styles.dim if self.unfinished(result) else styles.verdict(status)
        return Content.assemble(heading, (word, known))

    def _bar(self, figure: Figure) -> str:
        """Return the bar of a sweep, or that of the work that a dimmed figure waits for."""
        work = self._work
        if work is None or not work.total or not (self._stale and self.dim):
            return progress_bar(figure)
        return f"{bar(work.done, work.total)} {work.done}/{work.total}"

    def _title(self) -> None:
        title, result = self._heading(), self._shown
        unfinished = result is not None and self.unfinished(result)
        # Once the newer figure was refused, or its work stopped, nothing comes any more.
        if self.awaits if self._stale else unfinished:
            title = Content.assemble(title, " …")
        legend = None if self._painting.legend is None else as_content(self._painting.legend)
        for name, value in (("border_title", title), ("border_subtitle", legend)):
            old: Content | None = getattr(self, f"_{name}", None)
            same = value is old if value is None or old is None else value.is_same(old)
            if not same:
                setattr(self, name, value)

    def render_line(self, y: int) -> Strip:
        """Return one row of the drawing."""
        if y < len(self._painting.rows):
            return Strip(self._painting.rows[y], self.size.width)
        return Strip([Segment(" " * self.size.width, self.rich_style)], self.size.width)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the click; on a double click, maximize the pane."""
        offset = event.get_content_offset(self)
        if self.on_title(event.x, event.y) and event.chain == 1:
            self.post_message(self.TitleClicked())
        elif event.chain == 2:
            self.post_message(self.Zoomed())
        elif offset is not None and (hit := self._painting.hit(offset.x, offset.y)):
            self.post_message(self.Pointed(self.point(self._state, hit)))

    def on_title(self, x: int, y: int) -> bool:
        """Return whether a cell of the pane is one of its title."""
        title: Content | None = self._border_title
        return y == 0 and title is not None and 1 < x < 4 + title.cell_length

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Underline the title under the mouse, and have the value of the cell under it shown."""
        self.set_class(self.on_title(event.x, event.y), "-on-title")
        offset = event.get_content_offset(self)
        hit = None if offset is None else self._painting.hit(offset.x, offset.y)
        text = self.value_at(hit) if hit else ""
        self.tooltip = Content(text) if text else None

    def value_at(self, cell: Mapping[str, int]) -> str:
        """Return a cell's labels and its value in words; empty where the figure has no such cell.

        Args:
            cell: the cell's indices by axis name; the cursor's index is taken on a missing axis.
        """
        result, focus = self._shown, self._state.focus
        if result is None or not result.figure.axes or not result.figure.values.size:
            return ""
        figure = result.figure
        cursor = {"layer": focus.layer, "head": focus.head, "query": focus.position}
        indices: list[int] = []
        axis_texts: list[str] = []
        for axis in figure.axes:
            index = cell.get(axis.name, cursor.get(axis.name, focus.position))
            if not 0 <= index < len(axis):
                return ""
            indices.append(index)
            label = display_text(axis.labels[index], whitespace=True)
            axis_texts.append(f"{axis.name} {label}" if label.isdigit() else f"‹{label}›")
        value = float(figure.values[tuple(indices)])
        if math.isnan(value):
            return ""
        text = percent(value) if figure.unit == "probability" else number(value)
        ranks = ranks_of(figure)
        if ranks is not None:  # the token that has it stands in the title
            return f"{', '.join(axis_texts)}: {text}, rank {ranks[tuple(indices)]:.0f}"
        names, ids = figure.extra.get("names"), figure.extra.get("ids", ())
        if isinstance(names, Mapping) and np.shape(ids) == figure.values.shape:
            name = names.get(int(np.asarray(ids)[tuple(indices)]), "")
            text = f"{quoted_token(str(name))} {text}"
        unit = "" if figure.unit == "probability" else f" {figure.unit}"
        return f"{', '.join(axis_texts)}: {text}{unit}".strip()

    def on_leave(self) -> None:
        """Let the title be as it was."""
        self.remove_class("-on-title")
        self.tooltip = None

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Move by the wheel."""
        event.stop()
        self.post_message(self.Pointed(self.wheel(self._state, -1)))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Move by the wheel."""
        event.stop()
        self.post_message(self.Pointed(self.wheel(self._state, 1)))


def progress_bar(figure: Figure) -> str:
    """Return the progress of a sweep, `━━━───── 12/30`; empty once it is complete."""
    done, total = figure.extra.get("progress", (0, 0))
    if done >= total:
        return ""
    return f"{bar(done, total)} {done}/{total}"


def as_content(row: Row) -> Content:
    """Convert drawn cells to content for a border."""
    return Content.assemble(
        *((part.text, Style.from_rich_style(part.style) if part.style else "") for part in row)
    )
