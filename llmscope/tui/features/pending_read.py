"""A pending request to read a file, which the engine's thread fetches before it is used.

Meanwhile no figures are requested, since a newer request would take the place of this one; if the
file cannot be used, the figures on screen stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.engine.events import Ask, DictionariesRead, LensRead, Loading
    from llmscope.tui.host import Host


class PendingRead:
    """The state of a pending request to read a file."""

    def __init__(self) -> None:
        self._asked: Ask | None = None

    @property
    def waiting(self) -> bool:
        """Whether the engine is fetching or reading."""
        return self._asked is not None

    def drop(self) -> None:
        """Drop the pending request: its answer is of no use."""
        self._asked = None

    def begin(self, host: Host, request: Ask, note: str) -> None:
        """Request the file.

        Args:
            host: the screen.
            request: what to ask the engine for.
            note: what is done, for the editor's border.
        """
        self._asked = request
        host.generation.stop(host)
        host.engine.ask(request)
        host.note(note, host.text_styles.dim)

    def stop(self, host: Host) -> None:
        """Stop the fetch, and go on with what is in use."""
        from llmscope.engine.events import StopRequest

        self.drop()
        host.engine.ask(StopRequest())
        go_on(host)

    def progress(self, host: Host, event: Loading) -> None:
        """Show the progress of a download."""
        from llmscope.tui.features.models.model_switch import amount_of

        if self._asked is not None:
            keys = host.user.keymap.keys_from(host.key_line.in_prompt, "cancel")
            host.note(f"{amount_of(event)} · {keys} stops", host.text_styles.dim)

    def answered(self, host: Host, read: LensRead | DictionariesRead) -> bool:
        """Return whether an answer is awaited and without an error, which is told."""
        if read.request is not self._asked:
            return False
        self.drop()
        if read.error:
            hint = f" (try: {read.hint})" if read.hint else ""
            host.tell(f"{read.error}{hint}", "error")
            go_on(host)
        return not read.error


def go_on(host: Host) -> None:
    """Ask for the figures again: their pass may have been cancelled for the file."""
    host.note("", host.text_styles.dim)
    host.figures.repeat()
    host.ask()
