"""The choice of a learned lens, which the engine's thread fetches and reads before it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.support.text import one_line
from llmscope.tui.features.pending_read import PendingRead, go_on
from llmscope.tui.state.views import MAP_VIEWS

if TYPE_CHECKING:
    from llmscope.engine.events import LensRead
    from llmscope.tui.host import Host


class LensChoice(PendingRead):
    """The state of a pending request to read a learned lens."""

    def take(self, host: Host, name: str | None) -> None:
        """Read through a lens; one that was not used yet is read first. None: the logit lens."""
        from llmscope.engine.events import LensRequest

        if host.models.busy(host) or host.context.waiting or host.chat.waiting:
            return
        if name is None or name in host.state.lenses:
            show(host, name)
            return
        self.begin(
            host, LensRequest(name, host.state.adapter), f"reading the lens {one_line(name)} …"
        )

    def land(self, host: Host, read: LensRead) -> None:
        """Show the map through the lens, or why it cannot be used."""
        if self.answered(host, read):
            show(host, read.request.name)
            go_on(host)


def show(host: Host, name: str | None) -> None:
    """Read through a lens that was read, with the map on a view that it changes."""
    state = host.state.with_lens(name)
    view = state.map_view
    if view.lens != "logit-lens" or view.mode == "lenses":
        top = next(at for at, map_view in enumerate(MAP_VIEWS) if map_view.mode == "top")
        state = replace(state, view=top)
    host.look_at(state)
