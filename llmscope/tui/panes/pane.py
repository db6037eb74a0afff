"""What all panes share: a border that tells what is shown, and rows of cells that are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from llmscope.draw.painting import Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.edits import Edit
from llmscope.engine.events import Want
from llmscope.figure import Figure, Focus
from llmscope.text import display_text
from llmscope.tui.actions.registry import bindings
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.workspaces import PANES
from llmscope.tui.theme.textual_theme import inks

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

BLANK = Painting(())
VERDICT_MARKS = {"verified": "✓", "partial": "~", "unverified": "!", "refused": "✗"}
"""What stands for a verdict where its word does not fit."""
MARGIN = 2
"""Cells of a title that are left for the mark of a stale picture."""
CHANGE = "change"
"""What a title says of a figure that is what the edits changed."""
APART = "A − B"
"""The same of one that is this prompt less prompt B."""
BAR = 8
"""Cells of the bar of a sweep."""


class FigurePane(Widget, can_focus=True):
    """A figure on the screen.

    A pane says what it wants for a scene, how the scene changes when one moves or clicks in it,
    and draws what it was given. It never asks and never decides.
    """

    key: ClassVar[str]
    row: ClassVar[str] = "token"
    """What up and down move by."""
    column: ClassVar[str] = "token"
    """What left and right move by."""
    changes: ClassVar[bool] = True
    """Whether its figure may be what the edits changed."""
    one_view: ClassVar[str] = "this pane has one view"
    """What is said where it has no other view."""
    slow: ClassVar[bool] = False
    """Whether its figure takes many passes: the others are not to wait for it."""
    brief: ClassVar[bool] = False
    """Whether it has one line to say, and takes no more room than that."""
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("figures")]
    ALLOW_SELECT = False

    class Pointed(Message):
        """A click or the wheel: the scene that it asks for."""

        def __init__(self, scene: ViewState) -> None:
            super().__init__()
            self.scene = scene

    class Zoomed(Message):
        """A double click: give this pane all the room."""

    class Sized(Message):
        """Another size: more rows may be wanted."""

    def __init__(self, look: RenderOptions) -> None:
        super().__init__(id=self.key)
        self._look = look
        self.dim = False
        self._scene = ViewState()
        self._shown: Shown | None = None
        self._stale = False
        self._painting = BLANK
        self._drawn: tuple[object, ...] = ()
        self.border_title = Content(self.called)

    def dress(self, look: RenderOptions) -> None:
        """Draw with another look."""
        self._look, self._drawn = look, ()
        self._repaint()

    @property
    def called(self) -> str:
        """How a person calls it."""
        return PANES[self.key]

    @property
    def rows(self) -> int:
        """How many candidates or neurons to ask for: in tens, so that few resizes ask again."""
        return max(10, -(-self.size.height // 10) * 10)

    @property
    def apart(self) -> bool:
        """Whether its figure may be A − B."""
        return self.changes

    def want(self, scene: ViewState) -> Want | None:
        """The figure to ask for; None if it shows none."""
        raise NotImplementedError

    def heading(self, shown: Shown) -> str:
        """The title without its verdict: what is shown, and for which place.

        It is the figure's own, never the cursor's: while a newer figure is on its way, title and
        numbers still belong together.
        """
        return display_text(shown.figure.title).replace("\n", " ")

    def step(self, scene: ViewState, by: int) -> ViewState:
        """What up and down do here: another token, unless a pane has rows of its own."""
        return scene.move(position=by)

    def side(self, scene: ViewState, by: int) -> ViewState:
        """What left and right do here: another token, unless a pane has columns of its own."""
        return scene.move(position=by)

    def turn(self, scene: ViewState) -> ViewState | None:
        """Another view of it; None if it has only the one."""
        return None

    def edit_here(self, scene: ViewState) -> Edit | None:
        """The edit of what is under the cursor here; None if nothing is that could be changed."""
        return None

    def point(self, scene: ViewState, hit: dict[str, int]) -> ViewState:
        """What a click on these indices does."""
        position = hit.get("position", hit.get("query"))
        return scene if position is None else scene.go(position=position)

    def layer_at(self, row: int | None) -> int | None:
        """The layer of a row of the figure; None for none."""
        if row is None or self._shown is None:
            return None
        label = self._shown.figure.axes[0].labels[row]
        # The embedding's row belongs to no layer; the first one is the closest to it.
        return int(label) if label.isdecimal() else 0

    def filled(self, text: str) -> str:
        """A text in which `{name}` stands for the key of an action."""
        return cast("Desk", self.app).own.keymap.filled(text)

    def wheel(self, scene: ViewState, by: int) -> ViewState:
        """What the wheel does here."""
        return self.step(scene, by)

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """The figure in the room there is."""
        from llmscope.draw import paint

        width, height = self.size
        stale = self._stale and self.dim
        return paint(shown.figure, width, height, self._look, focus, tokens=tokens, stale=stale)

    @property
    def shown(self) -> Shown | None:
        """What it shows."""
        return self._shown

    @property
    def stale(self) -> bool:
        """Whether it is marked as out of date; with `dim`, it is dim as well."""
        return self._stale

    def present(
        self, scene: ViewState, shown: Shown | None, *, stale: bool, tokens: Shown | None = None
    ) -> None:
        """Show a figure with the cursor of a scene, beside the tokens if it has use for them."""
        self._scene, self._shown, self._stale = scene, shown, stale
        self._repaint()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._repaint()
        self.post_message(self.Sized())

    def _inputs(self) -> tuple[object, ...]:
        """All that the picture depends on."""
        figure = None if self._shown is None else id(self._shown.figure)
        return (figure, self._scene, self._stale, self._stale and self.dim, self.size)

    def _repaint(self) -> None:
        if not self.display or not self.size.area or self._inputs() == self._drawn:
            return
        self._drawn = self._inputs()
        old = self._painting
        self._painting = self._picture()
        self._title()
        if len(old.rows) != len(self._painting.rows):
            self.refresh()
            return
        changed = [y for y, row in enumerate(self._painting.rows) if row != old.rows[y]]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _picture(self) -> Painting:
        """What stands in the pane."""
        shown = self._shown
        if shown is None:
            return BLANK
        focus, last = self._scene.focus, len(shown.tokens) - 1
        return self.draw(shown, replace(focus, position=min(focus.position, last)))

    def _heading(self) -> Content:
        """The title as it stands there."""
        shown = self._shown
        if shown is None:
            return Content(self.called)
        status, ink = shown.figure.verdict.status, inks(self._look.theme)
        first, *rest = self.heading(shown).split(" · ")
        # What is unusual is said first: a title loses its last parts where room is short.
        changed = CHANGE if shown.request.edits else APART
        change = changed if shown.want.focus.change and shown.request.of_two else ""
        remarks = (change, progress_bar(shown.figure), self._painting.remark)
        said = " · ".join(
            [first, *filter(None, remarks), *(part for part in rest if part != change)]
        )
        heading, word = fitting_title(said, status, self.size.width)
        return Content.assemble(heading, (word, ink.verdict(status)))

    def _title(self) -> None:
        title = self._heading()
        if self._stale:
            title = Content.assemble(title, " …")
        legend = None if self._painting.legend is None else as_content(self._painting.legend)
        for name, value in (("border_title", title), ("border_subtitle", legend)):
            old: Content | None = getattr(self, f"_{name}", None)
            same = value is old if value is None or old is None else value.is_same(old)
            if not same:
                setattr(self, name, value)

    def render_line(self, y: int) -> Strip:
        """One row of the picture."""
        if y < len(self._painting.rows):
            return Strip(self._painting.rows[y], self.size.width)
        return Strip([Segment(" " * self.size.width, self.rich_style)], self.size.width)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor there; a double click gives the pane all the room."""
        offset = event.get_content_offset(self)
        if event.chain == 2:
            self.post_message(self.Zoomed())
        elif offset is not None and (hit := self._painting.hit(offset.x, offset.y)):
            self.post_message(self.Pointed(self.point(self._scene, hit)))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        event.stop()
        self.post_message(self.Pointed(self.wheel(self._scene, -1)))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        event.stop()
        self.post_message(self.Pointed(self.wheel(self._scene, 1)))


def fitting_title(heading: str, status: str, width: int) -> tuple[str, str]:
    """A heading and its verdict in so many cells.

    Where the verdict's word does not fit, its mark stands for it; where that does not either, the
    heading loses its last parts.
    """
    room = width - MARGIN
    for word in (f" · {status}", f" {VERDICT_MARKS[status]}"):
        if cell_len(heading + word) <= room:
            return heading, word
    while cell_len(heading + word) > room and " · " in heading:
        heading = heading.rpartition(" · ")[0]
    return heading, word


def progress_bar(figure: Figure) -> str:
    """How far a sweep has come, `━━━───── 12/30`; empty once it is whole."""
    done, total = figure.extra.get("progress", (0, 0))
    if done >= total:
        return ""
    full = BAR * done // total
    return f"{'━' * full}{'─' * (BAR - full)} {done}/{total}"


def as_content(row: Row) -> Content:
    """Drawn cells as content for a border."""
    return Content.assemble(
        *((part.text, Style.from_rich_style(part.style) if part.style else "") for part in row)
    )
