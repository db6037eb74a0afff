"""The choice of a learned lens, which the engine's thread fetches and reads before it is used.

Meanwhile no figures are requested, since a newer request would take the place of this one; if the
lens cannot be used, the figures on screen stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.text import one_line
from llmscope.tui.state.views import MAP_VIEWS

if TYPE_CHECKING:
    from llmscope.engine.events import LensRead, LensRequest, Loading
    from llmscope.tui.host import Host


class LensChoice:
    """The state of a pending request to read a learned lens."""

    def __init__(self) -> None:
        self._asked: LensRequest | None = None

    @property
    def waiting(self) -> bool:
        """Whether the engine is fetching or reading a lens."""
        return self._asked is not None

    def drop(self) -> None:
        """Drop the pending request: its answer is of no use."""
        self._asked = None

    def stop(self, host: Host) -> None:
        """Stop the fetch, and go on with the lens in use."""
        from llmscope.engine.events import StopRequest

        self.drop()
        host.engine.ask(StopRequest())
        _go_on(host)

    def take(self, host: Host, name: str | None) -> None:
        """Read through a lens; one that was not used yet is read first. None: the logit lens."""
        from llmscope.engine.events import LensRequest

        if host.models.busy(host) or host.context.waiting or host.chat.waiting:
            return
        if name is None or name in host.state.lenses:
            show(host, name)
            return
        self._asked = LensRequest(name, host.state.adapter)
        host.generation.stop(host)
        host.engine.ask(self._asked)
        host.note(f"reading the lens {one_line(name)} …", host.text_styles.dim)

    def progress(self, host: Host, event: Loading) -> None:
        """Show the progress of a download."""
        from llmscope.tui.features.models.model_switch import amount_of

        if self._asked is not None:
            keys = host.user.keymap.keys_from(host.key_line.in_prompt, "cancel")
            host.note(f"{amount_of(event)} · {keys} stops", host.text_styles.dim)

    def land(self, host: Host, read: LensRead) -> None:
        """Show the map through the lens, or why it cannot be used."""
        if read.request is not self._asked:
            return
        self.drop()
        if read.error:
            hint = f" (try: {read.hint})" if read.hint else ""
            host.tell(f"{read.error}{hint}", "error")
        else:
            show(host, read.request.name)
        _go_on(host)


def show(host: Host, name: str | None) -> None:
    """Read through a lens that was read, with the map on a view that it changes."""
    state = host.state.with_lens(name)
    view = state.map_view
    if view.lens != "logit-lens" or view.mode == "lenses":
        top = next(at for at, one in enumerate(MAP_VIEWS) if one.mode == "top")
        state = replace(state, view=top)
    host.look_at(state)


def _go_on(host: Host) -> None:
    """Ask for the figures again: their pass may have been cancelled for the lens."""
    host.note("", host.text_styles.dim)
    host.figures.repeat()
    host.ask()
