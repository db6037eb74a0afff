"""The choice of dictionaries, whose headers the engine's thread reads before they are used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.support.text import one_line
from llmscope.tui.features.pending_read import PendingRead, go_on
from llmscope.tui.state.workspaces import BY_NAME

if TYPE_CHECKING:
    from llmscope.engine.events import DictionariesRead
    from llmscope.tui.host import Host
    from llmscope.tui.session.session import StoredSession


class DictionaryChoice(PendingRead):
    """The state of a pending request to read dictionaries.

    Attributes:
        added: the name that is added to those in use.
        owed: the session whose dictionaries are to be read; None once they are.
    """

    added: str = ""
    owed: StoredSession | None = None

    @property
    def pending(self) -> tuple[str, ...]:
        """The names of an earlier session that are still to be read; empty without any."""
        return () if self.owed is None else self.owed.features or ()

    def owe(self, host: Host, session: StoredSession | None) -> None:
        """Note which dictionaries of an earlier session the model does not have by itself."""
        known = set(host.state.features)
        lacking = session is not None and not set(session.features or ()) <= known
        self.owed = session if lacking else None

    def drop(self) -> None:
        """Drop the pending request, and what an earlier session had in use."""
        super().drop()
        self.owed = None

    def read_owed(self, host: Host) -> bool:
        """Request the dictionaries of the earlier session; return whether they are read now."""
        from llmscope.engine.events import DictionaryRequest

        if self.owed is None or self.waiting:
            return False
        request = DictionaryRequest(self.pending, host.state.adapter)
        self.begin(host, request, "reading the dictionaries that were in use …")
        return True

    def toggle(self, host: Host, name: str) -> None:
        """Put a dictionary, or all that a name leads to, in use, or take it out again."""
        from llmscope.engine.events import DictionaryRequest

        if host.models.busy(host) or host.context.waiting or host.chat.waiting:
            return
        state = host.state
        if name in state.features:
            left = [dictionary for dictionary in state.dictionaries if dictionary.given != name]
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
        earlier = self.owed if read.request is self._asked else None
        if not self.answered(host, read):
            return
        if earlier is not None:
            state = host.state.with_dictionaries(read.dictionaries)
            host.look_at(replace(earlier.loaded(state), adapter=host.state.adapter))
            go_on(host)
        else:
            host.grid.show(BY_NAME["features"])
            host.look_at(host.state.with_dictionaries(read.dictionaries, self.added))
            go_on(host)
