"""`state.json`: all that survives the process, besides the history of prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from llmscope.errors import ScopeError
from llmscope.tui.session.codec import decode, encode, join, split
from llmscope.tui.session.state_folder import content, locked, set_aside, state_folder, write

STATE = "state.json"
SCHEMA = b"1"
OLD = ("theme", "screen.json", "prompts.json", "recent.json", "session.json", "edits")
"""What 0.1 wrote instead; see `llmscope.tui.session.migration`."""

T = TypeVar("T")


@dataclass
class State:
    """The parts of the state, decoded one by one, so that no other is lost with an invalid one.

    Attributes:
        parts: JSON data by name: theme, layout, recent, session, tour (once that was offered and
            answered), and those of each model; see
            `llmscope.tui.session.stored_prompts`.
        invalid: the names of the parts that could not be decoded.
        old: the files of 0.1, and whether their content is in the parts.
    """

    parts: dict[str, bytes] = field(default_factory=dict)
    invalid: set[str] = field(default_factory=set)
    old: dict[Path, bool] = field(default_factory=dict)

    def get(self, name: str, kind: type[T], check: Callable[[T], object] = id) -> T | None:
        """Return a part; None if it is missing or invalid.

        Args:
            check: raises ScopeError for a part that is invalid in spite of its type.
        """
        if name not in self.parts:
            return None
        try:
            part = decode(self.parts[name], kind)
            check(part)
        except (ValueError, ScopeError):
            self.drop(name)
            return None
        return part

    def put(self, name: str, part: object) -> None:
        """Store a part, as the last one."""
        self.parts.pop(name, None)
        self.parts[name] = encode(part)

    def drop(self, name: str) -> None:
        """Remove an invalid part."""
        self.invalid.add(name)
        self.parts.pop(name, None)


def read_state() -> State:
    """Return the stored state, and write nothing; what cannot be read counts as empty."""
    try:
        return _read()
    except (OSError, ValueError):
        return State()


def open_state() -> State:
    """Return the stored state for a start.

    A file that cannot be read is set aside. The files of 0.1 are replaced by `state.json`.
    """
    with suppress(OSError, ValueError):
        state = _read()
        if not state.old:
            return state
    with changing() as state:
        pass
    return state


@contextmanager
def changing() -> Iterator[State]:
    """Yield the state to be changed, and write it, while no other process changes it.

    A file that cannot be read, or holds invalid parts, is set aside and not overwritten. If the
    folder cannot be written, only the change is lost: see `llmscope.tui.session.state_folder.flaw`.
    """
    path, safe = state_folder() / STATE, True
    with locked():
        try:
            state = _read()
        except (OSError, ValueError):
            state, safe = State(), set_aside(path)
        before = None if state.old else dict(state.parts)
        yield state
        if state.invalid and path.exists():
            safe = set_aside(path, copy=True)
        if state.parts != before and safe and write(STATE, join({"schema": SCHEMA} | state.parts)):
            _clear(state.old)


def forget_invalid(state: State) -> None:
    """Drop the parts of the file that `state` found to be invalid; a copy is set aside."""
    if state.invalid:
        with changing() as current:
            for name in state.invalid:
                current.drop(name)


def _read() -> State:
    """Return the state.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no state, or has another schema.
    """
    folder = state_folder()
    try:
        parts = split(content(folder / STATE))
    except FileNotFoundError:
        if not any((folder / name).exists() for name in OLD):
            return State()
        # The parts read the state, and old files are read at one start only.
        from llmscope.tui.session.migration import old_state

        return old_state(folder)
    if parts.get("schema") != SCHEMA:
        raise ValueError("another schema")
    return State(parts)


def _clear(old: dict[Path, bool]) -> None:
    """Remove the files of 0.1, and set those aside that could not be read."""
    for path, readable in old.items():
        if readable:
            with suppress(OSError):
                path.unlink()
        else:
            set_aside(path)
    with suppress(OSError):
        (state_folder() / "edits").rmdir()
