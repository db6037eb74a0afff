"""An engine for the app that answers from a snapshot file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmscope.engine.events import Ask, Event, Frame, Loaded, PassInfo, Request
from llmscope.figure import Figure
from llmscope.tui.modes.replay.pane_map import PaneFigure
from llmscope.tui.modes.replay.reader import Recorded

NO_COST = PassInfo(0, 0, 0.0, 0)
"""The cost of an answer: no pass was run."""


class ReplayEngine:
    """An engine that answers immediately, in the thread of the caller.

    Args:
        snapshot: the content of the file.
        panes: its figures in their panes.
        post: called with each event.
    """

    def __init__(
        self, snapshot: Recorded, panes: Sequence[PaneFigure], post: Callable[[Event], None]
    ) -> None:
        self._snapshot, self._post = snapshot, post
        self._panes = {pane.key: pane for pane in panes}

    def start(self) -> None:
        """Post the event `Loaded` with the model of the file."""
        self._post(Loaded(self._snapshot.info))

    def ask(self, request: Ask) -> None:
        """Answer a request for figures; ignore any other request."""
        if not isinstance(request, Request):
            return
        tokens = self._snapshot.tokens
        figures: dict[str, Figure] = {}
        for want in request.wants:
            pane = self._panes.get(want.key)
            if pane is not None:
                figures[want.key] = pane.shown(want.focus, tokens)
            elif want.key == "tokens":  # always requested, for the rows around a map
                reason = "not in this snapshot: tokens"
                figures[want.key] = Figure.refused(want.lens, want.lens, reason)
        self._post(Frame(request.serial, tokens, figures, NO_COST, notices=("read only",)))

    def close(self) -> bool:
        """Do nothing, because there is no thread to end."""
        return True
