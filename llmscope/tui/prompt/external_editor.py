"""The prompt in a person's own editor: $VISUAL, or $EDITOR."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from llmscope.text import display_text
from llmscope.tui.prompt.editor import too_long

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

SIGNALS = ("SIGINT", "SIGQUIT", "SIGTSTP", "SIGCONT")
"""What the keys of a terminal send to the editor, and to this program with it."""


class UnusableError(Exception):
    """There is no text to be had; the message says why, in one line."""


def edit(desk: Desk) -> None:
    """Open the prompt that has the keys, or had them, in the editor; undo takes it back as one."""
    if not desk.may("visual"):
        return
    editor = desk.prompts.active
    text = editor.text
    command = editor_of(os.environ)
    if not command:
        desk.tell("no editor: set VISUAL or EDITOR to the command that opens yours", "warning")
        return
    if desk.own.autosave:
        desk.own.autosave.save(desk)  # nobody knows how long this takes
    try:
        written = edited(desk, command, text)
    except SuspendNotSupported:
        desk.tell("the screen cannot make room for an editor here", "warning")
    except UnusableError as error:
        desk.tell(f"{error}: the prompt is as it was", "warning")
    else:
        if written == text:
            desk.tell("the editor has changed nothing; of one that returns at once, ask it to wait")
            return
        editor.history.checkpoint()
        editor.replace_all(written)
        desk.screen.set_focus(editor)


def editor_of(environ: Mapping[str, str]) -> list[str]:
    """The words of the editor's command; none if there is none."""
    command = environ.get("VISUAL", "").strip() or environ.get("EDITOR", "").strip()
    try:
        return shlex.split(command)
    except ValueError:  # a quote that nobody closed
        return command.split()


def edited(desk: Desk, command: list[str], text: str) -> str:
    """A text as the editor leaves it.

    It stands in a file of the person's own, which goes away again, unless something in it could
    not be taken.

    Raises:
        UnusableError: the editor failed, or its file is no text.
        SuspendNotSupported: there is no terminal to lend.
    """
    before = text.encode("utf-8", "surrogatepass")
    try:
        handle, name = tempfile.mkstemp(prefix="llmscope-", suffix=".txt")  # 0600
    except OSError as error:
        raise UnusableError(f"no file for the editor: {error.strerror}") from None
    path, keep = Path(name), False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(before)
        failure = _run(desk, [*command, name])
        try:
            after = path.read_bytes()
        except OSError as error:
            raise UnusableError(failure or f"the file is gone ({error.strerror})") from None
        keep = after != before
        left = f"; what was written is in {name}" if keep else ""
        if failure:
            raise UnusableError(failure + left)
        try:
            taken = text if not keep else _taken(after, text)
        except UnicodeDecodeError as error:
            raise UnusableError(f"not UTF-8 (byte {error.start}){left}") from None
        if keep and (reason := too_long(taken)):
            raise UnusableError(f"{reason}{left}")
        keep = False
        return taken
    except OSError as error:
        raise UnusableError(f"no file for the editor: {error.strerror}") from None
    finally:
        if not keep:
            with suppress(OSError):
                path.unlink()


def _taken(data: bytes, before: str) -> str:
    """The text of a file. Editors end the last line, which a prompt need not do."""
    text = data.decode("utf-8-sig")
    if text.endswith("\n") and not before.endswith("\n"):
        return text.removesuffix("\n").removesuffix("\r")
    return text


def _run(desk: Desk, command: list[str]) -> str:
    """Lend the terminal to the editor, and wait for its end; why it failed, if it did."""
    called = display_text(Path(command[0]).name)  # a whole path would leave no room to say why
    with desk.suspend(), _left_to_the_editor():
        # Descriptors 1 and 2 are kept from the screen; the terminal itself is here.
        screen = sys.__stdout__
        try:
            code = subprocess.run(command, stdout=screen, stderr=screen, check=False).returncode  # noqa: S603
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            return f"{called} cannot be started ({display_text(str(reason))})"
    if code < 0:
        return f"{called} was ended by signal {-code}"
    return f"{called} ended with status {code}" if code else ""


@contextmanager
def _left_to_the_editor() -> Iterator[None]:
    """What the terminal's keys send is the editor's: to interrupt it, to stop it, to go on.

    A handler of Python's is undone in a new program; to be stopped with the editor, none may be.
    """
    before = {}
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None:
            before[number] = signal.getsignal(number)
            passed: signal.Handlers = signal.SIG_DFL
            signal.signal(number, passed if name in SIGNALS[2:] else lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
