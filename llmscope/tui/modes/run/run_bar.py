"""The line of a run: which prompt and step is shown, and a slider."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual import events
from textual.content import Content

from llmscope.tui.features.cursor import go_to_step
from llmscope.tui.state.moment import Moment
from llmscope.tui.theme.hosted_widget import HostedWidget

LEAST_SLIDER = 12
"""The fewest cells of a slider; with less room it is left out."""
TRACK, KNOB, BEGIN = "─", "●", "│"
ASCII_TRACK, ASCII_KNOB, ASCII_BEGIN = "-", "O", "|"
Parts = Sequence[tuple[str, int]]
"""Texts, each with its rank: the highest is left out first where room is short, 0 stays."""


class RunBar(HostedWidget):
    """One line: prompt and step on the left, the slider, and the loss on the right."""

    DEFAULT_CSS = """
    RunBar { height: 1; padding: 0 1; background: $figure-background; }
    """

    def __init__(self) -> None:
        super().__init__(id="run-bar")
        self._moment: Moment | None = None
        self._left: Parts = ()
        self._right: Parts = ()
        self._stages: Sequence[tuple[int, str]] = ()
        self._track = (0, 0)
        self._held = False

    def show(
        self, moment: Moment, left: Parts, right: Parts, stages: Sequence[tuple[int, str]] = ()
    ) -> None:
        """Show a moment of the run.

        Args:
            moment: the prompt and the step.
            left, right: the texts on both sides of the slider.
            stages: the first step of each stage of the training, and its name.
        """
        before = (self._moment, self._left, self._right, self._stages)
        if (moment, left, right, stages) != before:
            self._moment, self._left, self._right, self._stages = moment, left, right, stages
            self.refresh()

    def render(self) -> Content:
        """Render the line, without the parts that do not fit."""
        if self._moment is None:
            return Content("")
        parts = [(text, rank, 0) for text, rank in self._left]
        parts += [(text, rank, 1) for text, rank in self._right]
        width = self.size.width

        def sides() -> tuple[str, str]:
            return tuple(  # type: ignore[return-value]
                " · ".join(text for text, _, side in parts if side == which) for which in (0, 1)
            )

        while sum(map(cell_len, sides())) + LEAST_SLIDER + 2 > width:
            loose = max(parts, key=lambda part: part[1], default=("", 0, 0))
            if not loose[1]:
                break
            parts.remove(loose)
        left, right = sides()
        room = width - cell_len(left) - cell_len(right) - 2
        if room < 3:
            self._track = (0, 0)
            return Content.assemble((left, self.text_styles.text))
        self._track = (cell_len(left) + 1, room)
        last = max(1, self._moment.steps - 1)
        at = round(self._moment.step / last * (room - 1)) if self._moment.steps > 1 else room - 1
        knob = ASCII_KNOB if self.look.ascii else KNOB
        track = self._draw_track(room, last)
        return Content.assemble(
            (f"{left} ", self.text_styles.text),
            (track[:at], self.text_styles.strong),
            (knob, self.text_styles.strong),
            (track[at + 1 :], self.text_styles.dim),
            (f" {right}", self.text_styles.dim),
        )

    def _draw_track(self, room: int, last: int) -> str:
        """Return the track of the slider, with a separator and the name where a stage begins."""
        line, begin = (ASCII_TRACK, ASCII_BEGIN) if self.look.ascii else (TRACK, BEGIN)
        cells = [line] * room
        places = [round(step / last * (room - 1)) for step, _ in self._stages]
        for place, end, (_, name) in zip(places, (*places[1:], room), self._stages, strict=False):
            cells[place] = begin
            if len(name) == cell_len(name) < end - place - 1:  # one cell of the track stays
                cells[place + 1 : place + 1 + len(name)] = name
        return "".join(cells)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Go to the step under the mouse, and follow the mouse until it is let go."""
        self._held = True
        self.capture_mouse()
        self._slide(event)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Go to the step under the mouse while its button is down."""
        if self._held:
            self._slide(event)

    def on_mouse_up(self) -> None:
        """Let go of the slider."""
        self._held = False
        self.release_mouse()

    def on_mouse_scroll_up(self) -> None:
        """Go one step back."""
        if self._moment is not None:
            self._go(self._moment.step - 1)

    def on_mouse_scroll_down(self) -> None:
        """Go one step forward."""
        if self._moment is not None:
            self._go(self._moment.step + 1)

    def _slide(self, event: events.MouseEvent) -> None:
        start, length = self._track
        if self._moment is None or length < 2:
            return
        share = (event.x - self.styles.padding.left - start) / (length - 1)
        self._go(round(max(0.0, min(share, 1.0)) * (self._moment.steps - 1)))

    def _go(self, step: int) -> None:
        go_to_step(self.host, max(0, step))
