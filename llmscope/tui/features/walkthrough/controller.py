"""Walking through the pass: back to where one came from, by itself, and on with a longer text."""

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
    from llmscope.tui.desk import Desk
    from llmscope.tui.panes.walk_values import ValuesPane
    from llmscope.tui.panes.walkthrough import WalkthroughPane
    from llmscope.tui.state.view_state import ViewState

WORKSPACE = "walkthrough"
PLAYING = ("walk-on", "walk-back")
"""The actions that begin and stop it themselves."""
PACE = 2.5
"""Seconds that a step stays while the walk goes by itself."""
ELSEWHERE = "steps are in {workspace-walkthrough} Walkthrough"
BEGINS = "this is where it begins"
EARLIER = "the cursor is on an earlier token: {token-last} goes to the last one"


class Walking:
    """What the walk remembers: where a person came from, and whether it goes by itself."""

    def __init__(self) -> None:
        self._before: list[tuple[tuple[Token, ...], Focus, tuple[int, int] | None]] = []
        self._timer: Timer | None = None
        self._by = 0
        self._at: tuple[ViewState, str] | None = None

    @property
    def plays(self) -> int:
        """1 while the walk goes forwards by itself, -1 backwards, else 0."""
        return self._by

    def go(self, desk: Desk, scene: ViewState) -> None:
        """Go somewhere from where one can come back."""
        here = desk.scene
        self._before.append((here.tokens, here.focus, here.inside))
        desk.look_at(scene)

    def back(self, desk: Desk) -> None:
        """To where one came from, if that is still there."""
        while self._before:
            tokens, was, inside = self._before.pop()
            if tokens == desk.scene.tokens:
                place = (was.layer, was.head, was.step, was.weight, was.cell)
                layer, head, step, weight, cell = place
                focus = replace(desk.scene.focus, layer=layer, head=head, step=step)
                focus = replace(focus, weight=weight, cell=cell)
                desk.look_at(replace(desk.scene, focus=focus, inside=inside))
                return
        desk.tell(desk.own.keymap.filled("you came from nowhere: {step-from} goes to an input"))

    def play(self, desk: Desk, by: int) -> None:
        """Let it go by itself; once more stops it."""
        if self._by == by:
            self.stop()
            return
        self.stop()
        self._by, self._at = by, (desk.scene, desk.text)
        self._timer = desk.set_interval(PACE, partial(self.tick, desk))
        desk.tell("the walk goes on by itself; any key stops it")
        self.tick(desk)

    def stop(self) -> None:
        """Stand still."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._by, self._at = None, 0, None

    def tick(self, desk: Desk) -> None:
        """One step further, once what stands is there; not if a person has moved on meanwhile."""
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


def table(desk: Desk) -> WalkthroughPane:
    """The pane of all steps."""
    from llmscope.tui.panes.walkthrough import WalkthroughPane

    pane = desk.overview.panes["walkthrough"]
    assert isinstance(pane, WalkthroughPane)
    return pane


def numbers(desk: Desk) -> ValuesPane:
    """The pane of the numbers of a step."""
    from llmscope.tui.panes.walk_values import ValuesPane

    pane = desk.overview.panes["walk-values"]
    assert isinstance(pane, ValuesPane)
    return pane


def here(desk: Desk) -> bool:
    """Whether there is a walk on screen; if not, it says where there is one."""
    if desk.overview.workspace.name == WORKSPACE and table(desk).steps:
        return True
    there = desk.overview.workspace.name == WORKSPACE
    desk.tell("there is no step to go to yet" if there else desk.own.keymap.filled(ELSEWHERE))
    return False


def source(desk: Desk) -> None:
    """To what the step, or the number under the cursor, is made of."""
    # It names them, which takes numpy: the first picture does without.
    from llmscope.tui.features.walkthrough.sources import source as ask

    ask(desk)


def back(desk: Desk) -> None:
    """To where one came from."""
    if here(desk):
        desk.walking.back(desk)


def play(desk: Desk, by: int) -> None:
    """Let the walk go by itself, forwards or backwards."""
    if here(desk) and desk.may("walk-on"):
        desk.walking.play(desk, by)


def write(desk: Desk) -> None:
    """Write the likeliest token after the prompt, and begin the walk again."""
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


def _ending(desk: Desk) -> str:
    """What is said at the end of a walk that went by itself."""
    last = table(desk).steps[-1]
    if last.get("ending"):
        return " ".join(last["ending"])
    if not last.get("writes"):
        return "this is where it ends"
    said = "comes next: {write-token} writes it, and the walk begins again"
    return f"{quoted_token(last['writes'])} {desk.own.keymap.filled(said)}"
