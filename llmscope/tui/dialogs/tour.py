"""The tour: a few boxes over the real screen, each next to the place it explains.

The tour never opens by itself, so that it does not stop a user who only wants to type. At the first
start a line below the prompt offers it instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Offset, Region, Size
from textual.widget import Widget
from textual.widgets import Static

from llmscope.draw.color.theme import Theme
from llmscope.tui.dialogs.base import Dialog
from llmscope.tui.state.workspaces import BY_NAME
from llmscope.tui.theme.textual_theme import text_styles

if TYPE_CHECKING:
    from llmscope.tui.host import Host

WIDTH = 46
"""Width of a box in cells."""
POINTER = " ▸ "
PANE = "pane"
"""The place of the first pane on screen, whichever that is."""
BACK = ("left", "up", "backspace", "shift+tab", "pageup")
"""Keys that go back to the box before."""


@dataclass(frozen=True)
class Stop:
    """A place and its explanation.

    Attributes:
        place: a pane by its key, `PANE`, or one of `places`.
        title, text: what is told; in `text`, `{name}` is replaced by the key of an action.
        workspace: the workspace that is shown meanwhile.
    """

    place: str
    title: str
    text: str
    workspace: str = "overview"


STOPS = (
    Stop(
        "prompt",
        "Type here",
        "The model reads every letter as you type it, and all panes follow. Tokens are tinted in "
        "place; the marked one is under the cursor. {figures} leads to the figures, {edit} back.",
    ),
    Stop(
        "map",
        "The map",
        "Tokens from left to right, layers from top to bottom: a cell is one token after one "
        "layer. The arrows move the cursor, which all panes share. {menu-view} lists other views, "
        "such as the word that each layer would say.",
    ),
    Stop(
        "next-token",
        "What comes next",
        "The most probable tokens after the one under the cursor. In here up and down choose one, "
        "and {pin-target} keeps asking about it.",
    ),
    Stop(
        "attention",
        "Where a head looks",
        "A row is a token that looks, a column one that it looks at. {head-previous} and "
        "{head-next} change the head, {attention-mode} shows the mean of all heads.",
    ),
    Stop(
        "mlp",
        "Which neurons fire",
        "The strongest neurons of this layer on this token; the strip beside them has all tokens.",
    ),
    Stop(
        "words",
        "The same in words",
        "This line reads the cursor aloud: what the model expects next, where the head looks, the "
        "number under the cursor.",
    ),
    Stop(
        PANE,
        "Tab 2: heads",
        "Each tab asks another question, and has a digit. {workspace-heads} shows what each "
        "head is for: {menu-view} lists induction, previous token, duplicate token and sinks.",
        "heads",
    ),
    Stop(
        PANE,
        "Who wrote the answer?",
        "{workspace-answer} shows what each head and MLP adds to the logit of the answer, and "
        "which tokens mattered. {versus} holds the answer against another token.",
        "answer",
    ),
    Stop(
        PANE,
        "What if?",
        "{workspace-what-if} shows what breaks without each head. In any pane {edit-zero} ablates "
        "what is under the cursor, or restores it; {edit-write} types an edit, such as steering. "
        "Every pane then shows the edited pass.",
        "what-if",
    ),
    Stop(
        "tabs",
        "More tabs",
        "Tabs come with their subject: a prompt B, an adapter, a second model, a dictionary, a "
        "chat. {menu-tabs} lists all, with others beside: neurons, what a context teaches, every "
        "step of the pass with its numbers.",
    ),
    Stop(
        "model",
        "Another model",
        "{models} lists the models on this machine, and opens any other by its name, downloaded if "
        "need be: GPT-2, Llama, a folder, a GGUF file. Your prompt is kept.",
    ),
    Stop(
        "model",
        "How a model learns",
        "`llmscope watch builtin:town-run`, in a shell, shows the training of the built-in model "
        "step by step: when it learns which rule, in which layer, by which head. A callback "
        "records the same of a training of yours.",
    ),
    Stop(
        "prompt",
        "Let it write",
        "In the figures {write-token} generates a token, {write-on} one after the other until you "
        "press a key. {write-back} takes one back, {fork} tries another branch, {sampler} sets "
        "temperature and seed.",
    ),
    Stop(
        PANE,
        "Keep what you found",
        "{save} saves a pane as a picture or as numbers. {copy} copies the line in words, a "
        "number, or the command or the Python that makes the same figure.",
    ),
    Stop(
        "keys",
        "Where to go on",
        "{help} explains the pane you are in: what it shows, how to read it, the formula, all keys "
        "and marks. {palette} finds every command, view and question by what you call it, this "
        "tour too.",
    ),
)


def tour(host: Host) -> None:
    """Start the tour; it ends in the workspace that is on screen now."""
    host.push_screen(TourScreen(host, stops_for(host)))


def places(host: Host) -> Mapping[str, Widget]:
    """Return the widgets on screen by the names that stops use."""
    found: dict[str, Widget] = {
        "prompt": host.editor,
        "words": host.status,
        "keys": host.key_line,
        "tabs": host.tabs if host.tabs.region.height else host.key_line,
        "model": host.header,
    }
    if host.grid.display:
        found[PANE] = host.grid.panes[host.grid.on_screen[0]]
        found |= {key: host.grid.panes[key] for key in host.grid.on_screen}
    return found


def stops_for(host: Host) -> list[Stop]:
    """Return the stops that this screen has room for; without figures, those outside of panes."""
    around = places(host)
    if not host.grid.display:
        return [stop for stop in STOPS if stop.place in around]
    overview = host.grid.shown_in(BY_NAME["overview"])
    known = {PANE, *overview, *(key for key in around if key not in host.grid.panes)}
    return [stop for stop in STOPS if stop.place in known]


class TourScreen(Dialog[None]):
    """The boxes, one at a time: any key shows the next one, esc closes."""

    def __init__(self, host: Host, stops: Sequence[Stop]) -> None:
        super().__init__(host.size)
        self._host, self._stops, self._at = host, stops, 0
        self._theme: Theme = host.look.theme
        self._workspace, self._pane = host.grid.workspace, host.grid.current
        self._pointer = Static(Content(POINTER), classes="letter", id="tour-pointer")
        self._card = Static(id="tour")

    def compose(self) -> ComposeResult:
        """Yield a pointer and a box, which move from stop to stop."""
        yield self._pointer
        yield self._card

    def on_mount(self) -> None:
        """Show the first box."""
        below = self._host.screen_stack[0]
        below.screen_layout_refresh_signal.subscribe(self, self._place)
        self._show()

    def on_key(self, event: events.Key) -> None:
        """Show the next box or the one before, or close after the last one and on esc."""
        event.stop()
        event.prevent_default()
        self._at = max(0, self._at - 1) if event.key in BACK else self._at + 1
        if event.key == "escape" or self._at >= len(self._stops):
            self.leave()
        else:
            self._show()

    def leave(self, answer: None = None) -> None:
        """Close, and come back to where the tour began."""
        grid = self._host.grid
        if grid.display and grid.workspace != self._workspace:
            grid.show(self._workspace)
            grid.point(self._pane)
        super().leave(answer)

    def _show(self) -> None:
        grid, stop = self._host.grid, self._stops[self._at]
        if grid.display and grid.workspace.name != stop.workspace:
            grid.show(BY_NAME[stop.workspace])
        self._place()

    def _place(self, *_: object) -> None:
        """Put the box beside its place, again whenever the panes were laid out.

        A place that is hidden meanwhile, as panes are once the prompt is empty, has no pointer.
        """
        if not self.is_current or self._at >= len(self._stops):
            return
        stop = self._stops[self._at]
        place = places(self._host).get(stop.place)
        region = Region() if place is None else place.region
        styles, screen = text_styles(self._theme), self._size_at_first
        width = min(WIDTH, screen.width)
        lines = wrap(self._host.user.keymap.filled(stop.text), max(1, width - 4))
        card = self._card
        card.border_title = Content(stop.title)
        last = self._at == len(self._stops) - 1
        back = " · ← back" * (self._at > 0)
        card.border_subtitle = Content(
            f"{self._at + 1} of {len(self._stops)} · any key {'ends' if last else 'goes on'}{back}"
            " · esc"
        )
        card.update(Content.assemble(("\n".join(lines), styles.text)))
        height = min(len(lines) + 2, screen.height)
        card.styles.width, card.styles.height = width, height
        card.styles.offset = beside(region, Size(width, height), screen)
        self._pointer.display = place is not None
        self._pointer.styles.offset = region.offset


def beside(place: Region, card: Size, screen: Size) -> Offset:
    """Return the offset of a box that covers as little as possible of `place`.

    Try below it, above it, right and left of it; if none has room, use the screen's lower right.
    """
    x = max(0, min(place.x + 2, screen.width - card.width))
    if place.bottom + card.height <= screen.height:
        return Offset(x, place.bottom)
    if place.y >= card.height:
        return Offset(x, place.y - card.height)
    y = max(0, min(place.y + 1, screen.height - card.height))
    if place.right + card.width <= screen.width:
        return Offset(place.right, y)
    if place.x >= card.width:
        return Offset(place.x - card.width, y)
    return Offset(screen.width - card.width, max(0, screen.height - card.height))
