"""The dialog of the sampler settings (key `S`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.errors import ScopeError
from llmscope.models.sampler import read_sampler
from llmscope.support.text import display_text
from llmscope.tui.dialogs.base import LineScreen

if TYPE_CHECKING:
    from llmscope.tui.host import Host

ASKED = "how the next token is drawn · temperature 0: the likeliest · top-k 0: no cut"


def ask(host: Host) -> None:
    """Open the dialog."""
    host.push_screen(SamplerScreen(host))


class SamplerScreen(LineScreen):
    """One line at the bottom: enter applies it, esc closes. Invalid input stays in it."""

    def __init__(self, host: Host) -> None:
        super().__init__(ASKED, host.state.sampler.written)
        self._host = host

    def submit(self, event: Input.Submitted) -> None:
        """Apply the settings, or show the error."""
        host = self._host
        try:
            sampler = read_sampler(event.value, host.state.sampler)
        except ScopeError as error:
            self.say(display_text(f"{error.message} · {error.hint}"))
            return
        self.action_leave()
        host.look_at(host.state.with_sampler(sampler))
        host.tell(display_text(f"the next token: {sampler.said}{_rules(host)}"))


def _rules(host: Host) -> str:
    """Return which settings of the model's generation_config are applied, and which are not."""
    info = host.state.info
    if info is None:
        return ""
    applied, ignored = info.rules.applied, info.rules.ignored
    parts = [f"by its generation_config: {', '.join(applied)}"] if applied else []
    parts += [f"not applied: {', '.join(ignored)}"] if ignored else []
    return "".join(f" · {part}" for part in parts)
