"""The list of a file of prompts: reading it in the background, and opening its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.engine.prompt_list import ChatFileRequest, PromptsOnDisk, PromptsRequest
from llmscope.errors import ScopeError
from llmscope.support.text import display_text, one_line
from llmscope.tui.dialogs.base import LONGEST_NAME, LineScreen
from llmscope.tui.prompt.editor import too_long
from llmscope.tui.state.prompt_list import PromptList
from llmscope.tui.state.workspaces import BY_NAME, workspace_of

if TYPE_CHECKING:
    from llmscope.engine.prompt_list import ChatFileRead, PromptsRead
    from llmscope.models.tokenizer.conversation import TurnSpan
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

NAME = "prompts"
"""The name of its workspace and of its pane."""
PATHS = "which file? prompts (.jsonl .csv .tsv .parquet .txt) or a chat (.json .jsonl)"
BASE = "the base"


class PromptListController:
    """What of the list is no view state: what is being read, and which place is to be opened."""

    def __init__(self) -> None:
        self._models: tuple[object, ...] | None = None
        self._chat: ChatFileRequest | None = None
        self._goes_to: tuple[str, int] | None = None
        self._filled: PromptsOnDisk | None = None

    @property
    def waiting(self) -> bool:
        """Whether a chat of a file is about to replace the prompt."""
        return self._chat is not None

    def show(self, host: Host, file: PromptsOnDisk) -> None:
        """Show the list of a file, which is read from its beginning."""
        self._models = None
        host.state = host.state.with_prompts(PromptList(file))
        host.grid.open(BY_NAME[NAME])
        host.ask()
        host.present()

    def end(self, host: Host) -> None:
        """Read the file no further, and forget the list."""
        if host.state.prompts is not None:
            self._models = None
            host.engine.ask(PromptsRequest(None))
            host.look_at(host.state.with_prompts(None))

    def follow(self, host: Host) -> None:
        """Have the file read, anew if the models that it is read with are others now."""
        state, prompts = host.state, host.state.prompts
        if prompts is None or state.info is None:
            return
        a, b = _names_of_models(state)
        models = (prompts.file, host.source.spec, host.source.versus, state.adapter, a, b)
        if models == self._models:
            return
        before, self._models = self._models, models
        request = PromptsRequest(prompts.file, state.adapter)
        entered = prompts.entered
        fresh = PromptList(prompts.file, request, a=a, b=b, entered=entered)
        host.state = state.with_prompts(fresh)
        host.engine.ask(request)
        if before is not None:
            names = f"A {a}, B {b}" if b else a
            host.tell(f"the list of {prompts.file.name} begins anew: {names}")

    def landed(self, host: Host, event: PromptsRead) -> None:
        """Take a report of how far the file was read."""
        prompts = host.state.prompts
        if prompts is None or prompts.request is not event.request:
            return
        host.state = host.state.with_prompts(prompts.landed(event.report))
        if not host.text and event.report.rows and self._filled is not prompts.file:
            # Without a prompt there would be nothing to see in any other tab.
            self._filled = prompts.file
            first = event.report.rows[0].prompt
            host.chat.turn_to(first.text, first.turns)
            host.editor.replace_all(first.text)
        host.present()

    def enter(self, host: Host) -> None:
        """Open the prompt of the chosen token, with the cursor on it, where its numbers are."""
        prompts = host.state.prompts
        if prompts is None:
            ask(host)
            return
        token = prompts.chosen_token
        if token is None:
            host.tell("nothing is listed yet")
            return
        host.state = host.state.with_prompts(replace(prompts, entered=True))
        self._open(host, token.prompt.text, token.prompt.turns, token.position)
        pane = "map"
        if prompts.b:
            pane = "models-kl" if host.state.two_models else "stages-kl"
        host.grid.open(workspace_of(pane, BY_NAME["overview"], host.grid.workspaces))

    def back(self, host: Host) -> bool:
        """Go back to the list from a prompt that was opened from it; return whether it was one."""
        prompts = host.state.prompts
        if prompts is None or not prompts.entered or host.grid.workspace.name == NAME:
            return False
        host.state = host.state.with_prompts(replace(prompts, entered=False))
        host.grid.open(BY_NAME[NAME])
        return True

    def place_cursor(self, text: str, state: ViewState) -> ViewState:
        """Return the view state after a change of the text, at the place that is to be opened."""
        goes_to, self._goes_to = self._goes_to, None
        if goes_to is None or goes_to[0] != text:
            return state
        state = state if state.target_pinned else state.set_target(None)
        focus = replace(state.focus, position=goes_to[1])
        return replace(state, focus=focus, following=False)

    def read_chat(self, host: Host, request: ChatFileRequest) -> None:
        """Have the chat of a file put into the template of the model."""
        self._chat = request
        host.engine.ask(request)
        host.note(f"reading {request.file.name} …", host.text_styles.dim)

    def chat_landed(self, host: Host, event: ChatFileRead) -> None:
        """Open the chat of a file in the tab of the text, as `llmscope read` does."""
        if event.request is not self._chat:
            return
        self._chat = None
        host.note("", host.text_styles.dim)
        reason = event.error or too_long(event.chat.text)
        if reason:
            host.tell(f"{event.request.file.name} cannot be opened: {reason}", "error")
            host.figures.repeat()
            host.ask()
            return
        for note in event.chat.notes:
            host.tell(note, "warning")
        self._open(host, event.chat.text, event.chat.turns, None)
        host.grid.open(workspace_of("reader", BY_NAME["reader"], host.grid.workspaces))

    def _open(self, host: Host, text: str, turns: Sequence[TurnSpan], position: int | None) -> None:
        """Make a text the prompt, with the cursor at a position; None: after its last token."""
        host.generation.stop(host)
        if text == host.text:
            host.figures.repeat()
            end = len(host.state.tokens) - 1
            host.look_at(host.state.move_to(position=end if position is None else position))
            return
        self._goes_to = None if position is None else (text, position)
        host.chat.turn_to(text, turns)
        host.editor.replace_all(text)


def _names_of_models(state: ViewState) -> tuple[str, str]:
    """Return the names of the models that are compared; the second is empty for one model."""
    info = state.info
    assert info is not None
    a = one_line(info.name if state.adapter is None else f"{info.name} + {state.adapter}")
    if state.two_models:
        return a, one_line(info.versus_name)
    return a, BASE if state.adapter is not None else ""


def ask(host: Host) -> None:
    """Ask for a file of prompts, or for a chat."""
    if host.user.files is None or host.state.info is None:
        host.tell("no file can be opened here", "warning")
    elif not host.models.busy(host) and host.may("read-file"):
        host.push_screen(FileScreen(host))


class FileScreen(LineScreen):
    """One line at the bottom: enter opens a file, esc closes."""

    def __init__(self, host: Host) -> None:
        super().__init__(PATHS, "")
        self._line.longest = LONGEST_NAME
        self._host = host

    def submit(self, event: Input.Submitted) -> None:
        """Open the file, or say why it cannot be opened."""
        host = self._host
        if host.user.files is None:
            return
        try:
            path = str(Path(event.value.strip()).expanduser())
            file = host.user.files(path)
        except (ScopeError, OSError, RuntimeError, ValueError) as error:
            reason = error.line if isinstance(error, ScopeError) else str(error)
            self.say(display_text(reason))
            return
        self.action_leave()
        if file.kind == "prompts":
            host.prompt_list.show(host, file)
        else:
            host.prompt_list.read_chat(host, ChatFileRequest(file))
