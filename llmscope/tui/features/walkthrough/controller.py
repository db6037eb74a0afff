"""The walkthrough's key handlers: go to sources and back, autoplay, and write the next token."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from llmscope.support.text import quoted_token
from llmscope.tui.state.context_marker import marked

if TYPE_CHECKING:
    from textual.timer import Timer

    from llmscope.engine.events import Token
    from llmscope.figure import Focus
    from llmscope.tui.host import Host
    from llmscope.tui.panes.walk_values import ValuesPane
    from llmscope.tui.panes.walkthrough import WalkthroughPane
    from llmscope.tui.state.view_state import ViewState

WORKSPACE = "walkthrough"
PLAYING = ("walk-on", "walk-back", "edit-toggle")
"""The actions that start and stop autoplay themselves, so their keys need not stop it first."""
PACE = 2.5
"""Seconds that each step is shown in autoplay."""
ELSEWHERE = "steps are in {workspace-walkthrough} Walkthrough"
BEGINS = "this is where it begins"
EARLIER = "the cursor is on an earlier token: {token-last} goes to the last one"


class WalkthroughPlayer:
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

    @property
    def trail(self) -> bool:
        """Whether there is a place to go back to."""
        return bool(self._before)

    def go(self, host: Host, state: ViewState) -> None:
        """Push the present place onto the history and go to `state`."""
        here = host.state
        self._before.append((here.tokens, here.focus, here.inside))
        host.look_at(state)

    def back(self, host: Host) -> None:
        """Go back to the last place of the history that belongs to the present tokens."""
        while self._before:
            tokens, was, inside = self._before.pop()
            if tokens == host.state.tokens:
                place = (was.layer, was.head, was.step, was.weight, was.cell)
                layer, head, step, weight, cell = place
                focus = replace(host.state.focus, layer=layer, head=head, step=step)
                focus = replace(focus, weight=weight, cell=cell)
                host.look_at(replace(host.state, focus=focus, inside=inside))
                return
        host.tell(host.user.keymap.filled("nothing to go back to: {step-from} goes to an input"))

    def play(self, host: Host, by: int) -> None:
        """Start autoplay in direction `by` (1 or -1); the same direction again stops it."""
        if self._by == by:
            self.stop()
            return
        self.stop()
        self._by, self._at = by, (host.state, host.text)
        self._timer = host.set_interval(PACE, partial(self.tick, host))
        host.tell("the walk goes on by itself; any key stops it")
        self.tick(host)

    def stop(self) -> None:
        """Stop autoplay."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._by, self._at = None, 0, None

    def tick(self, host: Host) -> None:
        """Go one step further once all figures are there; stop if the user did anything else."""
        moved = self._at != (host.state, host.text) or len(host.screen_stack) > 1
        if moved or host.grid.workspace.name != WORKSPACE:
            self.stop()
        elif not host.figures.waiting:
            by = self._by
            state = table(host).onward(host.state, by, opens=True)
            if state is None:
                self.stop()
                host.tell(BEGINS if by < 0 else _ending(host))
            else:
                host.look_at(state)
                self._at = (host.state, host.text)


def table(host: Host) -> WalkthroughPane:
    """Return the pane with the table of steps."""
    from llmscope.tui.panes.walkthrough import WalkthroughPane

    pane = host.grid.panes["walkthrough"]
    assert isinstance(pane, WalkthroughPane)
    return pane


def numbers(host: Host) -> ValuesPane:
    """Return the pane with the numbers of a step."""
    from llmscope.tui.panes.walk_values import ValuesPane

    pane = host.grid.panes["walk-values"]
    assert isinstance(pane, ValuesPane)
    return pane


def here(host: Host) -> bool:
    """Return whether a walkthrough is on screen; if not, tell the user where to find it."""
    if host.grid.workspace.name == WORKSPACE and table(host).steps:
        return True
    there = host.grid.workspace.name == WORKSPACE
    host.tell("there is no step to go to yet" if there else host.user.keymap.filled(ELSEWHERE))
    return False


def back(host: Host) -> None:
    """Go back to the previous place."""
    if here(host):
        host.walkthrough.back(host)


def play(host: Host, by: int) -> None:
    """Start or stop autoplay in direction `by` (1 or -1)."""
    if here(host) and host.may("walk-on"):
        host.walkthrough.play(host, by)


def write(host: Host) -> None:
    """Append the likeliest token to the prompt, and restart the walkthrough."""
    if not here(host):
        return
    pane, state = table(host), host.state
    last = pane.steps[-1]
    result = pane.shown
    fresh = result is not None and result.at(state) and result.text == marked(host.text).text
    if not fresh or "writes" not in last:
        host.tell("what comes next is not known yet", "warning")
    elif state.focus.position != len(state.tokens) - 1:
        host.tell(host.user.keymap.filled(EARLIER), "warning")
    elif last["full"]:
        host.tell(" ".join(last["ending"]))
    elif not last["writes"]:
        host.tell(
            f"the model ends here: {quoted_token(last['told'][0])} cannot be written", "warning"
        )
    else:
        from llmscope.models.sampler import Sampler

        host.generation.step(host, Sampler())


def _ending(host: Host) -> str:
    """Return the notice for the end of autoplay."""
    last = table(host).steps[-1]
    if last.get("ending"):
        return " ".join(last["ending"])
    if not last.get("writes"):
        return "this is where it ends"
    notice = "comes next: {write-token} writes it, and the walk begins again"
    return f"{quoted_token(last['writes'])} {host.user.keymap.filled(notice)}"
