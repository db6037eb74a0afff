"""What speaks to the screen as the engine does, and answers from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmscope.engine.events import Ask, Event, Frame, Loaded, PassInfo, Request
from llmscope.figure import Figure
from llmscope.replay.pane_map import PaneFigure
from llmscope.replay.reader import Recorded

NO_COST = PassInfo(0, 0, 0.0, 0)
"""No pass was run."""


class ReplayEngine:
    """Answers at once, in the thread that asks: there is nothing to wait for.

    Args:
        snapshot: what the file holds.
        panes: its figures in their panes.
        post: called with each event.
    """

    def __init__(
        self, snapshot: Recorded, panes: Sequence[PaneFigure], post: Callable[[Event], None]
    ) -> None:
        self._snapshot, self._post = snapshot, post
        self._panes = {one.key: one for one in panes}

    def start(self) -> None:
        """Say which model the file is of."""
        self._post(Loaded(self._snapshot.info))

    def ask(self, request: Ask) -> None:
        """Answer what asks for figures; nothing else can be asked of a file."""
        if not isinstance(request, Request):
            return
        tokens = self._snapshot.tokens
        figures: dict[str, Figure] = {}
        for want in request.wants:
            found = self._panes.get(want.key)
            if found is not None:
                figures[want.key] = found.shown(want.focus, tokens)
            elif want.key == "tokens":  # asked for always, for the rows around a map
                reason = "not in this snapshot: tokens"
                figures[want.key] = Figure.refused(want.lens, want.lens, reason)
        self._post(Frame(request.serial, tokens, figures, NO_COST, notices=("read only",)))

    def close(self) -> bool:
        """There is no thread to end."""
        return True
