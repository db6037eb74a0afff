"""What a person made their own, as the screen is given it: nothing of it changes a snapshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmscope.tui.keymap import Keymap
from llmscope.tui.past import Past

if TYPE_CHECKING:
    from llmscope.tui.autosave import Autosave
    from llmscope.tui.kept import Kept
    from llmscope.tui.reproduce import Source
    from llmscope.tui.switching import Left, LoaderLike


@dataclass(frozen=True)
class Own:
    """A person's settings; the defaults are nobody's in particular.

    Attributes:
        keymap: the keys of the actions.
        kept: how the screen was left.
        past: what undo and redo in the prompt reach back to.
        source: how the model was opened, for the command that shows the same.
        newcomer: nobody was here before, so that the tour is offered.
        autosave: saves the prompt while it is written.
        other: makes what loads another model, of its spec; None: there is no other.
        left: the prompts of the models that were left in this session, by spec.
        notice: what is wrong with what an earlier session left; empty if nothing is.
    """

    keymap: Keymap = field(default_factory=Keymap)
    kept: Kept | None = None
    past: Past = field(default_factory=Past)
    source: Source | None = None
    newcomer: bool = False
    autosave: Autosave | None = None
    other: Callable[[str], LoaderLike] | None = None
    left: dict[str, Left] = field(default_factory=dict)
    notice: str = ""
