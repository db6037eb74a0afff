"""Undo and redo, over the text of the prompt and the edits of the pass, in the order of changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmscope.tui.session.undo_history import steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmscope.tui.host import Host
    from llmscope.tui.state.edit_list import ListedEdit
    from llmscope.tui.state.layout import Arrangement
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.state.workspaces import Workspace

MOST_CHANGES = 200
"""The most changes of the edits that can be undone."""


@dataclass(frozen=True)
class ScreenBefore:
    """What `reset` takes away: the view state, the workspace, and the arrangements of all."""

    state: ViewState
    workspace: Workspace
    arrangements: Mapping[str, Arrangement]

    @classmethod
    def of(cls, host: Host) -> ScreenBefore:
        """Return the screen as it is."""
        return cls(host.state, host.grid.workspace, dict(host.grid.arrangements))


@dataclass(frozen=True)
class Edits:
    """The edits at a time, as far as undo brings them back.

    Attributes:
        depth: how many steps of the prompt could be undone then, which places it among them.
        screen: all of the screen, where all of it is brought back; None: the edits alone.
    """

    depth: int
    edits: tuple[ListedEdit, ...]
    chosen: int
    muted: bool
    screen: ScreenBefore | None = None

    @classmethod
    def of(cls, state: ViewState, depth: int) -> Edits:
        """Return the edits of a view state."""
        return cls(depth, state.edits, state.chosen, state.muted)

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state with these edits, or as it was if all of it is brought back."""
        if self.screen is not None:
            return replace(self.screen.state, info=state.info).with_tokens(state.tokens)
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
        self.past = [
            *self.past[1 - MOST_CHANGES :],
            Edits.of(before, steps(host.editor.history)[0]),
        ]
        self.future.clear()

    def offer(self, host: Host, edits: tuple[ListedEdit, ...]) -> None:
        """Take edits that the first undo puts in the place of the present ones."""
        if edits:
            self.past = [Edits(steps(host.editor.history)[0], edits, 0, muted=False)]

    def restore_past(
        self, host: Host, past: Iterable[tuple[int, tuple[ListedEdit, ...], int, bool]]
    ) -> None:
        """Take what undo brings back from an earlier session.

        Args:
            host: the app.
            past: how many steps of the prompt were made since, and the edits, the index of the
                chosen one, and whether all were off.
        """
        depth, _ = steps(host.editor.history)
        self.past = [
            Edits(max(0, depth - back), edits, chosen, muted) for back, edits, chosen, muted in past
        ]

    def reset(self, host: Host) -> None:
        """Show the model as at its start: no edits, no B, no adapter, and the first views."""
        state = host.state
        if state.info is None:
            host.tell("the model is not there yet", "warning")
            return
        from llmscope.figure import Focus
        from llmscope.tui.state.view_state import ViewState
        from llmscope.tui.widgets.placeholder import first_look

        look = first_look(host.source.spec)
        fresh = ViewState.opening(Focus(**look) if look else None).loaded(state.info)
        if host.source.adapters:  # else it is an adapter that was opened as a model
            fresh = replace(fresh, adapter=None)
        before = self._step(host, whole=True)
        self._show(host, fresh.with_tokens(state.tokens))
        host.grid.restore(host.grid.workspaces[0], {})
        self.past.append(before)
        self.future.clear()
        host.tell(host.user.keymap.filled("as at the start · {undo} brings back what was there"))

    def undo(self, host: Host) -> None:
        """Undo the last change, of the edits or of the text."""
        depth, _ = steps(host.editor.history)
        if self.past and self.past[-1].depth >= depth:
            self._restore(host, self.past.pop(), self.future)
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
            self._restore(host, self.future.pop(), self.past)
            return
        editor = host.prompts.active
        before = editor.text
        editor.redo()
        if editor.text == before:
            host.tell("nothing to redo")

    def _restore(self, host: Host, edits: Edits, other: list[Edits]) -> None:
        other.append(self._step(host, whole=edits.screen is not None))
        self._show(host, edits.onto(host.state))
        if edits.screen is not None:
            host.grid.restore(edits.screen.workspace, edits.screen.arrangements)

    @staticmethod
    def _step(host: Host, *, whole: bool) -> Edits:
        """Return what a step that is made now brings back."""
        step = Edits.of(host.state, steps(host.editor.history)[0])
        return replace(step, screen=ScreenBefore.of(host)) if whole else step

    def _show(self, host: Host, state: ViewState) -> None:
        """Show a state, which is no new change."""
        past, future = list(self.past), list(self.future)
        if state.info is not None and state.adapter != host.state.adapter:
            host.header.model(state.info, state.adapter)
        host.look_at(state)
        self.past, self.future = past, future
