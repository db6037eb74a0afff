"""An engine for the app that answers from the folder of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from llmscope.engine.events import Ask, Event, Frame, Loaded, PassInfo, Request, Want
from llmscope.figure import Figure
from llmscope.tui.modes.replay.pane_map import PaneFigure
from llmscope.tui.modes.run.run_view import RecorderLike, RunSlot, RunView

CURVE, LOGGED = "curve", "logged"
"""The keys of the panes of curves: of the number under the cursor, and of a logged scalar."""
TIME = "time-"
"""Prefix of the keys of panes with a heat map over the steps."""
NO_COST = PassInfo(0, 0, 0.0, 0)


class WatchEngine:
    """Answers immediately, in the thread of the caller.

    Args:
        view: the run.
        panes: the slots of the panes by key, and how their figures depend on the cursor.
        recorder: what records the run in this process; None if nothing does.
        post: called with each event.
    """

    def __init__(
        self,
        view: RunView,
        panes: Mapping[str, tuple[RunSlot, PaneFigure]],
        recorder: RecorderLike | None,
        post: Callable[[Event], None],
    ) -> None:
        self._view, self._panes, self._post = view, panes, post
        self._recorder = recorder
        self._slots = {slot.key: slot for slot in view.slots}

    def start(self) -> None:
        """Post the event `Loaded` with the model of the run."""
        self._post(Loaded(self._view.recorded(0).info))

    def ask(self, request: Ask) -> None:
        """Answer a request for figures; ignore any other request."""
        if not isinstance(request, Request) or request.moment is None:
            return
        prompt, step = request.moment
        figures: dict[str, Figure] = {}
        for want in request.wants:
            figure = self._figure(want, prompt, step)
            if figure is not None:
                figures[want.key] = figure
            elif want.key == "tokens":  # always requested
                reason = "the lens tokens was not recorded"
                figures[want.key] = Figure.refused("tokens", "tokens", reason)
        tokens = self._view.tokens(prompt)
        self._post(Frame(request.serial, tokens, figures, NO_COST))

    def _figure(self, want: Want, prompt: int, step: int) -> Figure | None:
        view = self._view
        if want.key == LOGGED:
            return view.scalar(want.lens)
        if want.key == CURVE:
            return view.curve(self._slots[want.lens], prompt, want.focus)
        if want.key.startswith(TIME):
            return view.over_time(
                self._slots[want.key.removeprefix(TIME)], prompt, step, want.focus, want.focus.top_k
            )
        if want.key not in self._panes:
            return None
        slot, pane = self._panes[want.key]
        figure = view.figure(slot, prompt, step, want.focus)
        if figure.verdict.status == "refused":
            return figure
        return replace(pane, figure=figure).shown(want.focus, view.tokens(prompt))

    def close(self) -> bool:
        """Stop what records the run, if anything does; return False if that takes long."""
        return self._recorder is None or self._recorder.close()
