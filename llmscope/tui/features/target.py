"""The target among the candidates for the next token, and what it is held against."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.support.text import quoted_token

if TYPE_CHECKING:
    from llmscope.tui.host import Host


def pin_target(host: Host) -> None:
    """Pin the target token, so that it stays wherever the cursor goes; or unpin it."""
    state, result = host.state, host.figures.shown("next-token")
    if state.target_pinned:
        host.look_at(state.set_target(None, pinned=False))
        host.tell("the target is the most probable token again")
        return
    ids = [] if result is None else [int(token) for token in result.figure.extra.get("ids", ())]
    if result is None or not ids:
        host.tell("no next token on screen to pin", "warning")
        return
    target = state.target if state.target in ids else ids[0]
    host.look_at(state.set_target(target, pinned=True))
    host.tell(f"target pinned: {quoted_token(result.figure.axes[0].labels[ids.index(target)])}")


def versus(host: Host) -> None:
    """Compare the target with the chosen candidate, else with the likeliest other one, or stop."""
    state, result = host.state, host.figures.shown("next-token")
    if state.versus is not None:
        host.look_at(replace(state, versus=None))
        host.tell("the target is held against no other token")
        return
    ids = [] if result is None else [int(token) for token in result.figure.extra.get("ids", ())]
    answer = state.target if state.target_pinned else next(iter(ids), None)
    others = [token for token in ids if token != answer]
    rival = state.target if state.target in others else next(iter(others), None)
    if result is None or rival is None:
        host.tell("no candidates on screen to hold the target against", "warning")
        return
    against = result.figure.axes[0].labels[ids.index(rival)]
    free = state if state.target_pinned else state.set_target(None)
    host.look_at(replace(free, versus=rival))
    host.tell(f"the answer is held against {quoted_token(against)}")
