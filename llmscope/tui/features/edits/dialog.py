"""The line that takes an edit: it completes places and tokens, and shows the effect meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input

from llmscope.draw.numbers import number
from llmscope.edits import Edit, parse
from llmscope.engine.events import Want
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.support.numbers import percent
from llmscope.support.text import display_text
from llmscope.tui.dialogs.base import LineScreen
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.state.offered_edits import Offered, flaw
from llmscope.tui.state.work import bar

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState

GRAMMAR = (
    "→ completes · zero, mean, scale, patch, steer, swap, freeze, block · head, neuron, mlp · @-1"
)
"""The label of the line: actions, parts, positions; the help page has the full grammar."""
NEXT, NORM = "edit-next", "edit-norm"
"""The keys of the figures that the dialog asks for: the next token, and the norms of the stream."""
PAUSE = 0.1
"""Seconds between two looks at the figures that came."""


class EditSuggester(Suggester):
    """Completes the line by an edit that the open model can make."""

    def __init__(self, host: Host) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._host = host

    async def get_suggestion(self, value: str) -> str | None:
        """Return the whole line; None if nothing is offered for it."""
        offered = Offered.of(self._host.state, self._host.figures)
        return None if offered is None else offered.complete(value) or None


class EditScreen(LineScreen):
    """One line at the bottom: enter adds the edit, esc closes. An invalid edit stays in it.

    While an edit is typed, the panes show what it does, as if it were listed. Up and down change
    its strength, which is drawn beside the norm of the stream there.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "turn(1)", "stronger", show=False),
        Binding("down", "turn(-1)", "weaker", show=False),
    ]

    def __init__(self, host: Host, text: str, *, in_place: bool) -> None:
        what = "edit" if in_place else "new edit"
        super().__init__(f"{what} · {GRAMMAR}", text)
        self._line.suggester = EditSuggester(host)
        self._host = host
        self._in_place = in_place
        self._before = host.state
        self._undo = list(host.undo.past), list(host.undo.future)
        self._typed = text
        self._edit: Edit | None = None
        self._turned: ListedEdit | None = None
        self._likeliest = ""

    def on_mount(self) -> None:
        """Ask for the figures that tell of the effect, and look for them while it is open."""
        super().on_mount()
        position = self._host.state.requested_position
        self._host.grid.aside = (
            Want(NEXT, "next-token", Focus(position=position)),
            Want(NORM, "residual", Focus(mode="stream")),
        )
        present = self._host.figures.shown("next-token")
        if present is not None and present.at(self._host.state) and present.figure.axes:
            self._likeliest = _first_candidate(present)
        self._host.ask()
        self.set_interval(PAUSE, self._show_effect)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what the edit does, once it is one; without it, the panes are as they were."""
        if event.value == self._typed:
            return
        self._typed, self._edit = event.value, None
        state = self._before
        try:
            edit = parse(event.value)
        except ScopeError:
            edit = None
        if edit is not None and state.info is not None and (reason := flaw(edit, state.info)):
            self.say(reason)
        elif edit is not None:
            state, self._edit = self._put(edit), edit
        self._host.look_at(self._with_edits_of(state), patiently=True)

    def action_turn(self, by: int) -> None:
        """Write the edit with its strength one step up or down, as the keys of the list do."""
        edit = self._edit
        if edit is None or not edit.turnable:
            return
        last = self._turned
        listed = last if last is not None and last.edit == edit else ListedEdit.of(edit)
        self._turned = listed.turned(by)
        self._line.value = str(self._turned.edit)
        self._line.cursor_position = len(self._line.value)

    @property
    def shows_edit(self) -> bool:
        """Whether the panes show what the typed edit does."""
        return self._edit is not None

    def refused(self, reason: str) -> None:
        """Say why the model cannot make the edit that is shown."""
        self._edit = None
        self._host.look_at(self._with_edits_of(self._before))
        self.say(display_text(reason))

    def submit(self, event: Input.Submitted) -> None:
        """Add the edit to the list, or show the error."""
        try:
            edit = parse(event.value)
        except ScopeError as error:
            self.say(display_text(f"{error.message} · {error.hint}" if error.hint else str(error)))
            return
        put = self._put(edit)
        self._host.state = self._with_edits_of(self._before)
        self._close()
        self._host.look_at(self._with_edits_of(put))

    def action_leave(self) -> None:
        """Close without the edit: the panes are as they were."""
        if not self.gone:
            self._host.look_at(self._with_edits_of(self._before))
        self._close()

    def _close(self) -> None:
        self._host.grid.aside = ()
        self._host.undo.past, self._host.undo.future = self._undo
        self.dismiss(None)

    def _put(self, edit: Edit) -> ViewState:
        before = self._before
        return before.with_edit_in_place(edit) if self._in_place else before.with_edit(edit)

    def _with_edits_of(self, state: ViewState) -> ViewState:
        """Return the present view state with the edits of another one."""
        now = self._host.state
        return replace(now, edits=state.edits, chosen=state.chosen, muted=state.muted)

    def _show_effect(self) -> None:
        """Say how the prediction changed, and how long the stream is where the edit is made."""
        figures = self._host.figures
        result = figures.shown(NEXT)
        if result is None or figures.stale(NEXT) or not result.figure.axes:
            return
        now = _first_candidate(result)
        if result.request.edits == self._before.in_force:
            self._likeliest = now
        elif self._edit is not None and result.of(self._host.state):
            norm = self._norm(self._edit)
            before = f"{self._likeliest} → " if self._likeliest else ""  # typed before it was known
            parts = [f"next {before}{now}"]
            if self._edit.turnable:
                parts.append(f"↑↓ {self._slider(self._edit, norm)}".rstrip())
            if norm:
                parts.append(f"the stream's norm here: {number(norm)}")
            self.say(" · ".join(parts))

    def _slider(self, edit: Edit, norm: float) -> str:
        """Return the strength of an edit as a bar: of the stream's norm, or of a factor up to 2."""
        ends = {"steer": norm, "scale": 2.0}
        end = ends.get(edit.action, 0.0)
        drawn = f"{bar(round(100 * min(abs(edit.factor) / end, 1)), 100)} " if end else ""
        return f"{drawn}{number(edit.factor)}"

    def _norm(self, edit: Edit) -> float:
        """Return the norm of the stream after the edit's layer at the cursor; 0 if unknown."""
        result, position = self._host.figures.shown(NORM), self._host.state.focus.position
        if result is None or not result.figure.axes or edit.layer is None:
            return 0.0
        labels, layers = result.figure.axes[0].labels, self._host.state.info
        layer = edit.layer + (layers.layers if layers is not None and edit.layer < 0 else 0)
        if str(layer) not in labels or position >= result.figure.values.shape[1]:
            return 0.0
        return float(result.figure.values[labels.index(str(layer)), position])


def _first_candidate(candidates: Shown) -> str:
    """Return the likeliest token of a figure of candidates, with its probability."""
    token = display_text(candidates.figure.axes[0].labels[0], whitespace=True)
    return f"‹{token}› {percent(float(candidates.figure.values[0]))}"
