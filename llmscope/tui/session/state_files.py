"""What is kept so that nothing typed or chosen is lost: prompts and their edits, theme, screen."""

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
"""Of the records that say theirs; see `llmscope.tui.session.undo_history`."""
PASTS = "edits"
HISTORY = "history.jsonl"
"""See `llmscope.tui.session.prompt_history`."""
SESSION = "session.json"
"""See `llmscope.tui.session.session`."""
LOCK = ".lock"
"""Held while a file is read, changed and written again."""
PATIENCE = 5.0
"""Seconds that a screen waits for another one's lock, once; then it writes without."""
LARGEST = 1 << 26
"""Bytes of a file at most; a longer one is none of ours."""
MODELS = 50
"""Of so many models are the edits kept."""


def state_folder() -> Path:
    """Where state is kept: LLMSCOPE_STATE, or the platform's own place."""
    chosen = os.environ.get("LLMSCOPE_STATE")
    return Path(chosen) if chosen else user_state_path("llmscope")


def saved_prompt(spec: str) -> str:
    """The prompt that was on screen when this model was left; empty if there is none."""
    return _prompts().get(spec, "")


def save_prompt(spec: str, text: str) -> None:
    """Keep the prompt. A folder that cannot be written costs the prompt, never the exit."""
    if _prompts().get(spec, "") == text:
        return
    with locked():
        _write("prompts.json", _text({**_prompts(), spec: text}))


def saved_theme() -> str | None:
    """The theme that was chosen last; None if none was."""
    try:
        return (state_folder() / "theme").read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def save_theme(name: str) -> None:
    """Remember a theme. A folder that cannot be written costs that, no more."""
    _write("theme", f"{name}\n")


def saved_screen() -> dict[str, Any]:
    """Return how the screen was left; empty if that cannot be read."""
    return _record("screen.json")


def save_screen(record: dict[str, Any]) -> None:
    """Remember how the screen is left. A folder that cannot be written costs that, no more."""
    if record != saved_screen():
        _write("screen.json", _text(record))


def saved_recent() -> list[tuple[str, str]]:
    """Return spec and place of the models that were opened last."""
    found = _record("recent.json").get("models")
    pairs = [one for one in found if isinstance(one, list)] if isinstance(found, list) else []
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and all(map(_is_text, pair))]


def save_recent(models: Sequence[tuple[str, str]]) -> None:
    """Remember them. A folder that cannot be written costs that, no more."""
    if list(models) != saved_recent():
        _write("recent.json", _text({"models": models}))


def saved_past(spec: str) -> dict[str, Any]:
    """Return the edits that led to a model's prompt; empty if there are none."""
    found = _record(_past_name(spec))
    return found if found.get("model") == spec else {}


def save_past(spec: str, record: dict[str, Any]) -> None:
    """Remember them, and forget those of the models that were left longest ago."""
    _write(_past_name(spec), _text({"model": spec, **record}, ascii=False))
    with suppress(OSError):
        files = sorted((state_folder() / PASTS).iterdir(), key=lambda path: -path.stat().st_mtime)
        for path in files[MODELS:]:
            path.unlink()


def saved_session() -> dict[str, Any]:
    """Return the session that was left last; empty if there is none."""
    return _record(SESSION)


def save_session(record: dict[str, Any]) -> None:
    """Remember it."""
    _write(SESSION, _text(record, ascii=False))


def set_aside(spec: str) -> str:
    """Move away what cannot be read of a model's state, so that nobody writes over it.

    That is a file that is no record, or of another version's schema. The new name ends in `.bad`
    and, if there is one already, a number.

    Returns:
        A notice of one line; empty if all is well.
    """
    return move_aside(
        ("prompts.json", "screen.json", HISTORY, SESSION, _past_name(spec)), _readable
    )


def move_aside(names: Sequence[str], readable: Callable[[Path], bool]) -> str:
    """Move away those files of the state folder that are not readable; see `set_aside`."""
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
    if path.name == HISTORY:  # which says it in its first line
        with path.open("rb") as file:
            found = _json(file.readline(100))
    else:
        found = _parsed(path)
    if path.parent.name == PASTS or path.name in (HISTORY, SESSION):
        return isinstance(found, dict) and found.get("schema") == SCHEMA
    return isinstance(found, dict)


def _free(path: Path) -> Path:
    """A name beside it that no file has."""
    number, aside = 2, path.with_name(f"{path.name}.bad")
    while aside.exists():
        number, aside = number + 1, path.with_name(f"{path.name}.bad{number}")
    return aside


def _past_name(spec: str) -> str:
    return f"{PASTS}/{crc32(spec.encode('utf-8', 'surrogatepass')):08x}.json"


_flaws: list[str] = []


def flaw() -> str:
    """Return what keeps the state from being saved as it should, in one line, and forget it."""
    found = "; ".join(dict.fromkeys(_flaws))
    _flaws.clear()
    return found


@contextmanager
def locked() -> Iterator[None]:
    """Keep other processes from changing the state folder; what is read within stays true.

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
            _flaws.append("another process holds the lock of what is kept: it is written without")
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
    # What a person pasted may be half a character.
    write(name, text.encode("utf-8", "surrogatepass"))


def write(name: str, data: bytes) -> None:
    """Replace a file of the state folder, whole or not at all, and put it on the disk.

    A symbolic link is replaced itself. A folder that cannot be written costs the file, no more:
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
    """What a file of the state folder holds; empty if that is no record."""
    found = _parsed(state_folder() / name)
    return found if isinstance(found, dict) else {}


def _parsed(path: Path) -> Any:
    """The JSON of a file; None if it holds none."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        return _json(path.read_bytes())
    except OSError:
        return None


def _json(data: bytes) -> Any:
    """The JSON that it is; None if it is none."""
    # Who is here for the first time has nothing to read, and waits for the first picture.
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
