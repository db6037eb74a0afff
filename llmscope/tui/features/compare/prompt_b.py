"""Prompt B on screen: its text, the alignment of its tokens with A, and the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from llmscope.text import display_text

if TYPE_CHECKING:
    from llmscope.engine.events import Frame, PromptB, Refused
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

NAME = "compare"
"""The name of the workspace."""
UNLIKE = "one of A and B is in the chat template, the other is not"
SHARED = "the last token that both have"


class PromptBEditor:
    """The state of prompt B on the screen.

    Attributes:
        beside: prompt B as the engine tokenized it for the latest frame; None without B.
    """

    def __init__(self) -> None:
        self.beside: PromptB | None = None
        self._agreed = ""  # the last text of B that editor and view state agreed on
        self._open = False
        self._sought: int | None = None
        self._sought_for: tuple[object, ...] = ()
        self._notes: tuple[str, ...] = ()

    def written(self, host: Host) -> None:
        """Take the text of B's editor after it changed."""
        text = host.prompts.b.text
        if text == self._agreed:
            return
        self._agreed = text
        host.set_state(host.state.against(text))
        host.ask_soon()
        host.present()

    def landed(self, host: Host, frame: Frame) -> None:
        """Take the tokens and notices of B, and the notes on the word lists, from a frame."""
        self.beside = frame.beside
        notices = [] if frame.beside is None else list(frame.beside.notices)
        if frame.beside is not None and host.chat.apart(host):
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
        host.rest(late=True)

    def note(self, host: Host, text: str, *, wrong: bool) -> None:
        """Show a note on the border of prompt B; `wrong` styles it as an error."""
        shown = display_text(text).replace("\n", " ")
        ink = host.text_styles.error if wrong else host.text_styles.warning
        host.prompts.b.say(Content.assemble((shown, ink)) if shown else None)

    def present(self, host: Host) -> None:
        """Show B in its editor, with the token that is aligned with the cursor's."""
        state, editor = host.state, host.prompts.b
        held = state.versus_prompt or ""
        if held != self._agreed:  # a key or the command line set another text as B
            self._agreed = held
            if editor.text != held:
                editor.replace_all(held)
        opened = host.grid.workspace.name == NAME
        host.prompts.lay_out(host.size, both=opened)
        if opened and not self._open:
            self._sought_for = ()
            host.call_after_refresh(self._seek, host)
        self._open = opened
        if not opened:
            return
        info = state.info
        editor.show_roles(() if info is None or not held else info.chat.roles(held))
        if self.beside is not None:
            there = self.beside.there(state.focus.position)
            here = -1 if there is None else there
            editor.show_tokens(self.beside.text, self.beside.tokens, here)

    def walked(self, host: Host) -> None:
        """Move the cursor to the token of A that is aligned with the text cursor in B, if any."""
        editor = host.prompts.b
        there = editor.token_at_cursor if editor.has_focus else None
        if there is not None and self.beside is not None and editor.text == self.beside.text:
            here = {b: a for a, b in self.beside.aligned}.get(there)
            if here is not None:
                host.look_at(host.state.go(position=here))

    def said(self, state: ViewState) -> list[str]:
        """Return a remark for the status text if `_seek` moved the cursor."""
        return [SHARED] if self._open and state.focus.position == self._sought else []

    def _seek(self, host: Host) -> None:
        """Move the cursor from a token only A has to the last shared one, once per two texts."""
        state, beside = host.state, self.beside
        if not self._open or beside is None or beside.text != state.versus_prompt:
            return
        texts = (state.tokens, beside.tokens)
        if texts == self._sought_for:
            return
        self._sought_for = texts
        here = state.focus.position
        if beside.there(here) is not None and here != self._sought:
            self._sought = None
            return
        telling = [
            a
            for a, _ in beside.aligned
            if a < len(state.tokens)
            and not (state.tokens[a].special or state.tokens[a].text.isspace())
        ]
        self._sought = None
        if telling and telling[-1] != len(state.tokens) - 1:
            self._sought = telling[-1]
            host.look_at(state.go(position=telling[-1]))
