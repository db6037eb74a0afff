"""What a person made their own, as the screen is given it: nothing of it changes a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmscope.tui.keymap import Keymap
from llmscope.tui.past import Past

if TYPE_CHECKING:
    from llmscope.tui.autosave import Autosave
    from llmscope.tui.kept import Kept
    from llmscope.tui.reproduce import Source
    from llmscope.tui.scene import Scene
    from llmscope.tui.session import Session
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
        first_look: fields of the focus that an example is first shown with.
        autosave: saves the prompt while it is written.
        session: the session to go on with; None: a new one.
        other: makes what loads another model, of its spec; None: there is no other.
        left: the prompts of the models that were left in this session, by spec.
        notice: what is wrong with what an earlier session left; empty if nothing is.
        anonymous: show nothing that somebody has left on this machine, such as earlier prompts.
    """

    keymap: Keymap = field(default_factory=Keymap)
    kept: Kept | None = None
    past: Past = field(default_factory=Past)
    source: Source | None = None
    newcomer: bool = False
    first_look: Mapping[str, Any] = field(default_factory=dict)
    autosave: Autosave | None = None
    session: Session | None = None
    other: Callable[[str], LoaderLike] | None = None
    left: dict[str, Left] = field(default_factory=dict)
    notice: str = ""
    anonymous: bool = False

    def onto(self, scene: Scene) -> Scene:
        """The scene as it was left."""
        scene = scene if self.kept is None else self.kept.onto(scene)
        return scene if self.session is None else self.session.onto(scene)

    def loaded(self, scene: Scene) -> Scene:
        """The same, once the model is there."""
        return scene if self.session is None else self.session.loaded(scene)
