"""The line below the prompt that offers the tour at a first start, and takes it step by step.

The tour is done, not read: each step asks for one key, and waits until what the key does is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.widget import Widget

from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.actions.user_keymap import Keymap
from llmscope.tui.widgets.status_bar import KeyLine

if TYPE_CHECKING:
    from llmscope.tui.host import Host

HELP = "help-anywhere"
TAKE, HIDE = "tour", "tour-hide"
"""The actions that it offers: it takes no key of its own, so that typing goes to the prompt."""
PALETTE = "the palette"
FORMS = (
    (
        "New to llmscope? Just type. ",
        " takes the tour of two minutes",
        "  ·  ",
        " hides this line",
    ),
    ("New here? ", " takes the tour", "  ·  ", " hides this line"),
    ("New? ", " tour", " · ", " hide"),
)
"""What is said before and after the two keys, from the longest to the shortest."""


@dataclass(frozen=True)
class TourStep:
    """A step of the tour.

    Attributes:
        text: what to do, and what it shows; `{name}` stands for the key of an action.
        short: the same for a narrow screen.
        done: returns whether it is done, given the text of the prompt at the step's beginning.
    """

    text: str
    short: str
    done: Callable[[Host, str], bool]


STEPS = (
    TourStep(
        "Type a word or two: the model reads each letter, and every pane follows",
        "type a word",
        lambda host, before: host.in_prompt and host.text.strip() != before.strip(),
    ),
    TourStep(
        "{figures} leaves the prompt, {workspace-answer} asks who wrote the answer, part by part",
        "{figures}, then {workspace-answer}",
        lambda host, _: host.grid.workspace.name == "answer" and not host.in_prompt,
    ),
    TourStep(
        "{up} {down} choose a part, {edit-zero} switches it off: what is the answer without it?",
        "{down}, then {edit-zero}",
        lambda host, _: bool(host.state.in_force),
    ),
    TourStep(
        "{undo} takes it back; it works for the prompt and for edits",
        "{undo}: undo",
        lambda host, _: not host.state.in_force,
    ),
    TourStep(
        "{workspace-heads} asks what each head is for; the arrows walk over the grid",
        "{workspace-heads}",
        lambda host, _: host.grid.workspace.name == "heads" and not host.in_prompt,
    ),
)
"""The steps, in the order in which they are done."""
END = (
    "Done. {menu-view} {menu-go} {menu-write} {menu-ab} open menus, {help} explains a pane, "
    "{palette} finds the rest",
    "done · {help} help",
)
"""What is said after the last step until the next key, in full and for a narrow screen."""


class TourLine(Widget):
    """The offer of the tour, then its steps. A click on the offer does what its key does."""

    def __init__(self, keymap: Keymap) -> None:
        super().__init__(id="tour-line")
        self._keymap = keymap
        key = keymap.shown(BY_NAME[HELP], "prompt")
        # The help takes the tour by its own key, and has this line hidden.
        self._keys = [f"{key[0]} {key[0]}", f"{key[0]} esc"] if key else [PALETTE, PALETTE]
        self._middle = 0
        self._at: int | None = None
        self._before = ""

    @property
    def at(self) -> int | None:
        """The number of steps that are done; None while the tour is offered, or hidden."""
        return self._at

    def begin(self, host: Host) -> None:
        """Begin with the first step."""
        self._at, self._before = 0, host.text
        self.display = True
        self.refresh()

    def end(self) -> None:
        """Hide the line."""
        self._at = None
        self.display = False

    def advance(self, host: Host, *, acted: bool = False) -> None:
        """Go on to the next step once this one is done; after the last one, end with a key.

        Args:
            host: the app.
            acted: whether a key has run an action.
        """
        if self._at is None:
            return
        if self._at == len(STEPS):
            if acted:
                self.end()
        elif STEPS[self._at].done(host, self._before):
            self._at, self._before = self._at + 1, host.text
            self.refresh()

    def render(self) -> Content:
        """Render the longest form that fits."""
        if self._at is not None:
            return Content(self._step(self._at))
        take, hide = self._keys
        for before, taking, gap, hiding in FORMS:
            left = f"{before}{take}{taking}{gap}"
            if cell_len(f"{left}{hide}{hiding}") <= self.size.width:
                break
        self._middle = cell_len(left)
        return Content(f"{left}{hide}{hiding}")

    def _step(self, at: int) -> str:
        """Return a step in words, with its number."""
        forms = END if at == len(STEPS) else (STEPS[at].text, STEPS[at].short)
        number = "" if at == len(STEPS) else f"{at + 1}/{len(STEPS)} "
        lines = [f"{number}{self._keymap.filled(form)}" for form in forms]
        return next((form for form in lines if cell_len(form) <= self.size.width), lines[-1])

    def on_click(self, event: events.Click) -> None:
        """Run the action of the half of the offer that was clicked; end the tour."""
        offset = event.get_content_offset(self)
        if self._at is not None:
            self.end()
        elif offset is not None:
            self.post_message(KeyLine.Chosen(HIDE if offset.x >= self._middle else TAKE))
