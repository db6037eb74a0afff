"""Contexts: marked in the prompt, taught to the weights (applied as an update), or exported.

The engine's thread computes the weight update. Meanwhile no figures are requested, since the
model is about to change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.tui.state.context_marker import marked, toggled

if TYPE_CHECKING:
    from llmscope.engine.events import ContextAdded, ContextRequest
    from llmscope.tui.app import LlmscopeApp


class ContextController:
    """The state of a pending request to teach a context."""

    def __init__(self) -> None:
        self._asked: ContextRequest | None = None

    @property
    def waiting(self) -> bool:
        """Whether the engine is computing the update."""
        return self._asked is not None

    def ask(self, desk: LlmscopeApp, folder: str | None = None) -> None:
        """Request the update for the prompt's context; write it to `folder` if that is not None."""
        from llmscope.engine.events import ContextRequest

        found = marked(desk.text)
        special = desk.ledger.special_tokens and not desk.chat.follows(desk.text)
        self._asked = ContextRequest(found.text, found.cut, special, folder)
        desk.engine.ask(self._asked)
        desk.note("finding the update that stands for the context …", desk.inks.dim)

    def land(self, desk: LlmscopeApp, taught: ContextAdded) -> None:
        """Handle the result: switch to the taught adapter, or show a message or the error."""
        if taught.request != self._asked:
            return
        self._asked = None
        desk.note("", desk.inks.dim)
        if taught.error:
            desk.tell(taught.error, "error")
        elif taught.info is None:
            desk.tell(taught.said)
        else:
            desk.scene = replace(desk.scene, info=taught.info)
            if marked(desk.text).text == taught.request.text:
                _switch(desk, taught.adapter)
                # Undo in the prompt brings the context back.
                desk.editor.replace_all(taught.query)
                desk.tell(taught.said)
        # The pass for the text on screen may have been cancelled for it.
        desk.ledger.repeat()
        desk.ask()


def mark(desk: LlmscopeApp) -> None:
    """Insert the context marker line after the line of the text cursor, or remove it."""
    document = desk.editor.document
    place = document.get_index_from_location(max(desk.editor.selection))
    text = toggled(desk.text, place)
    if text == desk.text:
        desk.tell(
            "a context is lines before others: put the text cursor on its last one", "warning"
        )
    else:
        desk.editor.replace_all(text)


def toggle(desk: LlmscopeApp) -> None:
    """Teach the context of the prompt; if one is taught already, switch it off or on again."""
    from llmscope.tui.features.models.model_switch import busy

    scene = desk.scene
    if scene.info is None or desk.lessons.waiting or busy(desk):
        return
    if scene.adapter in scene.info.taught:
        _switch(desk, None)
        desk.tell("the base model again: what was taught is off")
    elif scene.adapter is not None:
        desk.tell("a context is taught to the base model: switch the adapter off first", "warning")
    elif "\n" not in desk.text.rstrip("\n") and scene.info.taught:
        _switch(desk, scene.info.taught[-1])
    else:
        desk.lessons.ask(desk)


def bake(desk: LlmscopeApp) -> None:
    """Open the dialog that asks for the adapter's folder."""
    from llmscope.tui.features.models.model_switch import busy

    if desk.scene.info is None or desk.lessons.waiting or busy(desk) or not desk.may("bake"):
        return
    from llmscope.tui.features.context.export_dialog import BakeScreen

    desk.push_screen(BakeScreen(desk))


def _switch(desk: LlmscopeApp, adapter: str | None) -> None:
    scene = replace(desk.scene, adapter=adapter)
    if scene.info is not None:
        desk.title_line.model(scene.info, adapter)
    desk.look_at(scene)
