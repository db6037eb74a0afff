"""The state folder, so that nothing typed or chosen is lost: prompts and edits, theme, layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from platformdirs import user_state_path

from llmscope.fsync import sync_file, sync_folders
from llmscope.text import display_text

SCHEMA = 1
"""Schema of the records that name one; see `llmscope.tui.session.undo_history`."""
PASTS = "edits"
HISTORY = "history.jsonl"
"""See `llmscope.tui.session.prompt_history`."""
SESSION = "session.json"
"""See `llmscope.tui.session.session`."""
LOCK = ".lock"
"""Held while a file is read, changed and rewritten."""
PATIENCE = 5.0
"""Seconds to wait for the lock of another process, once; then files are written without it."""
LARGEST = 1 << 26
"""The most bytes of a file; a longer one was not written by llmscope."""
MODELS = 50
"""The most models whose undo history is kept."""


def state_folder() -> Path:
    """Return the folder of the state: LLMSCOPE_STATE, or the platform's own place."""
    chosen = os.environ.get("LLMSCOPE_STATE")
    return Path(chosen) if chosen else user_state_path("llmscope")


def saved_prompt(spec: str) -> str:
    """Return the prompt that was on screen when a model was left; empty if none is stored."""
    return _prompts().get(spec, "")


def save_prompt(spec: str, text: str) -> None:
    """Store a prompt. A folder that cannot be written costs the prompt, never the exit."""
    if _prompts().get(spec, "") == text:
        return
    with locked():
        _write("prompts.json", _text({**_prompts(), spec: text}))


def saved_theme() -> str | None:
    """Return the theme that was chosen last; None if none was."""
    try:
        return (state_folder() / "theme").read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def save_theme(name: str) -> None:
    """Store the theme. If the folder cannot be written, only this is lost."""
    _write("theme", f"{name}\n")


def saved_screen() -> dict[str, Any]:
    """Return the layout as it was left; empty if it cannot be read."""
    return _record("screen.json")


def save_screen(record: dict[str, Any]) -> None:
    """Store the layout. If the folder cannot be written, only this is lost."""
    if record != saved_screen():
        _write("screen.json", _text(record))


def saved_recent() -> list[tuple[str, str]]:
    """Return spec and path of the models that were opened last."""
    found = _record("recent.json").get("models")
    pairs = [one for one in found if isinstance(one, list)] if isinstance(found, list) else []
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and all(map(_is_text, pair))]


def save_recent(models: Sequence[tuple[str, str]]) -> None:
    """Store the recent models. If the folder cannot be written, only this is lost."""
    if list(models) != saved_recent():
        _write("recent.json", _text({"models": models}))


def saved_past(spec: str) -> dict[str, Any]:
    """Return the undo history of a model's prompt; empty if none is stored."""
    found = _record(_past_name(spec))
    return found if found.get("model") == spec else {}


def save_past(spec: str, record: dict[str, Any]) -> None:
    """Store an undo history, and delete those of the models that were left longest ago."""
    _write(_past_name(spec), _text({"model": spec, **record}, ascii=False))
    with suppress(OSError):
        files = sorted((state_folder() / PASTS).iterdir(), key=lambda path: -path.stat().st_mtime)
        for path in files[MODELS:]:
            path.unlink()


def saved_session() -> dict[str, Any]:
    """Return the last session; empty if none is stored."""
    return _record(SESSION)


def save_session(record: dict[str, Any]) -> None:
    """Store the session."""
    _write(SESSION, _text(record, ascii=False))


def set_aside(spec: str) -> str:
    """Move unreadable files of a model's state away, so that they are not overwritten.

    Those are files that hold no record, or one of another version's schema. The new name ends in
    `.bad`, and in a number if that name is taken.

    Returns:
        A notice of one line; empty if all files are readable.
    """
    return move_aside(
        ("prompts.json", "screen.json", HISTORY, SESSION, _past_name(spec)), _readable
    )


def move_aside(names: Sequence[str], readable: Callable[[Path], bool]) -> str:
    """Move away those of the named files that are not `readable`; see `set_aside`."""
    moved = []
    for name in names:
        path = state_folder() / name
        with suppress(OSError):
            if path.is_file() and not readable(path):
                aside = _free(path)
                path.rename(aside)
                moved.append(aside)
    if not moved:
        return ""
    listed = ", ".join(path.name for path in moved)
    return f"what an earlier session left cannot be read: set aside as {listed}"


def _readable(path: Path) -> bool:
    if path.name == HISTORY:  # its schema is in the first line
        with path.open("rb") as file:
            found = _json(file.readline(100))
    else:
        found = _parsed(path)
    if path.parent.name == PASTS or path.name in (HISTORY, SESSION):
        return isinstance(found, dict) and found.get("schema") == SCHEMA
    return isinstance(found, dict)


def _free(path: Path) -> Path:
    """Return an unused name for a file to be moved away."""
    number, aside = 2, path.with_name(f"{path.name}.bad")
    while aside.exists():
        number, aside = number + 1, path.with_name(f"{path.name}.bad{number}")
    return aside


def _past_name(spec: str) -> str:
    return f"{PASTS}/{crc32(spec.encode('utf-8', 'surrogatepass')):08x}.json"


_flaws: list[str] = []


def flaw() -> str:
    """Return the errors that kept state from being saved, in one line, and clear them."""
    found = "; ".join(dict.fromkeys(_flaws))
    _flaws.clear()
    return found


@contextmanager
def locked() -> Iterator[None]:
    """Keep other processes from changing the state folder, so that what is read stays current.

    The system releases the lock when a process ends, however it ends. A folder that cannot be
    locked within `PATIENCE` is written to all the same: see `flaw`.
    """
    global _patience
    lock = None
    try:
        from filelock import FileLock, Timeout

        try:
            state_folder().mkdir(parents=True, exist_ok=True)
            found = FileLock(state_folder() / LOCK, timeout=_patience)
            found.acquire(poll_interval=0.01)
            lock = found
        except Timeout:
            _flaws.append("another process holds the lock on saved state: writing without it")
            _patience = 0.0
    except (OSError, NotImplementedError, ValueError) as error:
        _flaws.append(_unkept(error))
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                lock.release()


_patience = PATIENCE


def _unkept(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return display_text(f"{state_folder()} cannot keep anything: {reason}").replace("\n", " ")[:300]


def _write(name: str, text: str) -> None:
    # Pasted text may contain a lone surrogate.
    write(name, text.encode("utf-8", "surrogatepass"))


def write(name: str, data: bytes) -> None:
    """Replace a file of the state folder, completely or not at all, and sync it to the disk.

    A symbolic link is replaced itself. If the folder cannot be written, only the file is lost:
    see `flaw`.
    """
    import tempfile

    try:
        path = state_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                sync_file(file.fileno())
            os.replace(made, path)
        except BaseException:
            os.unlink(made)
            raise
        sync_folders([path.parent])
    except OSError as error:
        _flaws.append(_unkept(error))


def _text(record: Mapping[str, Any], *, ascii: bool = True) -> str:  # noqa: A002
    import json

    return json.dumps(record, ensure_ascii=ascii)


def _record(name: str) -> dict[str, Any]:
    """Return the record in a file of the state folder; empty if it holds none."""
    found = _parsed(state_folder() / name)
    return found if isinstance(found, dict) else {}


def _parsed(path: Path) -> Any:
    """Return the JSON data of a file; None if it holds none."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        return _json(path.read_bytes())
    except OSError:
        return None


def _json(data: bytes) -> Any:
    """Return the parsed JSON data; None if it is invalid."""
    # Imported late: on the first start there is nothing to read before the first paint.
    import json

    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None


def _is_text(found: object) -> bool:
    return isinstance(found, str)


def _prompts() -> dict[str, str]:
    found = _record("prompts.json")
    return {spec: text for spec, text in found.items() if isinstance(text, str)}
