"""The chat template in the editor: applied to the typed text, and removed again.

The template is a program that comes with the model, so the engine's thread runs it. The screen
sends a request and continues; the roles are read from the text itself, on every change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.tui.state.turns import Turns

if TYPE_CHECKING:
    from llmscope.engine.events import ChatRequest, ModelInfo, Templated
    from llmscope.models.tokenizer.conversation import TurnSpan
    from llmscope.models.tokenizer.roles import RoleSpan
    from llmscope.tui.host import Host


class ChatTemplate:
    """The state of the chat template on the screen.

    Args:
        system: the system message; None if none was given.
        at_first: put the first prompt into the template as soon as the model is loaded.
        text: the first prompt.
        turns: its turns, if it is a conversation in the template already; empty for others.

    Attributes:
        roles: the spans of the roles in the editor's text; empty for a plain text.
        turns: the text and its turns; None for a text that came without turns.
    """

    def __init__(
        self,
        *,
        system: str | None,
        at_first: bool,
        text: str = "",
        turns: Sequence[TurnSpan] = (),
    ) -> None:
        self.turns = Turns(text, tuple(turns)) if turns else None
        self.roles: tuple[RoleSpan, ...] = self._of_turns()
        self._system = system
        self._at_first = at_first
        self._asked: ChatRequest | None = None
        self._sent: ChatRequest | None = None
        self._learned = False
        self._asked_b = False
        self._made: Templated | None = None
        self._made_b: Templated | None = None

    @property
    def system(self) -> str | None:
        """The system message; None if none was given."""
        return self._system

    @property
    def waiting(self) -> bool:
        """Return whether a templated text is about to replace the editor's."""
        return self._asked is not None

    def read(self, text: str, info: ModelInfo | None) -> None:
        """Read the roles of a changed text; a pending request for a template is dropped."""
        self._asked, self._asked_b = None, False
        if self.turns is not None and text != self.turns.text:
            self.turns = self.turns.edited(text)
        if self.turns is not None:
            self.roles = self._of_turns()
        else:
            self.roles = () if info is None else info.chat.roles(text)

    def turn_to(self, text: str, turns: Sequence[TurnSpan]) -> None:
        """Take over another text that the editor is about to have, with its turns, if it has any.

        The change of the text then reads its roles.
        """
        self.turns = Turns(text, tuple(turns)) if turns else None

    def follows(self, text: str) -> bool:
        """Return whether a text follows the template, so that it has its special tokens already."""
        return bool(self.roles) or (self._made is not None and text == self._made.text)

    def follows_b(self, host: Host) -> bool:
        """Return whether prompt B follows the template."""
        text, info = host.state.versus_prompt, host.state.info
        is_made = self._made_b is not None and text == self._made_b.text
        return is_made or bool(text and info is not None and info.chat.roles(text))

    def apart(self, host: Host) -> bool:
        """Return whether only one of the two prompts follows the template."""
        has_b = host.state.versus_prompt is not None
        return has_b and self.follows(host.text) != self.follows_b(host)

    def begin(self, host: Host) -> bool:
        """Request the template for the first prompt if wanted; return whether it was requested."""
        wanted, self._at_first = self._at_first, False
        if wanted and host.text and not self.follows(host.text):
            self._ask_all(host)
        else:
            self.learn(host)
        return self.waiting

    def learn(self, host: Host) -> None:
        """Request the template's marks if they are unknown and a prompt may follow the template.

        For a model that is never used for chat the template is not run.
        """
        info = host.state.info
        if info is None or self._learned or self.waiting or info.chat.openings:
            return
        from llmscope.models.tokenizer.chat import may_follow

        texts = (host.text, host.state.versus_prompt or "")
        if any(may_follow(text, info.chat_words) for text in texts):
            self._ask(host, host.text, marks_only=True)

    def toggle(self, host: Host) -> None:
        """Put the prompts into the template, or reduce them to what the user said last."""
        if host.state.info is None:
            host.tell("no model is there yet", "warning")
        elif not host.text:
            host.tell("type what the user says first", "warning")
        elif not self.follows(host.text):
            self._ask_all(host)
        else:
            if self.follows_b(host):
                host.look_at(host.state.against(self.plain_b(host)))
            host.editor.replace_all(self.plain(host.text))

    def anew(self) -> ChatTemplate:
        """Return the state for another model, with the same system message."""
        return ChatTemplate(system=self._system, at_first=False)

    def plain(self, text: str) -> str:
        """Return a text without the template: the typed text, or the user's last message."""
        return self._user_message(text, self._made, self.roles) if self.follows(text) else text

    def plain_b(self, host: Host) -> str | None:
        """Return prompt B without the template; None without B."""
        text, info = host.state.versus_prompt, host.state.info
        if text is None or info is None or not self.follows_b(host):
            return text
        return self._user_message(text, self._made_b, info.chat.roles(text))

    def land(self, host: Host, templated: Templated) -> None:
        """Take the templated text, or report the reason why it failed."""
        if templated.request == self._sent:
            self._take_marks(host, templated)
        if templated.request != self._asked:
            return
        self._asked, of_b = None, self._asked_b
        self._asked_b = False
        if templated.error:
            host.tell(templated.error, "warning")
        elif of_b:
            if templated.request.text == host.state.versus_prompt:
                self._made_b = templated
                host.state = host.state.against(templated.text)
            self._ask(host, host.text)
            host.present()
            return
        elif not templated.request.marks_only:
            self._made = templated
            host.editor.replace_all(templated.text)
        if templated.error or templated.text == host.text:
            # The pass of the text on screen may have been cancelled for the template.
            host.figures.repeat()
            host.ask()

    def _ask_all(self, host: Host) -> None:
        """Request B's text first, if there is one: A's will replace the editor's text."""
        prompt_b = host.state.versus_prompt
        self._asked_b = prompt_b is not None and not self.follows_b(host)
        self._ask(host, prompt_b if prompt_b is not None and self._asked_b else host.text)

    def _ask(self, host: Host, text: str, *, marks_only: bool = False) -> None:
        from llmscope.engine.events import ChatRequest

        self._asked = self._sent = ChatRequest(text, self._system, marks_only)
        host.lenses.drop()
        host.engine.ask(self._asked)

    def _take_marks(self, host: Host, templated: Templated) -> None:
        """Store the text that the template writes around each role in the model's info."""
        info = host.state.info
        self._learned = not templated.error
        if info is None or not templated.marks.openings:
            return
        host.state = replace(host.state, info=replace(info, chat=templated.marks))
        if self.turns is None:
            self.roles = templated.marks.roles(host.text)

    def _of_turns(self) -> tuple[RoleSpan, ...]:
        return () if self.turns is None else tuple(span.role_span for span in self.turns.spans)

    @staticmethod
    def _user_message(text: str, templated: Templated | None, roles: Sequence[RoleSpan]) -> str:
        """Return the typed text if `text` is unchanged since; else the user's last message."""
        if templated is not None and text == templated.text:
            return templated.request.text
        parts = [text[span.start : span.end] for span in roles if span.role == "user"]
        return parts[-1] if parts else text[roles[-1].start : roles[-1].end]
