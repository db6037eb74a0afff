"""Switching to another model without leaving the app.

The engine's thread loads the new model. Until it is ready, the old model's prompt and figures
stay on screen, marked as stale; if loading fails, both stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from llmscope.engine.events import LoadFailed, OpenRequest
from llmscope.tui.features.copy.repro_command import LoaderLike, ModelSource
from llmscope.tui.session.undo_history import UndoHistory
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.widgets.header import size

if TYPE_CHECKING:
    from llmscope.engine.events import Loading, ModelInfo, Opened, OpenFailed
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope
    from llmscope.tui.host import Host


class Left(NamedTuple):
    """A model's prompt as it was left, with its undo history, and its edits."""

    text: str = ""
    past: UndoHistory = UndoHistory()
    notice: str = ""
    """A warning about damaged files of an earlier session; empty if they are fine."""
    edits: tuple[ListedEdit, ...] = ()


def left_by(spec: str) -> Left:
    """Read the prompt, its undo history and the edits that an earlier session left for a model."""
    from llmscope.tui.session.session import session_of
    from llmscope.tui.session.state_file import changing
    from llmscope.tui.session.state_folder import flaw
    from llmscope.tui.session.stored_prompts import past_of, prompt_of

    with changing() as state:  # what cannot be read is set aside
        text, past = prompt_of(state, spec), past_of(state, spec)
        session = session_of(state, spec)
    edits = () if session is None else session.listed_edits
    return Left(text, past, flaw(), edits)


class PendingSwitch:
    """A switch to a model that is being loaded.

    Args:
        spec: the spec of the model.
        loader: loads the model.
        text: the editor's text when the model was chosen.
        left: the model's prompt as left in this session; None to read an earlier session's.

    Attributes:
        request: the request sent to the engine.
    """

    def __init__(self, spec: str, loader: LoaderLike, text: str, left: Left | None) -> None:
        self.spec, self.loader, self.text, self.left = spec, loader, text, left
        self.request = OpenRequest(spec, self.load)

    def load(self, progress: Progress) -> Scope:
        """Load the model in the engine's thread, where reading files does not block typing."""
        from llmscope.tui.session.recent_models import remember

        if self.left is None:
            self.left = left_by(self.spec)
        scope = self.loader(progress)
        remember(self.spec)
        return scope

    def stay(self) -> None:
        """Replace the request by one to keep the open model."""
        self.request = OpenRequest(self.spec, None)

    @property
    def stays(self) -> bool:
        """Whether the request is to keep the open model."""
        return self.request.load is None


class PendingSecond:
    """A second model that is being loaded, to compare the open one with.

    Args:
        spec: the spec of the model; empty ends the comparison.
        loader: loads the model; None ends the comparison.

    Attributes:
        request: the request sent to the engine.
    """

    def __init__(self, spec: str, loader: LoaderLike | None) -> None:
        self.spec, self.loader = spec, loader
        self.request = OpenRequest(spec, loader, second=True)

    @property
    def source(self) -> ModelSource | None:
        """How the second model is opened; None without one."""
        return None if self.loader is None else ModelSource.of(self.spec, self.loader)


class ModelSwitch:
    """The state of a switch to another model, or of a comparison with one.

    Attributes:
        pending: the switch whose model is being loaded; None without one.
    """

    def __init__(self) -> None:
        self.pending: PendingSwitch | PendingSecond | None = None

    def compare(self, host: Host, spec: str | None) -> None:
        """Compare the open model with another one; None ends the comparison."""
        if self.busy(host):
            return
        if host.user.other is None or host.state.info is None:
            host.tell("no other model can be opened here", "warning")
            return
        if spec is None and not host.state.two_models:
            host.tell("there is no second model", "warning")
            return
        named = "" if spec is None else spec.strip()
        pending = PendingSecond(named, None if spec is None else host.user.other(named))
        host.walkthrough.stop()
        host.generation.stop(host)
        self.pending = pending
        host.engine.ask(pending.request)
        host.figures.overtaken()
        host.requests.expect()
        if named:
            host.note(f"opening {named} …", host.text_styles.dim)

    def switch(self, host: Host, spec: str) -> None:
        """Switch to another model; the spec of the open model cancels a pending switch."""
        spec, state = spec.strip(), host.state
        there = state.info is not None and spec == host.source.spec
        if host.user.other is None:
            host.tell("no other model can be opened here", "warning")
            return
        if there and self.pending is None:
            host.tell(f"{spec} is open already")
            return
        loader, left = host.user.other(spec), host.user.left.get(spec)
        pending = PendingSwitch(spec, loader, host.editor.text, left)
        if there:
            pending.stay()
        # Pending requests to the old model and their answers are of no use now.
        host.walkthrough.stop()
        host.context.drop()
        host.lenses.drop()
        host.chat.read(host.text, state.info)
        self.pending = pending
        host.generation.stop(host)
        host.engine.ask(pending.request)
        if state.info is None:
            host.placeholder.about(spec)
            host.header.named(spec)
        else:
            host.figures.overtaken()
            host.requests.expect()
            host.note(f"opening {spec} …", host.text_styles.dim)

    def busy(self, host: Host) -> bool:
        """Return whether a switch is pending, so that nothing may be requested; if so, tell so."""
        if self.pending is not None:
            host.tell(f"{self.pending.spec} is being opened: wait for it", "warning")
        return self.pending is not None

    def progress(self, host: Host, event: Loading) -> None:
        """Show the progress of the load."""
        host.placeholder.progress(event)
        if self.pending is None or host.state.info is None:
            return
        host.note(f"opening {self.pending.spec} · {amount_of(event)}", host.text_styles.dim)

    def opened(self, host: Host, event: Opened) -> bool:
        """Take over a model that was loaded.

        Returns:
            Whether to show it; False if a later request superseded it or the open model stays.
        """
        pending = self._finish(host, event.request)
        if pending is None:
            return False
        if isinstance(pending, PendingSecond):
            _show_beside(host, pending, event.info)
            return False
        if pending.stays:
            _go_on(host, event.info)
            return False
        edits = host.state.edits
        left = Left(host.editor.text, UndoHistory.of(host.editor.history), edits=edits)
        host.user.left[host.source.spec] = left
        if host.state.two_models:
            host.tell(f"the comparison ended with {host.source.spec}")
        left_behind = pending.left or Left()
        text = _prompt(host, pending, left_behind)
        if host.user.autosave:
            host.user.autosave.turn(pending.spec, text, *left[:2])
        source = ModelSource.of(pending.spec, pending.loader)
        other = host.chat.plain_b(host)
        host.replace_model(source, text, _state_for(event.info, host.state).against(other))
        host.editor.turn_to(text, left_behind.past.leading_to(left_behind.text, text))
        _offer(host, left_behind, text)
        host.placeholder.about(pending.spec)
        if left_behind.notice:
            host.tell(left_behind.notice, "warning")
        if host.user.autosave:
            host.user.autosave.edited(host)
        return True

    def failed(self, host: Host, event: OpenFailed) -> None:
        """Show why a model could not be opened, and go on with the open one, if any."""
        pending = self._finish(host, event.request)
        if pending is None:
            return
        if event.left is None:
            host.placeholder.about(pending.spec)
            host.header.named(pending.spec)
            host.fail(LoadFailed(event.error, event.hint))
            return
        hint = f" (try: {event.hint})" if event.hint else ""
        again = f". {host.source.spec} was loaded again" if event.again else ""
        host.tell(f"{pending.spec} cannot be opened: {event.error}{hint}{again}", "error")
        _go_on(host, event.left)

    def _finish(self, host: Host, request: OpenRequest) -> PendingSwitch | PendingSecond | None:
        """Return the pending switch if this is its request, and end it; else None."""
        pending = self.pending
        if pending is None or request is not pending.request:
            return None
        self.pending = None
        host.note("", host.text_styles.dim)
        return pending


def amount_of(event: Loading) -> str:
    """Return the stage of a load and its bytes: `reading the weights · 30.0 MB of 93.0 MB`."""
    if not event.done:
        return event.stage
    of = f" of {size(event.total)}" if event.total else ""
    return f"{event.stage} · {size(event.done)}{of}"


def _prompt(host: Host, pending: PendingSwitch, left: Left) -> str:
    """Return the first prompt for the new model: the same text in another model is an experiment.

    It is without the old model's chat template, unless it was typed while the model was loading.
    An empty one makes way for the prompt that the model had last.
    """
    text = host.editor.text
    if text != pending.text:
        return text
    return host.chat.plain(text) if text else left.text


def _offer(host: Host, left: Left, text: str) -> None:
    """Tell what the model had when it was left, which undo brings back."""
    host.undo.offer(host, left.edits)
    count = len(left.edits)
    parts = (
        f"{count} edit{'s' * (count != 1)}" if count else "",
        "prompt" if left.text not in ("", text) else "",
    )
    if notice := " and ".join(filter(None, parts)):
        host.tell(host.user.keymap.filled(f"{{undo}} brings back the {notice} that it had last"))


def _state_for(info: ModelInfo, was: ViewState) -> ViewState:
    """Return the view state for another model: views, settings and texts of `was` stay."""
    fresh = ViewState(view=was.view, attention=was.attention, whole=was.whole, turns=was.turns)
    fresh = replace(fresh, words=was.words, pair=was.pair, prompts=was.prompts)
    return fresh.with_sampler(was.sampler).loaded(info)


def _show_beside(host: Host, pending: PendingSecond, info: ModelInfo) -> None:
    """Show the open model beside the second one that was loaded, or alone again."""
    before = host.state.info
    known = () if before is None else before.notices
    host.source = replace(host.source, versus=pending.source)
    for notice in info.notices:
        if notice not in known:
            host.tell(notice, "warning")
    if pending.loader is None:
        host.tell("there is no second model any more")
    else:
        host.tell(host.user.keymap.filled("{workspace-models} compares the two models"))
    _go_on(host, info)


def _go_on(host: Host, info: ModelInfo) -> None:
    """Go on with the open model; if it had to be loaded again, its taught contexts are lost."""
    state = replace(host.state, info=info)
    if state.adapter is not None and state.adapter not in info.adapters:
        state = replace(state, adapter=info.adapter)
    host.state = state
    host.header.model(info, state.adapter)
    host.figures.repeat()
    host.ask()
    host.present()
