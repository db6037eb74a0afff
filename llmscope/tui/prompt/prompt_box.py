"""The prompt box: the editor of this prompt, and in the workspace Compare that of prompt B."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Size

from llmscope.tui.prompt.editor import PromptEditor
from llmscope.tui.session.undo_history import UndoHistory

BESIDE = 100
"""Cells of a screen from which on the two stand beside each other."""
LOW = 20
"""Rows below which a long prompt leaves the panes one more, and two have no frames but names."""
EMPTY_B = "type prompt B: what to hold against A"


class Prompts(Container):
    """Two editors, of which the second shows only where two prompts are compared.

    Args:
        text: what the first one holds.
        other: tells what the second one holds, once that is made.
        past: what undo in the first one reaches back to.

    Attributes:
        a: the editor of this prompt.
    """

    def __init__(self, text: str, other: Callable[[], str], *, past: UndoHistory) -> None:
        super().__init__(id="prompts")
        self.a = PromptEditor(text, id="prompt", past=past)
        self._other = other

    @cached_property
    def b(self) -> PromptEditor:
        """The editor of prompt B. It is made after the first picture, which does not show it."""
        editor = PromptEditor(self._other(), id="prompt-b", past=UndoHistory(), placeholder=EMPTY_B)
        editor.display = False
        return editor

    @property
    def both(self) -> bool:
        """Whether B shows."""
        return "b" in vars(self) and bool(self.b.display)

    @property
    def active(self) -> PromptEditor:
        """The one that has the keys, or would have them."""
        return self.b if self.both and self.b.has_focus else self.a

    def compose(self) -> ComposeResult:
        """The first one alone, until the other may be needed."""
        yield self.a

    def fill(self) -> None:
        """Mount B below A."""
        self.mount(self.b)

    def lay_out(self, size: Size, *, both: bool) -> None:
        """Show B or not, for a screen of such a size."""
        self.b.display = both
        self.set_class(size.height < LOW, "-short")
        self.set_class(both, "-both")
        self.set_class(both and size.width >= BESIDE, "-beside")
        self.set_class(both and size.height < LOW, "-low")
        self.a.called("Prompt A" if both else "Prompt")
        self.b.called("Prompt B")
