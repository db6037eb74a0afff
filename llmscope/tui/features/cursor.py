"""The actions that move the cursor: through the panes, to a place, through the steps of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.tui.host import Host


def up(host: Host) -> None:
    """Move one row up; each pane defines its own rows."""
    host.look_at(host.grid.pane.step(host.state, -1))


def down(host: Host) -> None:
    """Move one row down."""
    host.look_at(host.grid.pane.step(host.state, 1))


def left(host: Host) -> None:
    """Move one column to the left; each pane defines its own columns."""
    host.look_at(host.grid.pane.side(host.state, -1))


def right(host: Host) -> None:
    """Move one column to the right."""
    host.look_at(host.grid.pane.side(host.state, 1))


def page(host: Host, by: int) -> None:
    """Move down by `by` pages of the pane; up for a negative `by`."""
    host.look_at(host.grid.pane.page(host.state, by))


def move(host: Host, layer: int, head: int) -> None:
    """Move by layers and heads, whichever pane has the focus."""
    host.look_at(host.state.move(layer=layer, head=head))


def first_token(host: Host) -> None:
    """Go to the first token."""
    host.look_at(host.state.move_to(position=0))


def last_token(host: Host) -> None:
    """Go to the last token, which the cursor then follows."""
    host.look_at(host.state.move_to(position=len(host.state.tokens) - 1))


def next_attention_mode(host: Host) -> None:
    """Show the next mode of the attention pane."""
    host.look_at(host.state.with_next_attention_mode())


def toggle_whole(host: Host) -> None:
    """Show the whole prompt in blocks, or the part near the cursor."""
    host.look_at(replace(host.state, whole=not host.state.whole))


def move_step(host: Host, by: int) -> None:
    """Go `by` steps of a run forward."""
    moment = host.state.moment
    if moment is not None:
        host.look_at(replace(host.state, moment=moment.moved(by)))


def go_to_step(host: Host, step: int) -> None:
    """Go to a step of a run by its index; -1 is the newest."""
    moment = host.state.moment
    if moment is not None:
        host.look_at(
            replace(host.state, moment=moment.at(step if step >= 0 else moment.steps + step))
        )
