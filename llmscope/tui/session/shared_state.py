"""A session as text to hand on: a file, or a word of a command line.

It is the session of the state folder as JSON, with the number of its schema. What is read may have
been written by anybody: nothing in it runs, and each field is checked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs, to_builtins

from llmscope.errors import ScopeError
from llmscope.models.sampler import Sampler
from llmscope.support.lines import read_file
from llmscope.support.text import controls, display_text, one_line
from llmscope.tui.session.codec import decode
from llmscope.tui.session.session import StoredSession
from llmscope.tui.state.layout import Arrangement
from llmscope.tui.state.workspaces import BY_NAME
from llmscope.version import __version__

if TYPE_CHECKING:
    from llmscope.tui.host import Host

SCHEMA = 1
MACHINE = ("--device", "--versus-device", "--threads", "--memory", "--spill")
"""Flags that belong to a machine: a state that is handed on does not have them."""
LONGEST_WORD = 100_000
"""The most bytes of a state in a command line; Linux takes 128 KiB of one word."""
HINT = "a file that the palette's `save the state` wrote; llmscope replay opens a snapshot"


def state_of(host: Host) -> StoredSession:
    """Return the session on screen as it can be handed on: without what belongs to a machine."""
    session = StoredSession.of(host)
    words = iter(session.flags)
    flags: list[str] = []
    for word in words:
        if word in MACHINE:
            next(words, None)
        else:
            flags.append(word)
    usual = {name: Arrangement.of(workspace) for name, workspace in BY_NAME.items()}
    arrangements = {
        name: arrangement
        for name, arrangement in session.kept.arrangements.items()
        if arrangement != usual.get(name)
    }
    layout = structs.replace(session.kept, arrangements=arrangements)
    return structs.replace(session, flags=tuple(flags), kept=layout, past=())


def file_text(session: StoredSession) -> str:
    """Return the content of a state file, which people can read."""
    return _escape_controls(json.dumps(_record(session), ensure_ascii=False, indent=2)) + "\n"


def command(session: StoredSession) -> str:
    """Return the command line that opens a session; empty if it would be too long for a shell."""
    import shlex

    # A path in a command line is relative to where it is run.
    record = _record(structs.replace(session, folder=""))
    word = _escape_controls(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
    if len(word.encode()) > LONGEST_WORD:
        return ""
    return shlex.join(("llmscope", "open", word))


def read_state(word: str) -> StoredSession:
    """Return the session in a file, or in JSON itself.

    Raises:
        ScopeError: the file cannot be read, or it holds no state that this version can open.
    """
    if word.lstrip()[:1] == "{":
        return _read(word.encode("utf-8", "surrogatepass"), "the state")
    name, path = display_text(word), Path(word).expanduser()
    try:
        data = read_file(path, "state")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScopeError(f"{name} cannot be read: {display_text(reason)}", "its path") from None
    session = _read(data, name)
    if session.folder and Path(session.folder).is_dir():
        return session
    return structs.replace(session, folder=str(path.resolve().parent))


def _record(session: StoredSession) -> dict[str, Any]:
    fields = to_builtins(session, order="deterministic")
    if session.sampler == Sampler():
        del fields["sampler"]
    return {"state": SCHEMA, "llmscope": __version__, **fields}


def _escape_controls(text: str) -> str:
    """Return JSON without characters that control a terminal, or that are no Unicode."""
    if not controls(text) and text.isascii():
        return text
    return "".join(f"\\u{ord(char):04x}" if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return char != "\n" and ord(char) < 0x10000 and ("\ud800" <= char <= "\udfff" or controls(char))


def _read(data: bytes, name: str) -> StoredSession:
    """Return the session in JSON data.

    Raises:
        ScopeError: it holds no state that this version can open.
    """
    try:
        schema = decode(data, dict[str, Any]).get("state")
    except ValueError:
        schema = None
    if type(schema) is int and schema > SCHEMA:
        raise ScopeError(f"{name} is a state of a newer llmscope", "a newer version of llmscope")
    if type(schema) is not int or schema != SCHEMA:
        raise ScopeError(f"{name} is no state of the screen", HINT)
    try:
        session = decode(data, StoredSession)
        session.check()
    except ValueError as error:
        raise ScopeError(f"{name} is no valid state: {one_line(str(error))}", HINT) from None
    except ScopeError as error:
        raise ScopeError(f"{name} is no valid state: {error.message}", HINT) from None
    return session
