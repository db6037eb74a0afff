"""The chat template in the editor: put around what is typed, and taken off again.

The template is a program that comes with the model, so the engine's thread runs it. The screen
asks with a message and goes on; who speaks where is read from the text itself, on every change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.engine.events import ChatRequest, ModelInfo, Templated
from llmscope.models.roles import RoleSpan

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk


class ChatDesk:
    """What the screen knows about the template.

    Args:
        system: the system message, if one was given.
        at_first: put the first prompt into the template as soon as the model is there.

    Attributes:
        roles: who speaks where in the editor's text; empty for a plain text.
    """

    def __init__(self, *, system: str | None, at_first: bool) -> None:
        self.roles: tuple[RoleSpan, ...] = ()
        self._system = system
        self._at_first = at_first
        self._asked: ChatRequest | None = None
        self._made: Templated | None = None

    @property
    def waiting(self) -> bool:
        """Whether a text is about to take the place of the editor's."""
        return self._asked is not None

    def read(self, text: str, info: ModelInfo | None) -> None:
        """The text on screen is another one: a template that was asked for is of no use now."""
        self._asked = None
        self.roles = () if info is None else info.chat.roles(text)

    def follows(self, text: str) -> bool:
        """Whether a text is the template's, so that it holds its special tokens already."""
        return bool(self.roles) or (self._made is not None and text == self._made.text)

    def begin(self, desk: Desk) -> bool:
        """Ask for the template of the first prompt, if that is wanted; whether it was asked."""
        wanted, self._at_first = self._at_first, False
        if wanted and desk.text and not self.follows(desk.text):
            self._ask(desk)
        return self.waiting

    def toggle(self, desk: Desk) -> None:
        """Put the text into the template, or leave of it what the user said last."""
        if desk.scene.info is None:
            desk.tell("no model is there yet", "warning")
        elif not desk.text:
            desk.tell("type what the user says first", "warning")
        elif not self.follows(desk.text):
            self._ask(desk)
        else:
            desk.editor.replace_all(self._said(desk.text))

    def land(self, desk: Desk, templated: Templated) -> None:
        """The template's text is there, or the reason why not."""
        if templated.request != self._asked:
            return
        self._asked = None
        if templated.error:
            desk.tell(templated.error, "warning")
        else:
            self._made = templated
            desk.editor.replace_all(templated.text)
        if templated.error or templated.text == desk.text:
            # The pass of the text on screen may have been given up for the template.
            desk.ledger.repeat()
            desk.ask()

    def _ask(self, desk: Desk) -> None:
        self._asked = ChatRequest(desk.text, self._system)
        desk.engine.ask(self._asked)

    def _said(self, text: str) -> str:
        """What was typed, if the template's text is as it was made; else the last user's words."""
        if self._made is not None and text == self._made.text:
            return self._made.request.text
        said = [text[span.start : span.end] for span in self.roles if span.role == "user"]
        return said[-1] if said else text[self.roles[-1].start : self.roles[-1].end]
