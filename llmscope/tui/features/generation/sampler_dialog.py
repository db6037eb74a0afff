"""`S`: a line with the sampler's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.errors import ScopeError
from llmscope.sampler import read_sampler
from llmscope.text import display_text
from llmscope.tui.dialogs.base import LineScreen

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

ASKED = "how the next token is drawn · temperature 0: the likeliest · top-k 0: no cut"


def ask(desk: Desk) -> None:
    """Ask for the settings."""
    desk.push_screen(SamplerScreen(desk))


class SamplerScreen(LineScreen):
    """One line at the bottom: enter takes it, esc leaves. What is wrong stays in it."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(ASKED, desk.scene.sampler.written)
        self._desk = desk

    def submit(self, event: Input.Submitted) -> None:
        """Take the settings, or say what is wrong with them."""
        desk = self._desk
        try:
            sampler = read_sampler(event.value, desk.scene.sampler)
        except ScopeError as error:
            self.say(display_text(f"{error.message} · {error.hint}"))
            return
        self.action_leave()
        desk.look_at(desk.scene.drawing(sampler))
        desk.tell(display_text(f"the next token: {sampler.said}{_rules(desk)}"))


def _rules(desk: Desk) -> str:
    """What the model's generation_config adds to the settings, and what of it is left out."""
    info = desk.scene.info
    if info is None:
        return ""
    applied, ignored = info.rules.applied, info.rules.ignored
    parts = [f"by its generation_config: {', '.join(applied)}"] if applied else []
    parts += [f"not applied: {', '.join(ignored)}"] if ignored else []
    return "".join(f" · {part}" for part in parts)
