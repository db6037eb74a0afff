"""Opens the screen on a terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Thread
from traceback import format_exception
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError
from llmscope.support.text import display_text
from llmscope.tui.actions.user_keymap import read_keymap
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.engine_client import LateEngine
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.session.autosave import Autosave
from llmscope.tui.session.state_file import State, changing, forget_invalid, open_state
from llmscope.tui.session.state_folder import flaw, state_folder
from llmscope.tui.session.stored_prompts import keep, past_of, prompt_of
from llmscope.tui.session.undo_history import UndoHistory
from llmscope.tui.terminal.bandwidth import HIGH, Bandwidth
from llmscope.tui.terminal.output_guard import leaving_on_signals, own_terminal
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.placeholder import examples, first_look

LEAVING = 10.0
"""Seconds that quitting waits for the state to be written."""

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.edits import Edit
    from llmscope.engine.events import Event
    from llmscope.engine.prompt_list import ChatOnDisk, PromptsOnDisk
    from llmscope.models.loaded_model import Progress
    from llmscope.models.sampler import Sampler
    from llmscope.models.tokenizer.conversation import TurnSpan
    from llmscope.scope.scope import Scope
    from llmscope.tui.engine_client import EngineLike
    from llmscope.tui.features.copy.repro_command import LoaderLike
    from llmscope.tui.session.session import StoredSession
    from llmscope.tui.state.layout_state import LayoutState


def run(
    load: Callable[[Progress], Scope],
    *,
    spec: str,
    prompt: str = "",
    typed: str = "",
    special_tokens: bool = True,
    look: RenderOptions | None = None,
    chat: bool = False,
    system: str | None = None,
    bandwidth: Bandwidth = HIGH,
    debug: bool = False,
    source: ModelSource | None = None,
    edits: Sequence[Edit] = (),
    versus_prompt: str | None = None,
    sampler: Sampler | None = None,
    session: StoredSession | None = None,
    notice: str = "",
    turns: Sequence[TurnSpan] = (),
    other: Callable[[str], LoaderLike] | None = None,
    workspace: str = "",
    hosted: bool = False,
    files: Callable[[str], PromptsOnDisk | ChatOnDisk] | None = None,
    prompts: PromptsOnDisk | None = None,
) -> int:
    """Open the screen and stay until the user leaves it.

    Args:
        load: loads the model, in the engine's thread; called with a progress callback.
        spec: the model's name as the user wrote it; its last prompt is stored under this name.
        prompt: the editor's first text; empty means the last prompt of this model.
        typed: text typed before the screen appeared; appended to the prompt.
        special_tokens: whether the tokenizer adds its special tokens.
        look: render options (theme, colours, characters); None asks the terminal.
        chat: put the prompt into the chat template once the model is loaded.
        system: the system message for the template.
        bandwidth: limits on what is sent to the terminal.
        debug: print the full output of a crash.
        source: how the model was opened; None: with no options.
        edits, versus_prompt: see `llmscope.tui.state.edit_list.EditList`.
        sampler: how generated tokens are sampled; None takes the likeliest token.
        session: the session to resume, with its own prompt; None starts a new one.
        notice: a warning to show at first.
        turns: the turns of the prompt, which is a conversation in its template; empty for others.
        other: makes the loader of another model from its spec; None if there is no other.
        workspace: the workspace to start in, with the focus in the figures; empty: in the prompt.
        hosted: whether the process is another program's; see `stay`.
        files: opens a file of prompts or a chat by its path; None if none can be opened.
        prompts: the file of prompts to list; None lists that of the session.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that ended the program.

    Raises:
        ScopeError: the screen failed.
    """
    source = source or ModelSource(spec)
    state = open_state()
    prompt_kept, past, left = prompt_of(state, spec), past_of(state, spec), _left(state)
    forget_invalid(state)
    notice = "; ".join(filter(None, (notice, flaw())))
    known, first = prompt or prompt_kept, left is None
    greeting = ""
    text = known or (examples(spec)[0] if _is_built_in(spec) else "")
    if session is not None:
        text, left = session.prompt, session.kept
        system, turns = session.system, _turns(session)
        if built := session.described():
            greeting = f"as it was left: {built} · {{palette}} reset begins anew"
        if session.prompts and prompts is None and files is not None:
            prompts, flaw_of_list = _reopen_list(files, session.prompts)
            notice = "; ".join(filter(None, (notice, flaw_of_list)))
    if workspace:
        left = _in_workspace(left, workspace)
    else:
        text += typed
    autosave = Autosave(spec, text)
    if source.named:
        load = partial(_load_and_remember, load, spec)
    app = LlmscopeApp(
        lambda post: LateEngine(partial(_engine, load, post)),
        spec=spec,
        prompt=text,
        special_tokens=special_tokens,
        look=look,
        chat=chat,
        system=system,
        turns=turns,
        bandwidth=bandwidth,
        user=UserState(
            keymap=read_keymap(),
            past=past.leading_to(prompt_kept, text),
            kept=left,
            source=source,
            newcomer=first and "tour" not in state.parts,
            first_look={} if known or session or not first else first_look(spec),
            autosave=autosave,
            session=session,
            other=other,
            files=files,
            saves_figures=source.named,
            notice=notice,
            greeting=greeting,
            in_figures=bool(workspace),
            typed=typed if workspace else "",
        ),
    )
    if edits or versus_prompt is not None or sampler is not None:
        _plan(app, edits, versus_prompt, sampler)
    if prompts is not None:
        from llmscope.tui.state.prompt_list import PromptList

        app.state = app.state.with_prompts(PromptList(prompts))

    def leave() -> None:
        autosave.close()
        ended = _within(LEAVING, lambda: _keep(app.source.spec, app, autosave))
        warning = flaw() if ended else f"nothing was kept: no answer from {state_folder()}"
        if warning:
            sys.stderr.write(f"note: {display_text(warning)}\n")

    return stay(app, leave, debug=debug, hosted=hosted)


def stay(
    app: LlmscopeApp,
    leave: Callable[[], None],
    *,
    debug: bool,
    hosted: bool = False,
    typed: str = "",
) -> int:
    """Run an app on the terminal until it is left.

    Args:
        app: the app, which has not begun.
        leave: called when the app has ended, for whatever reason.
        debug: print the full output of a crash, and an error while the app was closing.
        hosted: whether the process is another program's: then it goes on, once the engine's thread
            has ended, and has the event loop that it had.
        typed: keys that were pressed before the screen appeared, which wait for the figures.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that ended the program.

    Raises:
        ScopeError: the screen failed.
    """
    if typed:
        app.user = replace(app.user, typed=typed)
    ended = True
    with own_terminal() as aside:
        try:
            with leaving_on_signals(app.exit, aside.leave_terminal):
                try:
                    code = _run_hosted(app) if hosted else app.run()
                finally:
                    for save in tuple(app.saves):
                        save.land()
                    leave()
        finally:
            with suppress(Exception):
                ended = app.engine.close()
                while hosted and not ended:  # the host must not use the model beside the engine
                    ended = app.engine.close()
        # An error before the user left: the code of leaving would hide it.
        failed = not app.left or app._exception is not None or bool(app.return_code)
        story = aside.tail() if failed else ""
    if failed:
        error = app._exception
        if debug:
            sys.stderr.write(story)
            sys.stderr.writelines([] if error is None else format_exception(error))
        reason = f": {type(error).__name__}: {error}" if error else ": it was closed"
        raise ScopeError(
            f"the screen failed{display_text(reason)}", "--debug, which tells the whole story"
        )
    if debug and app.late_error is not None:
        sys.stderr.writelines(format_exception(app.late_error))
    if not ended:
        # The engine's thread is deep inside a library. Python would wait for it, or tear the
        # library down under it; the terminal is restored and all is saved, so nothing is lost.
        os._exit(code or 0)
    return code or 0


def _run_hosted(app: LlmscopeApp) -> int | None:
    """Run an app in an event loop of its own: `App.run` would close that of the thread."""
    loop = asyncio.new_event_loop()
    try:
        return app.run(loop=loop)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _engine(load: Callable[[Progress], Scope], post: Callable[[Event], None]) -> EngineLike:
    # Imported late: the first paint does not need it.
    from llmscope.engine import Engine

    return Engine(load, post)


def _load_and_remember(load: Callable[[Progress], Scope], spec: str, progress: Progress) -> Scope:
    """Load the model, and add it to the recent models."""
    scope = load(progress)
    from llmscope.tui.session.recent_models import remember

    remember(spec)
    return scope


def _left(state: State) -> LayoutState | None:
    """Return the layout as it was left; None if none is stored."""
    if "layout" not in state.parts:  # on the first start, which imports nothing for it
        return None
    from llmscope.tui.state.layout_state import LayoutState

    return state.get("layout", LayoutState)


def _reopen_list(
    files: Callable[[str], PromptsOnDisk | ChatOnDisk], path: str
) -> tuple[PromptsOnDisk | None, str]:
    """Return the file of prompts that was listed; or None, and why it cannot be read."""
    try:
        file = files(path)
    except ScopeError as error:
        return None, f"the list of prompts is not there any more: {error.message}"
    return (file, "") if file.kind == "prompts" else (None, "")


def _in_workspace(left: LayoutState | None, workspace: str) -> LayoutState:
    """Return a layout as it was left, in another workspace."""
    from msgspec.structs import replace as with_fields

    from llmscope.tui.state.layout_state import LayoutState

    return with_fields(left or LayoutState(), workspace=workspace)


def _turns(session: StoredSession) -> tuple[TurnSpan, ...]:
    """Return the turns of a session's prompt, as far as they are within it."""
    if not session.conversation:
        return ()
    from llmscope.models.tokenizer.conversation import TurnSpan

    stored = (TurnSpan(turn.start, turn.end, turn.role, turn.turn) for turn in session.conversation)
    return tuple(span for span in stored if span.start <= span.end <= len(session.prompt))


def _plan(
    app: LlmscopeApp, edits: Sequence[Edit], versus_prompt: str | None, sampler: Sampler | None
) -> None:
    """Start with the edits, prompt B and sampler of the command line."""
    from llmscope.tui.state.edit_list import ListedEdit

    planned = tuple(map(ListedEdit.of, edits))
    state = app.state if sampler is None else app.state.with_sampler(sampler)
    app.state = replace(state, edits=planned, versus_prompt=versus_prompt)


def _keep(spec: str, app: LlmscopeApp, autosave: Autosave) -> None:
    """Save what the next start resumes, the prompt first."""
    # The editor may hold letters whose events have not reached the app yet.
    text = app.editor.text if app.begun else app.text
    past = UndoHistory.of(app.editor.history) if app.begun else UndoHistory()
    with changing() as state:
        keep(state, spec, text, past)
    if not app.begun:
        return
    autosave.leave(text)
    from llmscope.tui.session.session import StoredSession, keep_session

    session = StoredSession.of(app)
    with changing() as state:
        state.put("layout", session.kept)
        if app.source.named:
            keep_session(state, session)
    if not app.source.named:
        return  # there is nothing to return to
    from llmscope.tui.session.saved_figures import save_figures

    with suppress(Exception):  # they can be computed again: nothing of the user is lost
        save_figures(app)


def _within(seconds: float, work: Callable[[], None]) -> bool:
    """Run `work` and return whether it ended in time: a network folder may not answer."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, name="llmscope-leaving", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    return not thread.is_alive()


def _is_built_in(spec: str) -> bool:
    return spec.startswith("builtin:")
