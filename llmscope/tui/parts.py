"""What the first picture does not show, made when it is first asked for."""

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
    """The parts of the desk that are about figures, and what a person does with them."""

    own: UserState
    _focus: Focus | None
    special_tokens: bool

    @cached_property
    def saves(self) -> list[Save]:
        """The files that are to be written once it is known where their numbers came from."""
        return []

    def may(self, action: str) -> bool:
        """Whether an action may be done that reaches beyond the screen, or ends by itself never.

        On a person's screen all of them may. A picture is taken of a screen that forbids some.
        """
        return True

    @cached_property
    def scene(self) -> ViewState:
        """The model, the tokens, the cursor and the edits; another one with each change."""
        from llmscope.tui.state.view_state import ViewState

        focus = self._focus
        if focus is None and self.own.first_look:
            from llmscope.figure import Focus

            focus = Focus(**self.own.first_look)
        return self.own.onto(ViewState.opening(focus))

    @cached_property
    def ledger(self) -> FigureStore:
        """What was asked and what came back."""
        from llmscope.tui.state.figure_store import FigureStore

        return FigureStore(special_tokens=self.special_tokens)

    @cached_property
    def find(self) -> FindLine:
        """The line that takes the place of the words while one looks for a token."""
        from llmscope.tui.features.find import FindLine

        line = FindLine()
        line.display = False
        return line

    @cached_property
    def generating(self) -> Generating:
        """What the model wrote, and whether it writes."""
        from llmscope.tui.features.generation.generation import Generating

        return Generating()
