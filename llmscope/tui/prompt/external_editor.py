"""The prompt in the user's own editor: $VISUAL, or $EDITOR."""

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

from llmscope.support.text import display_text
from llmscope.tui.prompt.editor import too_long

if TYPE_CHECKING:
    from llmscope.tui.host import Host

SIGNALS = ("SIGINT", "SIGQUIT", "SIGTSTP", "SIGCONT")
"""Signals of the terminal's keys, sent to the editor and to this program with it."""


class UnusableError(Exception):
    """Raised if the editor left no usable text; the message says why, in one line."""


def edit(host: Host) -> None:
    """Open the active prompt in the external editor; one undo takes the change back."""
    if not host.may("visual"):
        return
    editor = host.prompts.active
    text = editor.text
    command = editor_of(os.environ)
    if not command:
        host.tell("no editor: set VISUAL or EDITOR to the command that opens yours", "warning")
        return
    if host.user.autosave:
        host.user.autosave.save(host)  # the editor may stay open for long
    try:
        written = edit_text(host, command, text)
    except SuspendNotSupported:
        host.tell("the screen cannot make room for an editor here", "warning")
    except UnusableError as error:
        host.tell(f"{error}: the prompt is as it was", "warning")
    else:
        if written == text:
            host.tell("nothing was changed; if the editor returns at once, set its option to wait")
            return
        editor.history.checkpoint()
        editor.replace_all(written)
        host.screen.set_focus(editor)


def editor_of(environ: Mapping[str, str]) -> list[str]:
    """Return the editor's command as words; empty if no editor is set."""
    command = environ.get("VISUAL", "").strip() or environ.get("EDITOR", "").strip()
    try:
        return shlex.split(command)
    except ValueError:  # an unclosed quote
        return command.split()


def edit_text(host: Host, command: list[str], text: str) -> str:
    """Return a text as changed in the external editor.

    The text is passed in a private file, which is deleted afterwards, unless a change in it could
    not be accepted.

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
        failure = _run(host, [*command, name])
        try:
            after = path.read_bytes()
        except OSError as error:
            raise UnusableError(failure or f"the file is gone ({error.strerror})") from None
        keep = after != before
        left = f"; what was written is in {name}" if keep else ""
        if failure:
            raise UnusableError(failure + left)
        try:
            result = text if not keep else _read_edited_text(after, text)
        except UnicodeDecodeError as error:
            raise UnusableError(f"not UTF-8 (byte {error.start}){left}") from None
        if keep and (reason := too_long(result)):
            raise UnusableError(f"{reason}{left}")
        keep = False
        return result
    except OSError as error:
        raise UnusableError(f"no file for the editor: {error.strerror}") from None
    finally:
        if not keep:
            with suppress(OSError):
                path.unlink()


def _read_edited_text(data: bytes, before: str) -> str:
    """Return the text of a file. Editors end the last line, which a prompt need not do."""
    text = data.decode("utf-8-sig")
    if text.endswith("\n") and not before.endswith("\n"):
        return text.removesuffix("\n").removesuffix("\r")
    return text


def _run(host: Host, command: list[str]) -> str:
    """Lend the terminal to the editor until it ends; return why it failed, empty if it did not."""
    called = display_text(Path(command[0]).name)  # a whole path would leave no room for the reason
    with host.suspend(), _leave_signals_to_editor():
        # Descriptors 1 and 2 are redirected while the screen is up; this is the terminal itself.
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
def _leave_signals_to_editor() -> Iterator[None]:
    """Leave the signals of the terminal's keys (interrupt, stop, continue) to the editor.

    Handlers set in Python are reset in a new program. SIGTSTP and SIGCONT get no handler, so that
    this program is stopped together with the editor.
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
