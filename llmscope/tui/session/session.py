"""The last session: the model, the prompt, the edits and every cursor and view.

It is written with the prompt, so it is at most half a second behind the last letter.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict

from llmscope.edits import parse
from llmscope.sampler import Sampler
from llmscope.tui.session.state_file import changing
from llmscope.tui.session.state_folder import flaw
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.state.layout_state import LayoutState

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

MARKS = ("following", "target_pinned", "whole", "muted", "change")
"""The switches of the view state that are stored."""
SAME = ("turns", "versus_prompt", "words", "sampler")
"""The fields of the view state that are stored under their names."""
FOREIGN = ("--trust-remote-code", "--allow-pickle")
"""Flags that allow foreign code to run must be given each time, and are never stored."""
NOTHING = "no earlier session is kept here: this is a new one"

Index = Annotated[int, Meta(ge=-(2**31), le=2**31)]
Count = Annotated[int, Meta(ge=0, le=2**31)]


class StoredFocus(Struct, frozen=True):
    """The fields of the cursor's focus that are stored."""

    layer: Index
    head: Index
    position: Index
    target: Index | None
    versus: Index | None
    neuron: Index | None
    step: Index | None
    weight: Index | None


class Session(Struct, frozen=True):
    """The stored state of a session.

    Attributes:
        model, flags, adapters: how the model was opened; see
            `llmscope.tui.features.copy.repro_command.ModelSource`.
        folder: the working folder, since a path may be relative to it.
        special_tokens: whether the tokenizer added its special tokens.
        prompt: the text of the editor.
        cursor: line and column of the text cursor.
        pane: the pane that had the focus; empty if the prompt had it.
        kept: workspace, panes, views and modes.
        place: the cursor on the map and related fields.
        marks: which switches of the view state are on, of `MARKS`.
        adapter: the active adapter; None is the base model, or the adapter that was opened.
        edits: each edit as it is written, and whether it is on.
        chosen: index of the chosen edit.
        turns: how often each pane was switched to its next view.
        versus_prompt, words: see `llmscope.tui.state.edit_list.EditList`.
        sampler: how the next token is sampled.
        maximized: the pane that had all the room; empty if none had.
    """

    model: str
    flags: tuple[str, ...]
    adapters: tuple[str, ...]
    folder: str
    special_tokens: bool
    prompt: str
    cursor: tuple[Count, Count]
    pane: str
    kept: LayoutState
    place: StoredFocus
    marks: frozenset[str]
    adapter: str | None
    edits: tuple[tuple[str, bool], ...]
    chosen: Count
    turns: tuple[tuple[str, Count], ...]
    versus_prompt: str | None
    words: tuple[str, str] | None
    sampler: Sampler
    maximized: str = ""

    @classmethod
    def of(cls, host: Host) -> Session:
        """Return the state to store of the session on screen."""
        state, panes, source = host.state, host.grid, host.source
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
            adapter=state.adapter,
            edits=tuple((str(one.edit), one.on) for one in state.edits),
            chosen=state.chosen,
            maximized=panes.maximized,
            **{name: getattr(state, name) for name in SAME},
        )

    def check(self) -> None:
        """Raise ScopeError if an edit cannot be parsed."""
        for text, _ in self.edits:
            parse(text)

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state as it was left, for a model that is still to be loaded."""
        marks: dict[str, Any] = {name: name in self.marks for name in MARKS}
        place = asdict(self.place) | ({"position": -1} if marks["following"] else {})
        return replace(
            state,
            **marks,
            **{name: getattr(self, name) for name in SAME},
            focus=replace(state.focus, **place),
            versus=self.place.versus,
            edits=tuple(replace(ListedEdit.of(parse(text)), on=on) for text, on in self.edits),
            chosen=max(0, min(self.chosen, len(self.edits) - 1)),
        )

    def loaded(self, state: ViewState) -> ViewState:
        """Return the view state with the adapter that was active, now that the model is loaded."""
        known = state.info is not None and self.adapter in (None, *state.info.adapters)
        return replace(state, adapter=self.adapter) if known else state

    def put_back(self, host: Host) -> None:
        """Restore the text cursor and the focus."""
        host.editor.move_cursor(self.cursor)
        if self.maximized in host.grid.workspace.panes:
            host.grid.point(self.maximized)
            host.grid.maximize()
        if self.pane in host.grid.workspace.panes:
            host.grid.point(self.pane)
            host.placeholder.screen.set_focus(host.placeholder)  # until there are figures


def left_last() -> tuple[Session | None, str]:
    """Return the last session, and an empty notice; or None, and a notice that says why."""
    with changing() as state:
        session = state.get("session", Session, Session.check)
    return session, "" if session else flaw() or NOTHING


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was deleted
        return ""
