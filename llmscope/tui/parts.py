"""The parts of the app that the first paint does not show, created on first access."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from llmscope.tui.terminal.paced_driver import PacedApp

if TYPE_CHECKING:
    from llmscope.figure import Focus
    from llmscope.tui.features.find import FindLine
    from llmscope.tui.features.generation.generation import Generating
    from llmscope.tui.features.save.dialog import Save
    from llmscope.tui.state.figure_store import FigureStore
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.user_state import UserState


class Parts(PacedApp, inherit_bindings=False):
    """The parts of the app that hold figures and the user's work on them."""

    own: UserState
    _focus: Focus | None
    special_tokens: bool

    @cached_property
    def saves(self) -> list[Save]:
        """Return the files to write once the origin of their numbers is known."""
        return []

    def may(self, action: str) -> bool:
        """Return whether an action may run that reaches beyond the screen or never ends by itself.

        On a terminal all of them may; the app of a screenshot forbids some.
        """
        return True

    @cached_property
    def scene(self) -> ViewState:
        """Return the model, tokens, cursor and edits; each change makes another view state."""
        from llmscope.tui.state.view_state import ViewState

        focus = self._focus
        if focus is None and self.own.first_look:
            from llmscope.figure import Focus

            focus = Focus(**self.own.first_look)
        return self.own.onto(ViewState.opening(focus))

    @cached_property
    def ledger(self) -> FigureStore:
        """Return the store of requests and their figures."""
        from llmscope.tui.state.figure_store import FigureStore

        return FigureStore(special_tokens=self.special_tokens)

    @cached_property
    def find(self) -> FindLine:
        """Return the input that replaces the status text while the user searches for a token."""
        from llmscope.tui.features.find import FindLine

        line = FindLine()
        line.display = False
        return line

    @cached_property
    def generating(self) -> Generating:
        """Return the state of generation: what the model wrote, and whether it is writing."""
        from llmscope.tui.features.generation.generation import Generating

        return Generating()
