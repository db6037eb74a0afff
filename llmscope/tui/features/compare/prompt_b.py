"""Prompt B on screen: its text, the alignment of its tokens with A, and the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from llmscope.support.text import display_line

if TYPE_CHECKING:
    from llmscope.engine.events import Frame, PromptB, Refused
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

NAME = "compare"
"""The name of the workspace."""
UNLIKE = "one of A and B is in the chat template, the other is not"
SHARED = "the last token that both have"


class PromptBController:
    """The state of prompt B on the screen.

    Attributes:
        prompt_b: prompt B as the engine tokenized it for the latest frame; None without B.
    """

    def __init__(self) -> None:
        self.prompt_b: PromptB | None = None
        self._synced_text = ""  # the last text of B that editor and view state agreed on
        self._open = False
        self._jump_position: int | None = None
        self._left_position = 0  # where the cursor was before `_seek` moved it
        self._jump_texts: tuple[object, ...] = ()
        self._notes: tuple[str, ...] = ()

    def written(self, host: Host) -> None:
        """Take the text of B's editor after it changed."""
        text = host.prompts.b.text
        if text == self._synced_text:
            return
        self._synced_text = text
        host.state = host.state.against(text)
        host.requests.typed(host.bandwidth.pause)
        host.present()

    def landed(self, host: Host, frame: Frame) -> None:
        """Take the tokens and notices of B, and the notes on the word lists, from a frame."""
        self.prompt_b = frame.prompt_b
        notices = [] if frame.prompt_b is None else list(frame.prompt_b.notices)
        if frame.prompt_b is not None and host.chat.apart(host):
            notices.append(UNLIKE)
        self.note(host, " · ".join(notices), wrong=False)
        if frame.word_notes != self._notes:
            self._notes = frame.word_notes
            for note in self._notes:
                host.tell(note, "warning")
        self._seek(host)

    def refused(self, host: Host, refused: Refused) -> None:
        """Show on B's editor why B cannot be run; the last figures stay."""
        hint = f" · try: {refused.hint}" if refused.hint else ""
        self.note(host, f"{refused.reason}{hint}", wrong=True)
        host.requests.finish(late=True)

    def note(self, host: Host, text: str, *, wrong: bool) -> None:
        """Show a note on the border of prompt B; `wrong` styles it as an error."""
        line = display_line(text)
        style = host.text_styles.error if wrong else host.text_styles.warning
        host.prompts.b.say(Content.assemble((line, style)) if line else None)

    def present(self, host: Host) -> None:
        """Show B in its editor, with the token that is aligned with the cursor's."""
        state, editor = host.state, host.prompts.b
        prompt = state.versus_prompt or ""
        if prompt != self._synced_text:  # a key or the command line set another text as B
            self._synced_text = prompt
            if editor.text != prompt:
                editor.replace_all(prompt)
        opened = host.grid.workspace.name == NAME
        host.prompts.lay_out(host.size, both=opened)
        if opened and not self._open:
            self._jump_texts = ()
            host.call_after_refresh(self._seek, host)
        self._open = opened
        if not opened:
            return
        info = state.info
        editor.show_roles(() if info is None or not prompt else info.chat.roles(prompt))
        if self.prompt_b is not None:
            there = self.prompt_b.there(state.focus.position)
            here = -1 if there is None else there
            editor.show_tokens(self.prompt_b.text, self.prompt_b.tokens, here)

    def walked(self, host: Host) -> None:
        """Move the cursor to the token of A that is aligned with the text cursor in B, if any."""
        editor = host.prompts.b
        there = editor.token_at_cursor if editor.has_focus else None
        if there is not None and self.prompt_b is not None and editor.text == self.prompt_b.text:
            here = {b: a for a, b in self.prompt_b.aligned}.get(there)
            if here is not None:
                host.look_at(host.state.move_to(position=here))

    def said(self, state: ViewState) -> list[str]:
        """Return a remark for the status text if `_seek` moved the cursor."""
        return [SHARED] if self._open and state.focus.position == self._jump_position else []

    def _seek(self, host: Host) -> None:
        """Move the cursor from a token only A has to the last shared one, once per two texts.

        While B is typed, each letter may move it; it goes back once B has the token that it left.
        """
        state, prompt_b = host.state, self.prompt_b
        if not self._open or prompt_b is None or prompt_b.text != state.versus_prompt:
            return
        texts = (state.tokens, prompt_b.tokens)
        if texts == self._jump_texts:
            return
        self._jump_texts = texts
        here = state.focus.position
        at = self._left_position if here == self._jump_position else here
        if prompt_b.there(at) is not None:
            self._jump_position = None
            if at != here:
                host.look_at(state.move_to(position=at))
            return
        telling = [
            a
            for a, _ in prompt_b.aligned
            if a < len(state.tokens)
            and not (state.tokens[a].special or state.tokens[a].text.isspace())
        ]
        self._jump_position = None
        if telling and telling[-1] != len(state.tokens) - 1:
            self._jump_position, self._left_position = telling[-1], at
            host.look_at(state.move_to(position=telling[-1]))
