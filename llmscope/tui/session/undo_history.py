"""The edits of the prompt as they are kept, so that undo reaches back into earlier sessions.

The record says of which text it is, and is taken only if each step can be walked from there: a
file that holds anything else is as good as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from textual.document._document import EditResult, Location, Selection
from textual.document._edit import Edit
from textual.document._history import EditHistory

from llmscope.tui.session.state_files import SCHEMA
from llmscope.tui.state.document import PromptDocument, end_of

CHANGES = 200
"""So many changes are kept, and as many steps does the editor hold."""
BYTES = 1_000_000
"""So long are all changes together; the oldest go first."""


class TextChange(NamedTuple):
    """At a place of the text, something stood and something else stands; either may be empty."""

    row: int
    column: int
    old: str
    new: str

    @property
    def start(self) -> Location:
        """The place."""
        return self.row, self.column

    @property
    def undone(self) -> TextChange:
        """The change that takes this one back."""
        return self._replace(old=self.new, new=self.old)

    def then(self, other: TextChange) -> TextChange | None:
        """This change and one right after it as one; None if they do not touch."""
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
"""What one undo takes back."""


@dataclass(frozen=True)
class UndoHistory:
    """The steps that led to a text, and those that were taken back from it.

    Attributes:
        undo: the last one is the first to be undone.
        redo: the last one is the first to be done again.
    """

    undo: tuple[Step, ...] = ()
    redo: tuple[Step, ...] = ()

    @classmethod
    def of(cls, history: EditHistory) -> UndoHistory:
        """What an editor knows."""
        return cls(*(tuple(map(_step, stack)) for stack in _stacks(history)))

    def put_into(self, history: EditHistory) -> None:
        """Let an editor, which holds the text, go on from here."""
        for stack, steps in zip(_stacks(history), (self.undo, self.redo), strict=True):
            stack.extend([_edit(change) for change in step] for step in steps)
        history.checkpoint()

    def leading_to(self, text: str, other: str) -> UndoHistory:
        """The past of another text, which took the place of this one: one undo brings it back."""
        if other == text or not (text or self.undo):
            return self
        return UndoHistory((*self.undo, (TextChange(0, 0, text, other),)))

    def to_record(self, text: str) -> dict[str, Any]:
        """As JSON has it, the steps nearest to the text, as many as may be kept."""
        room = [CHANGES, BYTES]
        return {
            "schema": SCHEMA,
            "text": text,
            "undo": _nearest(self.undo, room),
            "redo": _nearest(self.redo, room),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], text: str) -> UndoHistory:
        """From what a file holds, whatever that is; empty if it is not the past of this text."""
        try:
            if record["schema"] != SCHEMA or record["text"] != text:
                return cls()
            past = cls(_steps(record["undo"]), _steps(record["redo"]))
            _walk(text, (change.undone for step in past.undo[::-1] for change in step[::-1]))
            _walk(text, (change for step in past.redo[::-1] for change in step))
        except (KeyError, TypeError, ValueError):
            return cls()
        return past


def _stacks(history: EditHistory) -> tuple[Any, Any]:
    return history._undo_stack, history._redo_stack


def _step(edits: Iterable[Edit]) -> Step:
    """The edits of one step; letters that were typed one after the other are one change."""
    step: list[TextChange] = []
    for edit in edits:
        replaced = edit._edit_result.replaced_text if edit._edit_result else ""
        change = TextChange(*edit.top, replaced, edit.text)
        joined = step[-1].then(change) if step else None
        step[-1:] = [joined] if joined else [*step[-1:], change]
    return tuple(step)


def _edit(change: TextChange) -> Edit:
    """The edit that an editor would have made, with the cursor where it would stand then."""
    end = end_of(change.start, change.old)
    edit = Edit(change.new, change.start, end, maintain_selection_offset=False)
    edit._original_selection = Selection.cursor(end)
    edit._edit_result = EditResult(end_of(change.start, change.new), change.old)
    return edit


def _nearest(steps: Sequence[Step], room: list[int]) -> list[Step]:
    """The last of the steps, as many as there is room for: changes and bytes, which they take."""
    import json

    kept: list[Step] = []
    for step in reversed(steps):
        length = len(json.dumps(step, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if len(step) > room[0] or length > room[1]:
            room[:] = [0, 0]
            break
        room[:] = [room[0] - len(step), room[1] - length]
        kept.append(step)
    return kept[::-1]


def _steps(found: Any) -> tuple[Step, ...]:
    """Steps from a file; raises for what is none."""
    if not isinstance(found, list):
        raise TypeError
    steps = tuple(tuple(TextChange(*change) for change in step) for step in found)
    for change in (change for step in steps for change in step):
        if [type(part) for part in change] != [int, int, str, str]:
            raise TypeError
    if sum(map(len, steps)) > CHANGES:
        raise ValueError
    return steps


def _walk(text: str, changes: Iterable[TextChange]) -> None:
    """Make the changes; raises where one is of another text."""
    document = PromptDocument(text)
    for change in changes:
        if not document.holds(change.old, change.start):
            raise ValueError
        document.replace_range(change.start, end_of(change.start, change.old), change.new)
