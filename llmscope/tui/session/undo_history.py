"""The edits that led to a prompt, so that undo reaches back into earlier sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from textual.document._document import EditResult, Location, Selection
from textual.document._edit import Edit
from textual.document._history import EditHistory

from llmscope.tui.session.codec import encode
from llmscope.tui.state.document import PromptDocument, end_of

CHANGES = 200
"""The most changes to store, and the most steps that the editor holds."""
BYTES = 1_000_000
"""The most bytes of all stored changes together; the oldest are dropped first."""


class TextChange(NamedTuple):
    """The replacement of a text `old` at a place by a text `new`; either may be empty."""

    row: int
    column: int
    old: str
    new: str

    @property
    def start(self) -> Location:
        """Return the place of the change."""
        return self.row, self.column

    @property
    def undone(self) -> TextChange:
        """Return the change that takes this one back."""
        return self._replace(old=self.new, new=self.old)

    def then(self, other: TextChange) -> TextChange | None:
        """Return this change and the one right after it as one; None if they do not touch."""
        if not other.old and other.start == end_of(self.start, self.new):
            return self._replace(new=self.new + other.new)
        if self.new or other.new:
            return None
        if other.start == self.start:
            return self._replace(old=self.old + other.old)
        if end_of(other.start, other.old) == self.start:
            return other._replace(old=other.old + self.old)
        return None


Step = tuple[TextChange, ...]
"""The changes that one undo takes back."""


@dataclass(frozen=True)
class UndoHistory:
    """The steps that led to a text, and those that were undone.

    Attributes:
        undo: the last one is the first to be undone.
        redo: the last one is the first to be done again.
    """

    undo: tuple[Step, ...] = ()
    redo: tuple[Step, ...] = ()

    @classmethod
    def of(cls, history: EditHistory) -> UndoHistory:
        """Return the history of an editor."""
        return cls(*(tuple(map(_step, stack)) for stack in _stacks(history)))

    def put_into(self, history: EditHistory) -> None:
        """Add the history to that of an editor, which holds the text."""
        for stack, steps in zip(_stacks(history), (self.undo, self.redo), strict=True):
            stack.extend([_edit(change) for change in step] for step in steps)
        history.checkpoint()

    def leading_to(self, text: str, other: str) -> UndoHistory:
        """Return the history of `other`, which replaced `text`: one undo brings `text` back."""
        if other == text or not (text or self.undo):
            return self
        return UndoHistory((*self.undo, (TextChange(0, 0, text, other),)))

    def nearest(self) -> UndoHistory:
        """Return the steps nearest to the text, as many as may be stored."""
        room = [CHANGES, BYTES]
        return UndoHistory(_nearest(self.undo, room), _nearest(self.redo, room))

    def leads_to(self, text: str) -> bool:
        """Return whether each step can be taken from a text, and there are not too many."""
        back = [change.undone for step in self.undo[::-1] for change in step[::-1]]
        forth = [change for step in self.redo[::-1] for change in step]
        return all(len(way) <= CHANGES and _leads(text, way) for way in (back, forth))


def _stacks(history: EditHistory) -> tuple[Any, Any]:
    return history._undo_stack, history._redo_stack


def steps(history: EditHistory) -> tuple[int, int]:
    """Return how many steps of an editor can be undone, and how many can be made again."""
    undo, redo = _stacks(history)
    return len(undo), len(redo)


def _step(edits: Iterable[Edit]) -> Step:
    """Return the changes of one step; letters typed one after the other become one change."""
    step: list[TextChange] = []
    for edit in edits:
        replaced = edit._edit_result.replaced_text if edit._edit_result else ""
        change = TextChange(*edit.top, replaced, edit.text)
        joined = step[-1].then(change) if step else None
        step[-1:] = [joined] if joined else [*step[-1:], change]
    return tuple(step)


def _edit(change: TextChange) -> Edit:
    """Return the edit that an editor would have made, with the cursor where it would be."""
    end = end_of(change.start, change.old)
    edit = Edit(change.new, change.start, end, maintain_selection_offset=False)
    edit._original_selection = Selection.cursor(end)
    edit._edit_result = EditResult(end_of(change.start, change.new), change.old)
    return edit


def _nearest(steps: tuple[Step, ...], room: list[int]) -> tuple[Step, ...]:
    """Return the last steps that fit into the changes and bytes of `room`, and reduce those."""
    for at in reversed(range(len(steps))):
        left = room[0] - len(steps[at]), room[1] - len(encode(steps[at]))
        if min(left) < 0:
            room[:] = [0, 0]
            return steps[at + 1 :]
        room[:] = left
    return steps


def _leads(text: str, changes: Iterable[TextChange]) -> bool:
    """Return whether each change fits, one after the other, from a text on."""
    document = PromptDocument(text)
    for change in changes:
        if not document.holds(change.old, change.start):
            return False
        document.replace_range(change.start, end_of(change.start, change.old), change.new)
    return True
