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
    from llmscope.tui.host import Host


class ContextController:
    """The state of a pending request to teach a context."""

    def __init__(self) -> None:
        self._asked: ContextRequest | None = None

    @property
    def waiting(self) -> bool:
        """Whether the engine is computing the update."""
        return self._asked is not None

    def drop(self) -> None:
        """Drop the pending request: its answer is of no use."""
        self._asked = None

    def ask(self, host: Host, folder: str | None = None) -> None:
        """Request the update for the prompt's context; write it to `folder` if that is not None."""
        from llmscope.engine.events import ContextRequest

        prompt = marked(host.text)
        special = host.figures.special_tokens and not host.chat.follows(host.text)
        self._asked = ContextRequest(prompt.text, prompt.cut, special, folder)
        host.lenses.drop()
        host.engine.ask(self._asked)
        host.note("finding the update that stands for the context …", host.text_styles.dim)

    def land(self, host: Host, taught: ContextAdded) -> None:
        """Handle the result: switch to the taught adapter, or show a message or the error."""
        if taught.request != self._asked:
            return
        self._asked = None
        host.note("", host.text_styles.dim)
        if taught.error:
            host.tell(taught.error, "error")
        elif taught.info is None:
            host.tell(taught.said)
        else:
            host.state = replace(host.state, info=taught.info)
            if marked(host.text).text == taught.request.text:
                _switch(host, taught.adapter)
                # Undo in the prompt brings the context back.
                host.editor.replace_all(taught.query)
                host.tell(taught.said)
        # The pass for the text on screen may have been cancelled for it.
        host.figures.repeat()
        host.ask()


def mark(host: Host) -> None:
    """Insert the context marker line after the line of the text cursor, or remove it."""
    document = host.editor.document
    place = document.get_index_from_location(max(host.editor.selection))
    text = toggled(host.text, place)
    if text == host.text:
        host.tell(
            "a context is lines before others: put the text cursor on its last one", "warning"
        )
    else:
        host.editor.replace_all(text)


def toggle(host: Host) -> None:
    """Teach the context of the prompt; if one is taught already, switch it off or on again."""
    state = host.state
    if state.info is None or host.context.waiting or host.models.busy(host):
        return
    if state.adapter in state.info.taught:
        _switch(host, None)
        host.tell("the base model again: what was taught is off")
    elif state.adapter is not None:
        host.tell("a context is taught to the base model: switch the adapter off first", "warning")
    elif "\n" not in host.text.rstrip("\n") and state.info.taught:
        _switch(host, state.info.taught[-1])
    else:
        host.context.ask(host)


def bake(host: Host) -> None:
    """Open the dialog that asks for the adapter's folder."""
    if (
        host.state.info is None
        or host.context.waiting
        or host.models.busy(host)
        or not host.may("bake")
    ):
        return
    from llmscope.tui.features.context.export_dialog import BakeScreen

    host.push_screen(BakeScreen(host))


def _switch(host: Host, adapter: str | None) -> None:
    state = replace(host.state, adapter=adapter)
    if state.info is not None:
        host.header.model(state.info, adapter)
    host.look_at(state)
