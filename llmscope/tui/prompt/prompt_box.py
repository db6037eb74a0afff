"""The prompt box: the editor of prompt A, and on the tab A and B that of prompt B."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Size

from llmscope.tui.prompt.editor import PromptEditor
from llmscope.tui.session.undo_history import UndoHistory

BESIDE = 100
"""Columns of a screen from which on the two editors are side by side."""
LOW = 20
"""Rows below which a long prompt leaves the panes one more, and two have no frames but names."""
EMPTY_B = "type prompt B: what to hold against A"


class PromptEditors(Container):
    """Two editors; the second one is shown only if two prompts are compared.

    Args:
        text: the text of the first editor.
        other: returns the text of the second editor, when that is created.
        past: the undo history of the first editor.

    Attributes:
        a: the first editor.
    """

    def __init__(self, text: str, other: Callable[[], str], *, past: UndoHistory) -> None:
        super().__init__(id="prompts")
        self.a = PromptEditor(text, id="prompt", past=past)
        self._other = other

    @cached_property
    def b(self) -> PromptEditor:
        """Return the editor of prompt B, created after the first paint, which does not show it."""
        editor = PromptEditor(self._other(), id="prompt-b", past=UndoHistory(), placeholder=EMPTY_B)
        editor.display = False
        return editor

    @property
    def both(self) -> bool:
        """Return whether prompt B is shown."""
        return "b" in vars(self) and bool(self.b.display)

    @property
    def active(self) -> PromptEditor:
        """Return the editor that has the focus, or would get it."""
        return self.b if self.both and self.b.has_focus else self.a

    def compose(self) -> ComposeResult:
        """Yield the first editor; `fill` adds the other."""
        yield self.a

    def fill(self) -> None:
        """Mount B below A."""
        self.mount(self.b)

    def give_way(self, away: bool) -> None:
        """Leave a small screen's rows to the figures while they have the focus, or not."""
        self.set_class(away, "-away")

    def lay_out(self, size: Size, *, both: bool) -> None:
        """Show or hide B, for a screen of the given size."""
        self.b.display = both
        self.set_class(size.height < LOW, "-short")
        self.set_class(both, "-both")
        self.set_class(both and size.width >= BESIDE, "-beside")
        self.set_class(both and size.height < LOW, "-low")
        self.a.called("Prompt A" if both else "Prompt")
        self.b.called("Prompt B")
