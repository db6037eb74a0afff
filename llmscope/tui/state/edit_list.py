"""The what-if edits of the forward pass as one frozen list, and each key's effect on it.

Nothing here depends on a widget or a model: the engine decides whether an edit can be made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from llmscope.edits import Edit

STEPS = {"scale": 0.1, "steer": 0.5, "set": 0.5}
"""Step of a key press for a strength from 1 to 10; ten times that from 10 on, and so on."""
MOST_STRENGTH = 1e300
"""The largest strength that keys can reach."""


@dataclass(frozen=True)
class ListedEdit:
    """An edit in the list.

    Attributes:
        edit: the edit itself.
        on: whether the edit is switched on.
        flaw: why the model cannot make the edit, which was switched off for that reason.
        stride: the smallest step of a key press. It follows from the strength as written, so that
            a strength that reached 0 is increased again in the same steps.
    """

    edit: Edit
    on: bool = True
    flaw: str = ""
    stride: float = 0.0

    @classmethod
    def of(cls, edit: Edit) -> ListedEdit:
        """Return the entry for an edit that was just written."""
        step, size = STEPS.get(edit.action, 1.0), abs(edit.factor)
        if not size:
            return cls(edit, stride=step)
        of_its_own = size if edit.action in ("steer", "set") else min(1.0, 10 * size)
        return cls(edit, stride=step * _class(of_its_own))

    def turned(self, by: int) -> ListedEdit:
        """Return the edit with its strength one step up or down; steps continue through 0."""
        factor = self.edit.factor
        step = self.stride
        if factor:
            # Towards zero, a power of ten belongs to the class below it.
            size = abs(factor) * (1 - 1e-9 if factor * by < 0 else 1 + 1e-9)
            step = max(step, STEPS.get(self.edit.action, 1.0) * _class(size))
        steps = factor / step
        steps = math.floor(steps + 1e-6) + 1 if by > 0 else math.ceil(steps - 1e-6) - 1
        strength = round(steps * step, 2 - math.floor(math.log10(step)))
        strength = max(-MOST_STRENGTH, min(strength, MOST_STRENGTH))
        return replace(self, edit=self.edit.turned(strength), on=True, flaw="")


def _class(size: float) -> float:
    """Return the largest power of ten that is not above a number: 1 for 4, 10 for 40."""
    inside = max(
        1 / MOST_STRENGTH, min(size, MOST_STRENGTH)
    )  # beyond this, floats cannot tell neighbours
    return float(10.0 ** math.floor(math.log10(inside)))


@dataclass(frozen=True)
class EditList:
    """The edits that the user has listed, and what to compare with.

    Attributes:
        edits: the edits in the order in which they are made.
        chosen: index of the edit that keys strengthen, toggle and remove.
        muted: whether all edits are off for the moment.
        versus_prompt: prompt B; None if there is no prompt B.
        words: two lists of words for figures to compare; None compares the next tokens of A and
            of B.
        pair: index of the chosen example pair, while there is no prompt B.
        change: panes show the change by the edits instead of plain values; without edits A − B.
    """

    edits: tuple[ListedEdit, ...] = ()
    chosen: int = 0
    muted: bool = False
    versus_prompt: str | None = None
    words: tuple[str, str] | None = None
    pair: int = 0
    change: bool = False

    @property
    def in_force(self) -> tuple[Edit, ...]:
        """Return the edits to make in the pass."""
        if self.muted:
            return ()
        return tuple(edit.edit for edit in self.edits if edit.on and not self.waits(edit))

    @property
    def shows_change(self) -> bool:
        """Return whether panes show a change, which needs an edit, a prompt B or a model B."""
        there = bool(self.in_force) or self.versus_prompt is not None or self.two_models
        return self.change and there

    @property
    def two_models(self) -> bool:
        """Return whether the model is compared with a second one."""
        return False

    @property
    def apart(self) -> bool:
        """Return whether the change is A − B."""
        return self.shows_change and not self.in_force

    @property
    def chosen_edit(self) -> ListedEdit | None:
        """Return the edit that keys change; None if the list is empty."""
        return self.edits[self.chosen] if self.edits else None

    def against(self, text: str | None) -> Self:
        """Return the list with another prompt B; without one if `text` is empty."""
        return replace(self, versus_prompt=text or None)

    def waits(self, edit: ListedEdit) -> bool:
        """Return whether an edit cannot be made because there is no prompt B."""
        return edit.edit.action == "patch" and self.versus_prompt is None

    def place(self, edit: Edit) -> int | None:
        """Return the index of an equal edit in the list; None if it is not listed."""
        return next((at for at, listed in enumerate(self.edits) if listed.edit == edit), None)

    def with_edit(self, edit: Edit) -> Self:
        """Return the list with `edit` appended, or chosen and switched on if it is listed."""
        at = self.place(edit)
        if at is not None:
            return self._put(at, replace(self.edits[at], on=True, flaw=""))
        return replace(
            self, edits=(*self.edits, ListedEdit.of(edit)), chosen=len(self.edits), muted=False
        )

    def with_edit_in_place(self, edit: Edit) -> Self:
        """Return the list with `edit` instead of the chosen edit."""
        at = self.place(edit)
        if not self.edits or (at is not None and at != self.chosen):
            return self.with_edit(edit)
        return self._put(self.chosen, ListedEdit.of(edit))

    def without_edit(self, at: int) -> Self:
        """Return the list without the edit at `at`; the one after it is chosen then."""
        left = (*self.edits[:at], *self.edits[at + 1 :])
        chosen = self.chosen - (at < self.chosen)
        return replace(
            self,
            edits=left,
            chosen=max(0, min(chosen, len(left) - 1)),
            muted=self.muted and bool(left),
        )

    def flipped(self, edit: Edit) -> Self:
        """Return the list without `edit` if it is being made now, else with it."""
        at = self.place(edit)
        if at is None or self.muted or not self.edits[at].on:
            return self.with_edit(edit)
        return self.without_edit(at)

    def choosing(self, by: int) -> Self:
        """Return the list with the edit chosen that is `by` places further down."""
        return replace(self, chosen=max(0, min(self.chosen + by, len(self.edits) - 1)))

    def toggled(self) -> Self:
        """Return the list with the chosen edit off or on; on if all edits were muted."""
        listed = self.edits[self.chosen]
        return self._put(self.chosen, replace(listed, on=self.muted or not listed.on, flaw=""))

    def turned_edit(self, by: int) -> Self:
        """Return the list with the chosen edit one step stronger or weaker."""
        return self._put(self.chosen, self.edits[self.chosen].turned(by))

    def moved_edit(self) -> Self:
        """Return the list with the chosen edit one place earlier; the first becomes the last."""
        order = list(self.edits)
        listed = order.pop(self.chosen)
        at = self.chosen - 1 if self.chosen else len(order)
        order.insert(at, listed)
        return replace(self, edits=tuple(order), chosen=at)

    def all_switched(self) -> Self:
        """Return the list muted or unmuted; with all edits on if each was switched off."""
        if not self.muted and not any(edit.on for edit in self.edits):
            return replace(
                self, edits=tuple(replace(edit, on=True, flaw="") for edit in self.edits)
            )
        return replace(self, muted=not self.muted)

    def blamed(self, faults: Mapping[Edit, str]) -> Self:
        """Return the list with each edit in `faults` switched off, and the reason kept."""
        edits = tuple(
            replace(listed, on=False, flaw=faults[listed.edit])
            if listed.on and listed.edit in faults
            else listed
            for listed in self.edits
        )
        return replace(self, edits=edits)

    def _put(self, at: int, edit: ListedEdit) -> Self:
        edits = (*self.edits[:at], edit, *self.edits[at + 1 :])
        return replace(self, edits=edits, chosen=at, muted=False)
