"""What tests of edits on the screen share."""

from __future__ import annotations

from llmscope.edits import parse
from tests.tui.conftest import Session

HOSTILE = 'steer 3 "\x1b[31m[/nope]" - "b" 2'


def asked(session: Session) -> tuple[str, ...]:
    return tuple(map(str, session.engine.requests[-1].edits))


async def begin(session: Session, *edits: str) -> None:
    """In the list of some edits."""
    await session.press("escape")
    state = session.app.state
    for edit in edits:
        state = state.with_edit(parse(edit))
    session.app.look_at(state)
    session.app.grid.enter("edits")
    await session.settle()
