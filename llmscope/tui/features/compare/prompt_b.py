"""Prompt B on screen: its text, the alignment of its tokens with A, and the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from llmscope.text import display_text

if TYPE_CHECKING:
    from llmscope.engine.events import Frame, PromptB, Refused
    from llmscope.tui.app import LlmscopeApp
    from llmscope.tui.state.view_state import ViewState

NAME = "compare"
"""The name of the workspace."""
UNLIKE = "one of A and B is in the chat template, the other is not"
SHARED = "the last token that both have"


class Comparing:
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

    def written(self, desk: LlmscopeApp) -> None:
        """Take the text of B's editor after it changed."""
        text = desk.prompts.b.text
        if text == self._agreed:
            return
        self._agreed = text
        desk.scene = desk.scene.against(text)
        desk.ask_soon()
        desk.present()

    def landed(self, desk: LlmscopeApp, frame: Frame) -> None:
        """Take the tokens and notices of B, and the notes on the word lists, from a frame."""
        self.beside = frame.beside
        notices = [] if frame.beside is None else list(frame.beside.notices)
        if frame.beside is not None and desk.chat.apart(desk):
            notices.append(UNLIKE)
        self.note(desk, " · ".join(notices), wrong=False)
        if frame.word_notes != self._notes:
            self._notes = frame.word_notes
            for note in self._notes:
                desk.tell(note, "warning")
        self._seek(desk)

    def refused(self, desk: LlmscopeApp, refused: Refused) -> None:
        """Show on B's editor why B cannot be run; the last figures stay."""
        hint = f" · try: {refused.hint}" if refused.hint else ""
        self.note(desk, f"{refused.reason}{hint}", wrong=True)
        desk.rest(late=True)

    def note(self, desk: LlmscopeApp, text: str, *, wrong: bool) -> None:
        """Show a note on the border of prompt B; `wrong` styles it as an error."""
        shown = display_text(text).replace("\n", " ")
        ink = desk.inks.error if wrong else desk.inks.warning
        desk.prompts.b.say(Content.assemble((shown, ink)) if shown else None)

    def present(self, desk: LlmscopeApp) -> None:
        """Show B in its editor, with the token that is aligned with the cursor's."""
        scene, editor = desk.scene, desk.prompts.b
        held = scene.versus_prompt or ""
        if held != self._agreed:  # a key or the command line set another text as B
            self._agreed = held
            if editor.text != held:
                editor.replace_all(held)
        opened = desk.overview.workspace.name == NAME
        desk.prompts.lay_out(desk.size, both=opened)
        if opened and not self._open:
            self._sought_for = ()
            desk.call_after_refresh(self._seek, desk)
        self._open = opened
        if not opened:
            return
        info = scene.info
        editor.show_roles(() if info is None or not held else info.chat.roles(held))
        if self.beside is not None:
            there = self.beside.there(scene.focus.position)
            here = -1 if there is None else there
            editor.show_tokens(self.beside.text, self.beside.tokens, here)

    def walked(self, desk: LlmscopeApp) -> None:
        """Move the cursor to the token of A that is aligned with the text cursor in B, if any."""
        editor = desk.prompts.b
        there = editor.token_at_cursor if editor.has_focus else None
        if there is not None and self.beside is not None and editor.text == self.beside.text:
            here = {b: a for a, b in self.beside.aligned}.get(there)
            if here is not None:
                desk.look_at(desk.scene.go(position=here))

    def said(self, scene: ViewState) -> list[str]:
        """Return a remark for the status text if `_seek` moved the cursor."""
        return [SHARED] if self._open and scene.focus.position == self._sought else []

    def _seek(self, desk: LlmscopeApp) -> None:
        """Move the cursor from a token only A has to the last shared one, once per two texts."""
        scene, beside = desk.scene, self.beside
        if not self._open or beside is None or beside.text != scene.versus_prompt:
            return
        texts = (scene.tokens, beside.tokens)
        if texts == self._sought_for:
            return
        self._sought_for = texts
        here = scene.focus.position
        if beside.there(here) is not None and here != self._sought:
            self._sought = None
            return
        telling = [
            a
            for a, _ in beside.aligned
            if a < len(scene.tokens)
            and not (scene.tokens[a].special or scene.tokens[a].text.isspace())
        ]
        self._sought = None
        if telling and telling[-1] != len(scene.tokens) - 1:
            self._sought = telling[-1]
            desk.look_at(scene.go(position=telling[-1]))
