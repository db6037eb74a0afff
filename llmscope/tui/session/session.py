"""What one has built with a model: the prompt, the edits, and every cursor and view.

It is written shortly after each change, so it is at most half a second behind the last key.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct, field
from msgspec.structs import asdict

from llmscope.edits import parse
from llmscope.errors import ScopeError
from llmscope.models.sampler import Sampler
from llmscope.support.text import one_line
from llmscope.tui.session.state_file import State, changing
from llmscope.tui.session.state_folder import flaw
from llmscope.tui.session.stored_prompts import MODELS, TOTAL, part_name
from llmscope.tui.session.undo_history import steps
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.state.generation_tree import Branches
from llmscope.tui.state.layout_state import LayoutState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmscope.models.info import ModelInfo
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

LAST, OTHERS = "session", "session "
"""The part of the state with the session left last, and what the names of the others' begin with;
the model follows."""
MARKS = ("following", "target_pinned", "whole", "muted", "change")
"""The switches of the view state that are stored."""
SAME = (
    "turns",
    "versus_prompt",
    "words",
    "sampler",
    "strip",
    "pair",
    "inside",
    "part",
    "chosen_lenses",
    "listed_features",
)
"""The fields of the view state that are stored under their names."""
WRITTEN = 500_000
"""The most characters of generated text, in all branches together; the oldest are dropped."""
PAST = 50
"""The most changes of the edits that are stored."""
FOREIGN = ("--trust-remote-code", "--allow-pickle")
"""Flags that allow foreign code to run must be given each time, and are never stored."""
NOTHING = "no earlier session is kept here: this is a new one"

Index = Annotated[int, Meta(ge=-(2**31), le=2**31)]
Count = Annotated[int, Meta(ge=0, le=2**31)]


class StoredFocus(Struct, frozen=True, omit_defaults=True):
    """The fields of the cursor's focus that are stored."""

    layer: Index = -1
    head: Index = 0
    position: Index = -1
    target: Index | None = None
    versus: Index | None = None
    neuron: Index | None = None
    step: Index | None = None
    weight: Index | None = None
    cell: tuple[Count, Count] | None = None


class StoredFeature(Struct, frozen=True):
    """A chosen feature; see `llmscope.tui.state.view_state.ChosenFeature`."""

    index: Count
    position: Count | None = None


class StoredTurn(Struct, frozen=True):
    """A part of a turn of a conversation; see `llmscope.models.tokenizer.conversation.TurnSpan`."""

    start: Count
    end: Count
    role: str
    turn: Count


class StoredEdits(Struct, frozen=True, omit_defaults=True):
    """The edits before a change of them, which undo brings back.

    Attributes:
        back: how many steps of the prompt were made since.
        edits: each edit as it is written, and whether it is on.
        chosen: index of the chosen edit.
        muted: whether all were switched off.
    """

    back: Count = 0
    edits: tuple[tuple[str, bool], ...] = ()
    chosen: Count = 0
    muted: bool = False


class StoredSession(Struct, frozen=True, omit_defaults=True):
    """The stored state of a session.

    Attributes:
        model, flags, adapters: how the model was opened; see
            `llmscope.tui.features.copy.repro_command.ModelSource`.
        direction: the file of the direction that was opened with it; empty without one.
        folder: the working folder, since a path may be relative to it.
        special_tokens: whether the tokenizer added its special tokens.
        prompt: the text of the editor.
        cursor: line and column of the text cursor; None: at the end of the prompt.
        pane: the pane that had the focus; empty if the prompt had it.
        kept: workspace, panes, views and modes.
        place: the cursor on the map and related fields.
        marks: which switches of the view state are on, of `MARKS`.
        adapter: the active adapter; None is the base model, or the adapter that was opened.
        edits: each edit as it is written, and whether it is on.
        chosen: index of the chosen edit.
        past: the edits before each of the latest changes of them, the latest last.
        turns: how often each pane was switched to its next view.
        versus_prompt, words, pair: see `llmscope.tui.state.edit_list.EditList`.
        sampler: how the next token is sampled.
        maximized: the pane that had all the room; empty if none had.
        strip, inside, part, chosen_lenses, translator, listed_features, dictionary_place, feature:
            see `llmscope.tui.state.view_state.ViewState`.
        measure: the name of the number of each token; empty for the first one.
        features: the names of the dictionaries in use; None: those that the model has.
        branches: what was generated after each text, the latest last.
        written: the parts of the prompt that a model generated.
        system: the system message of the chat template.
        conversation: the parts of the turns of a prompt that is a conversation.
        prompts: the path of the file of prompts that is listed; empty without one.
    """

    model: str
    flags: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    folder: str = ""
    special_tokens: bool = True
    prompt: str = ""
    cursor: tuple[Count, Count] | None = None
    pane: str = ""
    kept: LayoutState = field(default_factory=LayoutState)
    place: StoredFocus = field(default_factory=StoredFocus)
    marks: frozenset[str] = frozenset(("following",))
    adapter: str | None = None
    edits: tuple[tuple[str, bool], ...] = ()
    chosen: Count = 0
    past: tuple[StoredEdits, ...] = ()
    turns: tuple[tuple[str, Count], ...] = ()
    versus_prompt: str | None = None
    words: tuple[str, str] | None = None
    sampler: Sampler = field(default_factory=Sampler)
    maximized: str = ""
    direction: str = ""
    strip: bool | None = None
    measure: str = ""
    pair: Count = 0
    inside: tuple[Count, Count] | None = None
    part: tuple[str, Index, Index] | None = None
    translator: str | None = None
    chosen_lenses: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None
    listed_features: tuple[str, ...] = ()
    dictionary_place: str = ""
    feature: StoredFeature | None = None
    branches: tuple[Branches, ...] = ()
    written: tuple[tuple[Count, Count], ...] = ()
    system: str | None = None
    conversation: tuple[StoredTurn, ...] = ()
    prompts: str = ""

    @classmethod
    def of(cls, host: Host) -> StoredSession:
        """Return the state to store of the session on screen."""
        from llmscope.tui.state.token_measures import MEASURES

        state, panes, source = host.state, host.grid, host.source
        turns = host.chat.turns
        return cls(
            model=source.spec,
            flags=tuple(word for word in source.flags if word not in FOREIGN),
            adapters=source.adapters,
            folder=_here(),
            special_tokens=host.figures.special_tokens,
            prompt=host.editor.text,
            cursor=host.editor.cursor_location,
            pane="" if host.key_line.in_prompt else panes.current,
            kept=LayoutState.of(panes.workspace, panes.arrangements, state, panes.kept_tabs),
            place=StoredFocus(
                *(getattr(state.focus, name) for name in StoredFocus.__struct_fields__)
            ),
            marks=frozenset(name for name in MARKS if getattr(state, name)),
            edits=_stored_edits(state.edits),
            chosen=state.chosen,
            past=_past(host),
            maximized=panes.maximized,
            measure=MEASURES[state.measure].name if state.measure else "",
            branches=_fitting(host.generation.groups),
            written=host.generation.marks,
            system=host.chat.system,
            conversation=()
            if turns is None
            else tuple(
                StoredTurn(span.start, span.end, span.role, span.turn) for span in turns.spans
            ),
            prompts="" if state.prompts is None else state.prompts.file.path,
            **{name: getattr(state, name) for name in SAME},
            **_of_model(host),
        )

    def check(self) -> None:
        """Raise ScopeError if an edit cannot be parsed, or generated text is not of its tokens."""
        for edits in (self.edits, *(before.edits for before in self.past)):
            for text, _ in edits:
                parse(text)
        if not all(group.holds_together for group in self.branches):
            raise ScopeError("the tokens of a generated text are not those of its branches")

    @property
    def listed_edits(self) -> tuple[ListedEdit, ...]:
        """The edits as the list has them."""
        return _listed_edits(self.edits)

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state as it was left, for a model that is still to be loaded."""
        from llmscope.tui.state.token_measures import MEASURES

        marks: dict[str, Any] = {name: name in self.marks for name in MARKS}
        place = asdict(self.place) | ({"position": -1} if marks["following"] else {})
        names = [measure.name for measure in MEASURES]
        return replace(
            state,
            **marks,
            **{name: getattr(self, name) for name in SAME},
            focus=replace(state.focus, **place),
            versus=self.place.versus,
            edits=self.listed_edits,
            chosen=max(0, min(self.chosen, len(self.edits) - 1)),
            measure=names.index(self.measure) if self.measure in names else 0,
        )

    def loaded(self, state: ViewState) -> ViewState:
        """Return the view state with what the model must be known for, now that it is loaded."""
        from llmscope.tui.state.view_state import ChosenFeature

        info = state.info
        if info is None:
            return state
        if info.direction:  # its view was chosen in place of the one that was left
            state = self.kept.onto(state)
        if self.adapter is None or self.adapter in info.adapters:
            state = replace(state, adapter=self.adapter)
        state = replace(state, chosen_lenses=self.chosen_lenses)
        if self.translator is None or self.translator in state.lenses:
            state = replace(state, translator=self.translator)
        if self.features is not None and state.features != self.features:
            left = [facts for facts in state.dictionaries if facts.given in self.features]
            state = state.with_dictionaries(left)
        names = dict.fromkeys((*state.listed_features, *self.listed_features))
        chosen = self.feature
        return replace(
            state,
            listed_features=tuple(names),
            dictionary_place=self.dictionary_place or state.dictionary_place,
            feature=None if chosen is None else ChosenFeature(chosen.index, chosen.position),
        )

    def lost(self, state: ViewState) -> str:
        """Return what the loaded model lacks of what was left; empty if it is all there."""
        if state.info is None or self.adapter is None or self.adapter in state.info.adapters:
            return ""
        return f"the adapter {one_line(self.adapter)} is not there any more"

    def put_back(self, host: Host) -> None:
        """Restore the text cursor, what was generated, what undo brings back, and the focus."""
        host.editor.move_cursor(host.editor.document.end if self.cursor is None else self.cursor)
        host.generation.restore(self.branches, self.written, host.text)
        self.restore_past(host)
        if self.maximized in host.grid.workspace.panes:
            host.grid.point(self.maximized)
            host.grid.maximize()
        if self.pane in host.grid.workspace.panes:
            host.grid.point(self.pane)
            host.placeholder.screen.set_focus(host.placeholder)  # until there are figures

    def restore_past(self, host: Host) -> None:
        """Restore the edits that undo brings back, once the editor has its history."""
        host.undo.restore_past(
            host,
            [(step.back, _listed_edits(step.edits), step.chosen, step.muted) for step in self.past],
        )

    def described(self) -> str:
        """Return in words what changes the figures beside model and prompt; empty for nothing."""
        count = 0 if "muted" in self.marks else sum(on for _, on in self.edits)
        parts = (
            f"{count} edit{'s' * (count != 1)}" if count else "",
            "prompt B" if self.versus_prompt is not None else "",
            f"adapter {one_line(self.adapter)}" if self.adapter else "",
        )
        return ", ".join(filter(None, parts))


def _stored_edits(edits: Iterable[ListedEdit]) -> tuple[tuple[str, bool], ...]:
    """Return edits as they are stored: each as it is written, and whether it is on."""
    return tuple((str(listed.edit), listed.on) for listed in edits)


def _listed_edits(edits: Iterable[tuple[str, bool]]) -> tuple[ListedEdit, ...]:
    """Return stored edits as the list has them."""
    return tuple(replace(ListedEdit.of(parse(text)), on=on) for text, on in edits)


def _past(host: Host) -> tuple[StoredEdits, ...]:
    """Return the edits before the latest changes, those after the last reset of the screen."""
    depth, _ = steps(host.editor.history)
    stored: list[StoredEdits] = []
    for before in reversed(host.undo.past[-PAST:]):
        if before.screen is not None:
            break
        back = max(0, depth - before.depth)
        stored.append(StoredEdits(back, _stored_edits(before.edits), before.chosen, before.muted))
    return tuple(reversed(stored))


def _of_model(host: Host) -> dict[str, Any]:
    """Return what is known once the model is loaded: before that, what is still to be restored."""
    state, earlier = host.state, host.user.session
    if state.info is not None:
        feature, names = state.feature, host.dictionaries.pending or state.features
        return {
            "adapter": state.adapter,
            "direction": state.direction,
            "translator": state.translator,
            "features": None if _are_usual(names, state.info) else names,
            "dictionary_place": state.dictionary_place,
            "feature": None if feature is None else StoredFeature(feature.index, feature.position),
        }
    if earlier is None or earlier.model != host.source.spec:
        return {}
    names = ("adapter", "direction", "translator", "features", "dictionary_place", "feature")
    return {name: getattr(earlier, name) for name in names}


def _are_usual(names: tuple[str, ...], info: ModelInfo) -> bool:
    """Return whether dictionaries are those that the model has wherever it is opened."""
    loaded = dict.fromkeys(facts.given for facts in info.dictionaries if facts.given)
    return names == info.shipped_features == tuple(loaded)


def _fitting(groups: tuple[Branches, ...]) -> tuple[Branches, ...]:
    """Return the newest of what was generated, as much as may be stored."""
    room = WRITTEN
    for at in reversed(range(len(groups))):
        room -= len(groups[at].base) + sum(len(branch.text) for branch in groups[at].kept)
        if room < 0:
            return groups[at + 1 :]
    return groups


def left_last() -> tuple[StoredSession | None, str]:
    """Return the last session, and an empty notice; or None, and a notice that says why."""
    with changing() as state:
        session = state.get(LAST, StoredSession, StoredSession.check)
    return session, "" if session else flaw() or NOTHING


def session_of(state: State, spec: str) -> StoredSession | None:
    """Return the session of a model; None if none is stored that can be read."""
    session = state.get(LAST, StoredSession, StoredSession.check)
    if session is not None and session.model == spec:
        return session
    return state.get(OTHERS + part_name(spec), StoredSession, StoredSession.check)


def keep_session(state: State, session: StoredSession) -> None:
    """Store a session as the last one; that of another model stays, as one of the others."""
    state.parts.pop(OTHERS + part_name(session.model), None)
    last = state.get(LAST, StoredSession)
    if last is not None and last.model != session.model:
        state.put(OTHERS + part_name(last.model), last)
        others = [name for name in state.parts if name.startswith(OTHERS)]
        while len(others) > MODELS or sum(len(state.parts[name]) for name in others) > TOTAL:
            del state.parts[others.pop(0)]
    state.put(LAST, session)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was deleted
        return ""
