"""The chat template in the editor: put around what is typed, and taken off again.

The template is a program that comes with the model, so the engine's thread runs it. The screen
asks with a message and goes on; who speaks where is read from the text itself, on every change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.engine.events import ChatRequest, ModelInfo, Templated
    from llmscope.models.tokenizer.roles import RoleSpan
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
        self._sent: ChatRequest | None = None
        self._learned = False
        self._asked_b = False
        self._made: Templated | None = None
        self._made_b: Templated | None = None

    @property
    def waiting(self) -> bool:
        """Whether a text is about to take the place of the editor's."""
        return self._asked is not None

    def read(self, text: str, info: ModelInfo | None) -> None:
        """The text on screen is another one: a template that was asked for is of no use now."""
        self._asked, self._asked_b = None, False
        self.roles = () if info is None else info.chat.roles(text)

    def follows(self, text: str) -> bool:
        """Whether a text is the template's, so that it holds its special tokens already."""
        return bool(self.roles) or (self._made is not None and text == self._made.text)

    def follows_b(self, desk: Desk) -> bool:
        """Whether prompt B is the template's text."""
        text, info = desk.scene.versus_prompt, desk.scene.info
        made = self._made_b is not None and text == self._made_b.text
        return made or bool(text and info is not None and info.chat.roles(text))

    def apart(self, desk: Desk) -> bool:
        """Whether only one of the two prompts is in the template."""
        held = desk.scene.versus_prompt is not None
        return held and self.follows(desk.text) != self.follows_b(desk)

    def begin(self, desk: Desk) -> bool:
        """Ask for the template of the first prompt, if that is wanted; whether it was asked."""
        wanted, self._at_first = self._at_first, False
        if wanted and desk.text and not self.follows(desk.text):
            self._ask_all(desk)
        else:
            self.learn(desk)
        return self.waiting

    def learn(self, desk: Desk) -> None:
        """Ask for the template's marks if a prompt may be in the template, and they are unknown.

        The template is not run for a model that nothing of a chat is asked of.
        """
        info = desk.scene.info
        if info is None or self._learned or self.waiting or info.chat.openings:
            return
        from llmscope.models.tokenizer.chat import may_follow

        texts = (desk.text, desk.scene.versus_prompt or "")
        if any(may_follow(text, info.chat_words) for text in texts):
            self._ask(desk, desk.text, marks_only=True)

    def toggle(self, desk: Desk) -> None:
        """Put the text into the template, or leave of it what the user said last; B likewise."""
        if desk.scene.info is None:
            desk.tell("no model is there yet", "warning")
        elif not desk.text:
            desk.tell("type what the user says first", "warning")
        elif not self.follows(desk.text):
            self._ask_all(desk)
        else:
            held = desk.scene.versus_prompt
            if held is not None and self.follows_b(desk) and desk.scene.info is not None:
                roles = desk.scene.info.chat.roles(held)
                desk.look_at(desk.scene.against(self._said(held, self._made_b, roles)))
            desk.editor.replace_all(self.plain(desk.text))

    def anew(self) -> ChatDesk:
        """The same of another model, with the same system message."""
        return ChatDesk(system=self._system, at_first=False)

    def plain(self, text: str) -> str:
        """A text without the template: what was typed, or what the user said last."""
        return self._said(text, self._made, self.roles) if self.follows(text) else text

    def land(self, desk: Desk, templated: Templated) -> None:
        """The template's text is there, or the reason why not."""
        if templated.request == self._sent:
            self._take_marks(desk, templated)
        if templated.request != self._asked:
            return
        self._asked, of_b = None, self._asked_b
        self._asked_b = False
        if templated.error:
            desk.tell(templated.error, "warning")
        elif of_b:
            if templated.request.text == desk.scene.versus_prompt:
                self._made_b = templated
                desk.scene = desk.scene.against(templated.text)
            self._ask(desk, desk.text)
            desk.present()
            return
        elif not templated.request.marks_only:
            self._made = templated
            desk.editor.replace_all(templated.text)
        if templated.error or templated.text == desk.text:
            # The pass of the text on screen may have been given up for the template.
            desk.ledger.repeat()
            desk.ask()

    def _ask_all(self, desk: Desk) -> None:
        """Ask for B's text first, if there is one: A's takes the place of the editor's."""
        held = desk.scene.versus_prompt
        self._asked_b = held is not None and not self.follows_b(desk)
        self._ask(desk, held if held is not None and self._asked_b else desk.text)

    def _ask(self, desk: Desk, text: str, *, marks_only: bool = False) -> None:
        from llmscope.engine.events import ChatRequest

        self._asked = self._sent = ChatRequest(text, self._system, marks_only)
        desk.engine.ask(self._asked)

    def _take_marks(self, desk: Desk, templated: Templated) -> None:
        """Keep what the template writes around each role with what is known of the model."""
        info = desk.scene.info
        self._learned = not templated.error
        if info is None or not templated.marks.openings:
            return
        desk.scene = replace(desk.scene, info=replace(info, chat=templated.marks))
        self.roles = templated.marks.roles(desk.text)

    @staticmethod
    def _said(text: str, made: Templated | None, roles: Sequence[RoleSpan]) -> str:
        """What was typed, if the template's text is as it was made; else the last user's words."""
        if made is not None and text == made.text:
            return made.request.text
        said = [text[span.start : span.end] for span in roles if span.role == "user"]
        return said[-1] if said else text[roles[-1].start : roles[-1].end]
