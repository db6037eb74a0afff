"""Switching to another model without leaving the app.

The engine's thread loads the new model. Until it is ready, the old model's prompt and figures
stay on screen, marked as stale; if loading fails, both stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmscope.engine.events import LoadFailed, OpenRequest
from llmscope.tui.features.context.controller import ContextController
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.features.generation.generation import Generating
from llmscope.tui.features.walkthrough.controller import Walking
from llmscope.tui.session.undo_history import UndoHistory
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.widgets.header import size
from llmscope.tui.widgets.placeholder import examples

if TYPE_CHECKING:
    from llmscope.engine.events import Loading, ModelInfo, Opened, OpenFailed
    from llmscope.models.loaded_model import Progress
    from llmscope.scope import Scope
    from llmscope.tui.app import LlmscopeApp


class LoaderLike(Protocol):
    """A callable that loads a model, with the options that reproduce the load."""

    @property
    def options(self) -> Mapping[str, str | int | bool]:
        """Keyword arguments of `llmscope.load` that change what is loaded."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """Specs of the adapters that are loaded onto the model."""

    def __call__(self, progress: Progress | None) -> Scope:
        """Load the model, in the engine's thread."""


class Left(NamedTuple):
    """A model's prompt as it was left, with its undo history."""

    text: str = ""
    past: UndoHistory = UndoHistory()
    notice: str = ""
    """A warning about damaged files of an earlier session; empty if they are fine."""


def left_by(spec: str) -> Left:
    """Read the prompt and undo history that an earlier session left for a model."""
    from llmscope.tui.session.state_files import saved_past, saved_prompt, set_aside

    notice, text = set_aside(spec), saved_prompt(spec)
    return Left(text, UndoHistory.from_record(saved_past(spec), text), notice)


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


def switch(desk: LlmscopeApp, spec: str) -> None:
    """Switch to another model; the spec of the open model cancels a pending switch."""
    spec, scene = spec.strip(), desk.scene
    there = scene.info is not None and spec == desk.source.spec
    if desk.own.other is None:
        desk.tell("no other model can be opened here", "warning")
        return
    if there and desk.opening is None:
        desk.tell(f"{spec} is open already")
        return
    opening = PendingSwitch(spec, desk.own.other(spec), desk.editor.text, desk.own.left.get(spec))
    if there:
        opening.stay()
    # Pending requests to the old model and their answers are of no use now.
    desk.walking.stop()
    desk.lessons = ContextController()
    desk.chat.read(desk.text, scene.info)
    desk.opening = opening
    desk.generating.stop(desk)
    desk.engine.ask(opening.request)
    if scene.info is None:
        desk.card.about(spec)
        desk.title_line.named(spec)
    else:
        desk.ledger.overtaken()
        desk.expect()
        desk.note(f"opening {spec} …", desk.inks.dim)


def busy(desk: LlmscopeApp) -> bool:
    """Return whether a switch is pending, so that no requests may be sent; if so, tell the user."""
    if desk.opening is not None:
        desk.tell(f"{desk.opening.spec} is being opened: wait for it", "warning")
    return desk.opening is not None


def progress(desk: LlmscopeApp, event: Loading) -> None:
    """Show the progress of the load."""
    desk.card.progress(event)
    if desk.opening is None or desk.scene.info is None:
        return
    done = size(event.done) if event.done else ""
    of = f" of {size(event.total)}" if event.done and event.total else ""
    parts = (f"opening {desk.opening.spec}", event.stage, done + of)
    desk.note(" · ".join(filter(None, parts)), desk.inks.dim)


def opened(desk: LlmscopeApp, event: Opened) -> bool:
    """Take over a model that was loaded.

    Returns:
        Whether to show it; False if a later request superseded it or the open model stays.
    """
    opening = desk.opening
    if opening is None or event.request is not opening.request:
        return False
    desk.opening = None
    desk.note("", desk.inks.dim)
    if opening.stays:
        _go_on(desk, event.info)
        return False
    left = Left(desk.editor.text, UndoHistory.of(desk.editor.history))
    desk.own.left[desk.source.spec] = left
    kept = opening.left or Left()
    text = _prompt(desk, opening, kept)
    if desk.own.autosave:
        desk.own.autosave.turn(opening.spec, text, *left[:2])
    _reset(desk, event.info)
    desk.source = ModelSource(opening.spec, opening.loader.options, opening.loader.adapters)
    desk.text = text
    desk.editor.turn_to(text, kept.past.leading_to(kept.text, text))
    desk.card.about(opening.spec)
    if kept.notice:
        desk.tell(kept.notice, "warning")
    if desk.own.autosave:
        desk.own.autosave.edited(desk)
    return True


def failed(desk: LlmscopeApp, event: OpenFailed) -> None:
    """Show why a model could not be opened, and go on with the open one, if any."""
    opening = desk.opening
    if opening is None or event.request is not opening.request:
        return
    desk.opening = None
    desk.note("", desk.inks.dim)
    if event.left is None:
        desk.card.about(opening.spec)
        desk.title_line.named(opening.spec)
        desk.fail(LoadFailed(event.error, event.hint))
        return
    hint = f" (try: {event.hint})" if event.hint else ""
    again = f". {desk.source.spec} was loaded again" if event.again else ""
    desk.tell(f"{opening.spec} cannot be opened: {event.error}{hint}{again}", "error")
    _go_on(desk, event.left)


def _prompt(desk: LlmscopeApp, opening: PendingSwitch, kept: Left) -> str:
    """Return the first prompt for the new model.

    Use the text typed while the model was loading; otherwise the prompt that the model had last;
    otherwise the present prompt, without the old model's chat template, and with an example of
    the new model in place of one that suits only the old model.
    """
    text = desk.editor.text
    if text != opening.text:
        return text
    if kept.text:
        return kept.text
    ours, theirs = examples(desk.source.spec), examples(opening.spec)
    if text in ours and text not in theirs:
        return theirs[0]
    return desk.chat.plain(text)


def _reset(desk: LlmscopeApp, info: ModelInfo) -> None:
    """Discard all state that belongs to a model: cursor, edits, target, prompt B, and figures."""
    was = desk.scene
    fresh = ViewState(view=was.view, attention=was.attention, whole=was.whole, turns=was.turns)
    desk.scene = fresh.drawing(was.sampler).loaded(info)
    desk.chat, desk.lessons, desk.walking = desk.chat.anew(), ContextController(), Walking()
    desk.generating = Generating()
    desk.comparing.beside = None
    desk.cost = None
    desk.ledger.forget()
    desk.rest(late=False)


def _go_on(desk: LlmscopeApp, info: ModelInfo) -> None:
    """Go on with the open model; if it had to be loaded again, its taught contexts are lost."""
    scene = replace(desk.scene, info=info)
    if scene.adapter is not None and scene.adapter not in info.adapters:
        scene = replace(scene, adapter=info.adapter)
    desk.scene = scene
    desk.title_line.model(info, scene.adapter)
    desk.ledger.repeat()
    desk.ask()
    desk.present()
