"""Another model in the place of the one on screen, without leaving.

The engine's thread loads it. Until it is there, the old picture stays, marked as old, and the old
model's prompt is on the screen; where it cannot be opened, both stay.
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
    from llmscope.tui.desk import Desk


class LoaderLike(Protocol):
    """What loads a model, and the words that say the same."""

    @property
    def options(self) -> Mapping[str, str | int | bool]:
        """Keywords of `llmscope.load` that change what is loaded."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """Specs of the adapters that are put on it."""

    def __call__(self, progress: Progress | None) -> Scope:
        """Load it, in the engine's thread."""


class Left(NamedTuple):
    """A model's prompt as it was left, and what led to it."""

    text: str = ""
    past: UndoHistory = UndoHistory()
    notice: str = ""
    """What is wrong with what an earlier session left."""


def left_by(spec: str) -> Left:
    """What an earlier session left of a model's prompt. It reads files."""
    from llmscope.tui.session.state_files import saved_past, saved_prompt, set_aside

    notice, text = set_aside(spec), saved_prompt(spec)
    return Left(text, UndoHistory.from_record(saved_past(spec), text), notice)


class PendingSwitch:
    """A model on its way to the screen.

    Args:
        spec: its name.
        loader: loads it.
        text: what the editor held when it was chosen.
        left: how its prompt was left in this session; None: in an earlier one, if ever.

    Attributes:
        request: what the engine was asked.
    """

    def __init__(self, spec: str, loader: LoaderLike, text: str, left: Left | None) -> None:
        self.spec, self.loader, self.text, self.left = spec, loader, text, left
        self.request = OpenRequest(spec, self.load)

    def load(self, progress: Progress) -> Scope:
        """Load it, in the engine's thread; what is read of files there holds up no letter."""
        from llmscope.tui.session.recent_models import remember

        if self.left is None:
            self.left = left_by(self.spec)
        scope = self.loader(progress)
        remember(self.spec)
        return scope

    def stay(self) -> None:
        """The one that is open is wanted after all."""
        self.request = OpenRequest(self.spec, None)

    @property
    def stays(self) -> bool:
        """Whether it is the one that was open."""
        return self.request.load is None


def switch(desk: Desk, spec: str) -> None:
    """Ask for another model; for the one that is open, to stay with it."""
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
    # What the old model was asked is of no use now, and neither is what it will say.
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


def busy(desk: Desk) -> bool:
    """Whether another model is on its way, so that this one is asked nothing more; it says so."""
    if desk.opening is not None:
        desk.tell(f"{desk.opening.spec} is being opened: wait for it", "warning")
    return desk.opening is not None


def progress(desk: Desk, event: Loading) -> None:
    """How far it is."""
    desk.card.progress(event)
    if desk.opening is None or desk.scene.info is None:
        return
    done = size(event.done) if event.done else ""
    of = f" of {size(event.total)}" if event.done and event.total else ""
    parts = (f"opening {desk.opening.spec}", event.stage, done + of)
    desk.note(" · ".join(filter(None, parts)), desk.inks.dim)


def opened(desk: Desk, event: Opened) -> bool:
    """It is there. Whether it is to be shown: it may be another one that was asked for last."""
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


def failed(desk: Desk, event: OpenFailed) -> None:
    """It cannot be opened: say why, and go on with what there is."""
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


def _prompt(desk: Desk, opening: PendingSwitch, kept: Left) -> str:
    """What the new model is shown first.

    Who typed while it was loading meant it. Else it is what was on screen with this model last;
    without that, the prompt stays, but for what the old model alone could have been meant with: the
    frame of its chat template, and an example that suits it.
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


def _reset(desk: Desk, info: ModelInfo) -> None:
    """Let go of all that belongs to a model: cursor, edits, target, prompt B, and its answers."""
    was = desk.scene
    fresh = ViewState(view=was.view, attention=was.attention, whole=was.whole, turns=was.turns)
    desk.scene = fresh.drawing(was.sampler).loaded(info)
    desk.chat, desk.lessons, desk.walking = desk.chat.anew(), ContextController(), Walking()
    desk.generating = Generating()
    desk.comparing.beside = None
    desk.cost = None
    desk.ledger.forget()
    desk.rest(late=False)


def _go_on(desk: Desk, info: ModelInfo) -> None:
    """The model stays; one that had to be loaded again has lost what it was taught."""
    scene = replace(desk.scene, info=info)
    if scene.adapter is not None and scene.adapter not in info.adapters:
        scene = replace(scene, adapter=info.adapter)
    desk.scene = scene
    desk.title_line.model(info, scene.adapter)
    desk.ledger.repeat()
    desk.ask()
    desk.present()
