"""What if: the edits to the pass as one frozen list, and everything that a key does to it.

Nothing here knows a widget or a model: whether an edit can be made, the engine says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from llmscope.edits import Edit

STEPS = {"scale": 0.1, "steer": 0.5}
"""What a key adds to a strength between 1 and 10; ten times that from 10 on, and so on."""
MOST = 1e300
"""No key turns a strength further than this."""


@dataclass(frozen=True)
class ListedEdit:
    """An edit in the list.

    Attributes:
        edit: the change itself.
        on: whether it is to be made.
        flaw: why the model cannot take it; it was switched off for that.
        stride: what a key adds to its strength, at least: it belongs to the strength that was
            written, so that a strength that was turned to nothing is turned on in the same steps.
    """

    edit: Edit
    on: bool = True
    flaw: str = ""
    stride: float = 0.0

    @classmethod
    def of(cls, edit: Edit) -> ListedEdit:
        """An edit that was just written."""
        step, size = STEPS.get(edit.action, 1.0), abs(edit.factor)
        if not size:
            return cls(edit, stride=step)
        of_its_own = size if edit.action == "steer" else min(1.0, 10 * size)
        return cls(edit, stride=step * _class(of_its_own))

    def turned(self, by: int) -> ListedEdit:
        """With its strength one step up or down, through zero and on."""
        factor = self.edit.factor
        step = self.stride
        if factor:
            # Towards zero, a power of ten is the top of the class below it.
            size = abs(factor) * (1 - 1e-9 if factor * by < 0 else 1 + 1e-9)
            step = max(step, STEPS.get(self.edit.action, 1.0) * _class(size))
        steps = factor / step
        steps = math.floor(steps + 1e-6) + 1 if by > 0 else math.ceil(steps - 1e-6) - 1
        strength = round(steps * step, 2 - math.floor(math.log10(step)))
        strength = max(-MOST, min(strength, MOST))
        return replace(self, edit=self.edit.turned(strength), on=True, flaw="")


def _class(size: float) -> float:
    """The power of ten that a number has reached: 1 for 4, 10 for 40."""
    inside = max(1 / MOST, min(size, MOST))  # what is beyond has no neighbours that floats can tell
    return float(10.0 ** math.floor(math.log10(inside)))


@dataclass(frozen=True)
class EditList:
    """The edits that a person has listed, and what they are held against.

    Attributes:
        edits: in the order in which they are made.
        chosen: index of the one that keys turn, toggle and remove.
        muted: none of them is made for the moment.
        versus_prompt: prompt B; None: there is none.
        words: two lists of words that figures hold against each other; None: those that A, and
            that B, says next.
        pair: which of the pairs to begin with is chosen, while there is no prompt B.
        change: panes show what the edits changed instead of what is; without edits A − B.
    """

    edits: tuple[ListedEdit, ...] = ()
    chosen: int = 0
    muted: bool = False
    versus_prompt: str | None = None
    words: tuple[str, str] | None = None
    pair: int = 0
    change: bool = False

    @property
    def in_force(self) -> tuple[str, ...]:
        """The edits that the pass is to be made with, as they are written."""
        if self.muted:
            return ()
        return tuple(str(one.edit) for one in self.edits if one.on and not self.waits(one))

    @property
    def shows_change(self) -> bool:
        """Whether panes show a change: there is none without an edit or a prompt B."""
        return self.change and (bool(self.in_force) or self.versus_prompt is not None)

    @property
    def apart(self) -> bool:
        """Whether the change is A − B."""
        return self.shows_change and not self.in_force

    @property
    def chosen_edit(self) -> ListedEdit | None:
        """The edit that keys turn; None if there is none at all."""
        return self.edits[self.chosen] if self.edits else None

    def against(self, text: str | None) -> Self:
        """With another prompt B; without one where the text is empty."""
        return replace(self, versus_prompt=text or None)

    def waits(self, one: ListedEdit) -> bool:
        """Whether an edit cannot be made before there is a prompt B."""
        return one.edit.action == "patch" and self.versus_prompt is None

    def place(self, edit: Edit) -> int | None:
        """Where the very edit stands in the list."""
        return next((at for at, one in enumerate(self.edits) if one.edit == edit), None)

    def with_edit(self, edit: Edit) -> Self:
        """With one more edit, at the end; one that is there already is chosen and switched on."""
        at = self.place(edit)
        if at is not None:
            return self._put(at, replace(self.edits[at], on=True, flaw=""))
        return replace(
            self, edits=(*self.edits, ListedEdit.of(edit)), chosen=len(self.edits), muted=False
        )

    def with_edit_in_place(self, edit: Edit) -> Self:
        """With an edit instead of the chosen one."""
        at = self.place(edit)
        if not self.edits or (at is not None and at != self.chosen):
            return self.with_edit(edit)
        return self._put(self.chosen, ListedEdit.of(edit))

    def without_edit(self, at: int) -> Self:
        """Without one of them; the one after it is chosen then."""
        left = (*self.edits[:at], *self.edits[at + 1 :])
        chosen = self.chosen - (at < self.chosen)
        return replace(
            self,
            edits=left,
            chosen=max(0, min(chosen, len(left) - 1)),
            muted=self.muted and bool(left),
        )

    def flipped(self, edit: Edit) -> Self:
        """Without an edit that is made now; with it if it is not."""
        at = self.place(edit)
        if at is None or self.muted or not self.edits[at].on:
            return self.with_edit(edit)
        return self.without_edit(at)

    def choosing(self, by: int) -> Self:
        """Choose one that stands so much further down."""
        return replace(self, chosen=max(0, min(self.chosen + by, len(self.edits) - 1)))

    def toggled(self) -> Self:
        """Switch the chosen one off or on; where all are off for the moment, it is on."""
        one = self.edits[self.chosen]
        return self._put(self.chosen, replace(one, on=self.muted or not one.on, flaw=""))

    def turned_edit(self, by: int) -> Self:
        """The chosen one stronger or weaker."""
        return self._put(self.chosen, self.edits[self.chosen].turned(by))

    def moved_edit(self) -> Self:
        """The chosen one made earlier by one place; the first one last."""
        order = list(self.edits)
        one = order.pop(self.chosen)
        at = self.chosen - 1 if self.chosen else len(order)
        order.insert(at, one)
        return replace(self, edits=tuple(order), chosen=at)

    def all_switched(self) -> Self:
        """All off for the moment, or those on again that were; all on if none was."""
        if not self.muted and not any(one.on for one in self.edits):
            return replace(self, edits=tuple(replace(one, on=True, flaw="") for one in self.edits))
        return replace(self, muted=not self.muted)

    def blamed(self, faults: Mapping[str, str]) -> Self:
        """With those off that the model cannot take, each with the reason."""
        edits = tuple(
            replace(one, on=False, flaw=faults[str(one.edit)])
            if one.on and str(one.edit) in faults
            else one
            for one in self.edits
        )
        return replace(self, edits=edits)

    def _put(self, at: int, one: ListedEdit) -> Self:
        edits = (*self.edits[:at], one, *self.edits[at + 1 :])
        return replace(self, edits=edits, chosen=at, muted=False)
