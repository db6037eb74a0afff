"""The walkthrough's key handlers: go to sources and back, autoplay, and write the next token."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from llmscope.text import quoted_token
from llmscope.tui.state.context_marker import marked

if TYPE_CHECKING:
    from textual.timer import Timer

    from llmscope.engine.events import Token
    from llmscope.figure import Focus
    from llmscope.tui.app import LlmscopeApp
    from llmscope.tui.panes.walk_values import ValuesPane
    from llmscope.tui.panes.walkthrough import WalkthroughPane
    from llmscope.tui.state.view_state import ViewState

WORKSPACE = "walkthrough"
PLAYING = ("walk-on", "walk-back")
"""The actions that start and stop autoplay themselves, so their keys need not stop it first."""
PACE = 2.5
"""Seconds that each step is shown in autoplay."""
ELSEWHERE = "steps are in {workspace-walkthrough} Walkthrough"
BEGINS = "this is where it begins"
EARLIER = "the cursor is on an earlier token: {token-last} goes to the last one"


class Walking:
    """The state of the walkthrough: the history of places, and autoplay."""

    def __init__(self) -> None:
        self._before: list[tuple[tuple[Token, ...], Focus, tuple[int, int] | None]] = []
        self._timer: Timer | None = None
        self._by = 0
        self._at: tuple[ViewState, str] | None = None

    @property
    def plays(self) -> int:
        """1 while autoplay goes forwards, -1 while it goes backwards, otherwise 0."""
        return self._by

    def go(self, desk: LlmscopeApp, scene: ViewState) -> None:
        """Push the present place onto the history and go to `scene`."""
        here = desk.scene
        self._before.append((here.tokens, here.focus, here.inside))
        desk.look_at(scene)

    def back(self, desk: LlmscopeApp) -> None:
        """Go back to the last place of the history that belongs to the present tokens."""
        while self._before:
            tokens, was, inside = self._before.pop()
            if tokens == desk.scene.tokens:
                place = (was.layer, was.head, was.step, was.weight, was.cell)
                layer, head, step, weight, cell = place
                focus = replace(desk.scene.focus, layer=layer, head=head, step=step)
                focus = replace(focus, weight=weight, cell=cell)
                desk.look_at(replace(desk.scene, focus=focus, inside=inside))
                return
        desk.tell(desk.own.keymap.filled("nothing to go back to: {step-from} goes to an input"))

    def play(self, desk: LlmscopeApp, by: int) -> None:
        """Start autoplay in direction `by` (1 or -1); the same direction again stops it."""
        if self._by == by:
            self.stop()
            return
        self.stop()
        self._by, self._at = by, (desk.scene, desk.text)
        self._timer = desk.set_interval(PACE, partial(self.tick, desk))
        desk.tell("the walk goes on by itself; any key stops it")
        self.tick(desk)

    def stop(self) -> None:
        """Stop autoplay."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._by, self._at = None, 0, None

    def tick(self, desk: LlmscopeApp) -> None:
        """Go one step further once all figures are there; stop if the user did anything else."""
        moved = self._at != (desk.scene, desk.text) or len(desk.screen_stack) > 1
        if moved or desk.overview.workspace.name != WORKSPACE:
            self.stop()
        elif not desk.ledger.waiting:
            by = self._by
            scene = table(desk).onward(desk.scene, by, opens=True)
            if scene is None:
                self.stop()
                desk.tell(BEGINS if by < 0 else _ending(desk))
            else:
                desk.look_at(scene)
                self._at = (desk.scene, desk.text)


def table(desk: LlmscopeApp) -> WalkthroughPane:
    """Return the pane with the table of steps."""
    from llmscope.tui.panes.walkthrough import WalkthroughPane

    pane = desk.overview.panes["walkthrough"]
    assert isinstance(pane, WalkthroughPane)
    return pane


def numbers(desk: LlmscopeApp) -> ValuesPane:
    """Return the pane with the numbers of a step."""
    from llmscope.tui.panes.walk_values import ValuesPane

    pane = desk.overview.panes["walk-values"]
    assert isinstance(pane, ValuesPane)
    return pane


def here(desk: LlmscopeApp) -> bool:
    """Return whether a walkthrough is on screen; if not, tell the user where to find it."""
    if desk.overview.workspace.name == WORKSPACE and table(desk).steps:
        return True
    there = desk.overview.workspace.name == WORKSPACE
    desk.tell("there is no step to go to yet" if there else desk.own.keymap.filled(ELSEWHERE))
    return False


def source(desk: LlmscopeApp) -> None:
    """Go to an input of the step, or of the number under the cursor."""
    # Imported late: it needs numpy, which the first frame does not load.
    from llmscope.tui.features.walkthrough.sources import source as ask

    ask(desk)


def back(desk: LlmscopeApp) -> None:
    """Go back to the previous place."""
    if here(desk):
        desk.walking.back(desk)


def play(desk: LlmscopeApp, by: int) -> None:
    """Start or stop autoplay in direction `by` (1 or -1)."""
    if here(desk) and desk.may("walk-on"):
        desk.walking.play(desk, by)


def write(desk: LlmscopeApp) -> None:
    """Append the likeliest token to the prompt, and restart the walkthrough."""
    if not here(desk):
        return
    pane, scene = table(desk), desk.scene
    last = pane.steps[-1]
    shown = pane.shown
    fresh = shown is not None and shown.at(scene) and shown.text == marked(desk.text).text
    if not fresh or "writes" not in last:
        desk.tell("what comes next is not known yet", "warning")
    elif scene.focus.position != len(scene.tokens) - 1:
        desk.tell(desk.own.keymap.filled(EARLIER), "warning")
    elif last["full"]:
        desk.tell(" ".join(last["ending"]))
    elif not last["writes"]:
        desk.tell(
            f"the model ends here: {quoted_token(last['told'][0])} cannot be written", "warning"
        )
    else:
        from llmscope.sampler import Sampler

        desk.generating.step(desk, Sampler())


def _ending(desk: LlmscopeApp) -> str:
    """Return the notice for the end of autoplay."""
    last = table(desk).steps[-1]
    if last.get("ending"):
        return " ".join(last["ending"])
    if not last.get("writes"):
        return "this is where it ends"
    said = "comes next: {write-token} writes it, and the walk begins again"
    return f"{quoted_token(last['writes'])} {desk.own.keymap.filled(said)}"
