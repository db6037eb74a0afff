"""Undo and redo, over the text of the prompt and the edits of the pass, in the order of changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmscope.tui.session.undo_history import steps

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.edit_list import ListedEdit
    from llmscope.tui.state.view_state import ViewState

MOST = 200
"""The most changes of the edits that can be undone."""


@dataclass(frozen=True)
class Edits:
    """The edits at a time, as far as undo brings them back.

    Attributes:
        depth: how many steps of the prompt could be undone then, which places it among them.
    """

    depth: int
    edits: tuple[ListedEdit, ...]
    chosen: int
    muted: bool

    @classmethod
    def of(cls, state: ViewState, depth: int) -> Edits:
        """Return the edits of a view state."""
        return cls(depth, state.edits, state.chosen, state.muted)

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state with these edits."""
        return replace(state, edits=self.edits, chosen=self.chosen, muted=self.muted)


@dataclass
class UndoController:
    """The changes of the edits; those of the prompt are in the history of its editor.

    Attributes:
        past: the edits before each change, the latest last.
        future: the edits before each undo, the latest last.
    """

    past: list[Edits] = field(default_factory=list)
    future: list[Edits] = field(default_factory=list)

    def moved(self, host: Host, before: ViewState, after: ViewState) -> None:
        """Keep the edits of the view state before, if they differ from those after."""
        if (before.edits, before.muted) == (after.edits, after.muted):
            return
        host.editor.history.checkpoint()  # a letter typed next is a step of its own
        self.past = [*self.past[1 - MOST :], Edits.of(before, steps(host.editor.history)[0])]
        self.future.clear()

    def undo(self, host: Host) -> None:
        """Undo the last change, of the edits or of the text."""
        depth, _ = steps(host.editor.history)
        if self.past and self.past[-1].depth >= depth:
            self._restore(host, self.past.pop(), self.future, depth)
            return
        editor = host.prompts.active
        before = editor.text
        editor.undo()
        if editor.text == before:
            host.tell("nothing to undo")

    def redo(self, host: Host) -> None:
        """Make the last change again that was undone."""
        depth, undone = steps(host.editor.history)
        if self.future and (self.future[-1].depth <= depth or not undone):
            self._restore(host, self.future.pop(), self.past, depth)
            return
        editor = host.prompts.active
        before = editor.text
        editor.redo()
        if editor.text == before:
            host.tell("nothing to redo")

    def _restore(self, host: Host, edits: Edits, other: list[Edits], depth: int) -> None:
        other.append(Edits.of(host.state, depth))
        past, future = list(self.past), list(self.future)
        host.look_at(edits.onto(host.state))
        self.past, self.future = past, future  # `moved` took it for a new change
