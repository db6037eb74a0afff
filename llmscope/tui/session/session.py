"""The last session: the model, the prompt, the edits and every cursor and view.

It is written with the prompt, so it is at most half a second behind the last letter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.edits import parse
from llmscope.errors import ScopeError
from llmscope.sampler import Sampler
from llmscope.tui.session.state_files import SCHEMA, SESSION, move_aside, saved_session
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.state.layout_state import LayoutState

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

PLACE = ("layer", "head", "position", "target", "versus", "neuron", "step", "weight")
"""The stored fields of the cursor's focus: integers or None."""
FOREIGN = ("--trust-remote-code", "--allow-pickle")
"""Flags that allow foreign code to run must be given each time, and are never stored."""
NOTHING = "no earlier session is kept here: this is a new one"


@dataclass(frozen=True)
class Session:
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
        place: the cursor on the map and related fields, by the names of `PLACE`.
        marks: which switches of the view state are on: following, target_pinned, whole, muted,
            change.
        adapter: the active adapter; None is the base model, or the adapter that was opened.
        edits: each edit as it is written, and whether it is on.
        chosen: index of the chosen edit.
        turns: how often each pane was switched to its next view.
        versus_prompt, words: see `llmscope.tui.state.edit_list.EditList`.
        sampler: how the next token is sampled.
    """

    model: str
    flags: tuple[str, ...]
    adapters: tuple[str, ...]
    folder: str
    special_tokens: bool
    prompt: str
    cursor: tuple[int, int]
    pane: str
    kept: LayoutState
    place: Mapping[str, int | None]
    marks: frozenset[str]
    adapter: str | None
    edits: tuple[tuple[str, bool], ...]
    chosen: int
    turns: tuple[tuple[str, int], ...]
    versus_prompt: str | None
    words: tuple[str, str] | None
    sampler: Sampler

    @classmethod
    def of(cls, host: Host) -> Session:
        """Return the state to store of the session on screen."""
        state, panes, source = host.state, host.grid, host.source
        marks = ("following", "target_pinned", "whole", "muted", "change")
        return cls(
            model=source.spec,
            flags=tuple(word for word in source.flags if word not in FOREIGN),
            adapters=source.adapters,
            folder=_here(),
            special_tokens=host.figures.special_tokens,
            prompt=host.editor.text,
            cursor=host.editor.cursor_location,
            pane="" if host.key_line.in_prompt else panes.current,
            kept=LayoutState.of(panes.workspace, panes.arrangements, state),
            place={name: getattr(state.focus, name) for name in PLACE},
            marks=frozenset(name for name in marks if getattr(state, name)),
            adapter=state.adapter,
            edits=tuple((str(one.edit), one.on) for one in state.edits),
            chosen=state.chosen,
            turns=state.turns,
            versus_prompt=state.versus_prompt,
            words=state.words,
            sampler=state.sampler,
        )

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state as it was left, for a model that is still to be loaded."""
        place = dict(self.place)
        if "following" in self.marks:
            place["position"] = -1
        return replace(
            state,
            focus=replace(state.focus, **place),  # type: ignore[arg-type]
            following="following" in self.marks,
            target_pinned="target_pinned" in self.marks,
            versus=self.place["versus"],
            whole="whole" in self.marks,
            turns=self.turns,
            edits=tuple(replace(ListedEdit.of(parse(text)), on=on) for text, on in self.edits),
            chosen=max(0, min(self.chosen, len(self.edits) - 1)),
            muted="muted" in self.marks,
            change="change" in self.marks,
            versus_prompt=self.versus_prompt,
            words=self.words,
            sampler=self.sampler,
        )

    def loaded(self, state: ViewState) -> ViewState:
        """Return the view state with the adapter that was active, now that the model is loaded."""
        known = state.info is not None and self.adapter in (None, *state.info.adapters)
        return replace(state, adapter=self.adapter) if known else state

    def put_back(self, host: Host) -> None:
        """Restore the text cursor and the focus."""
        host.editor.move_cursor(self.cursor)
        if self.pane in host.grid.workspace.panes:
            host.grid.point(self.pane)
            host.screen.set_focus(host.placeholder)  # until there are figures

    def to_record(self) -> dict[str, Any]:
        """Return the session as JSON data."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        screen, sampler = self.kept.to_record(), asdict(self.sampler)
        marks = sorted(self.marks)
        return {"schema": SCHEMA, **record, "kept": screen, "marks": marks, "sampler": sampler}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Session:
        """Return the session from the JSON data of a file.

        Raises:
            ValueError: the data is no session, or has another schema.
        """
        try:
            if record["schema"] != SCHEMA:
                raise ValueError("another schema")
            words, place = record["words"], record["place"]
            session = cls(
                *(_text(record["model"]), _texts(record["flags"]), _texts(record["adapters"])),
                *(_text(record["folder"]), _is(record["special_tokens"], bool)),
                prompt=_text(record["prompt"]),
                cursor=(_count(record["cursor"][0]), _count(record["cursor"][1])),
                pane=_text(record["pane"]),
                kept=LayoutState.from_record(_is(record["kept"], dict)),
                place={name: _whole(place[name]) for name in PLACE},
                marks=frozenset(_texts(record["marks"])),
                adapter=_maybe_text(record["adapter"]),
                edits=tuple((_text(edit), _is(on, bool)) for edit, on in record["edits"]),
                chosen=_count(record["chosen"]),
                turns=tuple((_text(pane), _count(count)) for pane, count in record["turns"]),
                versus_prompt=_maybe_text(record["versus_prompt"]),
                words=None if words is None else (_text(words[0]), _text(words[1])),
                sampler=Sampler(**_is(record["sampler"], dict)),
            )
            for text, _ in session.edits:
                parse(text)
            if None in (session.place["layer"], session.place["head"], session.place["position"]):
                raise ValueError("a cursor that is nowhere")
        except (KeyError, IndexError, TypeError, ScopeError) as error:
            raise ValueError(str(error)) from None
        return session


def left_last() -> tuple[Session | None, str]:
    """Return the last session, and an empty notice; or None, and a notice that says why."""
    record = saved_session()
    if record:
        try:
            return Session.from_record(record), ""
        except ValueError:
            pass
    # A file that holds no session, or that of another version, is not overwritten.
    return None, move_aside([SESSION], lambda path: False) or NOTHING


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was deleted
        return ""


def _is(found: Any, kind: type) -> Any:
    if type(found) is not kind:
        raise TypeError(f"no {kind.__name__}")
    return found


def _text(found: Any) -> str:
    text: str = _is(found, str)
    return text


def _maybe_text(found: Any) -> str | None:
    return None if found is None else _text(found)


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(map(_text, _is(found, list)))


def _whole(found: Any) -> int | None:
    if found is not None and abs(_is(found, int)) > 2**31:
        raise ValueError("a number that counts nothing")
    number: int | None = found
    return number


def _count(found: Any) -> int:
    number = _whole(_is(found, int))
    if number is None or number < 0:
        raise ValueError("less than nothing")
    return number
