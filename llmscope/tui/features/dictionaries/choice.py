"""The choice of dictionaries, whose headers the engine's thread reads before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.text import one_line
from llmscope.tui.features.pending_read import PendingRead, go_on
from llmscope.tui.state.workspaces import BY_NAME

if TYPE_CHECKING:
    from llmscope.engine.events import DictionariesRead
    from llmscope.tui.host import Host


class DictionaryChoice(PendingRead):
    """The state of a pending request to read dictionaries.

    Attributes:
        added: the name that is added to those in use.
    """

    added: str = ""

    def toggle(self, host: Host, name: str) -> None:
        """Put a dictionary, or all that a name leads to, in use, or take it out again."""
        from llmscope.engine.events import DictionaryRequest

        if host.models.busy(host) or host.context.waiting or host.chat.waiting:
            return
        state = host.state
        if name in state.features:
            left = [one for one in state.dictionaries if one.given != name]
            host.look_at(state.with_dictionaries(left))
            host.tell(f"{one_line(name)} is out of use")
            return
        self.added = name
        self.begin(
            host,
            DictionaryRequest((name, *state.features), state.adapter),
            f"reading the dictionary {one_line(name)} …",
        )

    def land(self, host: Host, read: DictionariesRead) -> None:
        """Show the dictionary that was added, or why it cannot be used."""
        if self.answered(host, read):
            host.grid.show(BY_NAME["features"])
            host.look_at(host.state.with_dictionaries(read.dictionaries, self.added))
            go_on(host)
