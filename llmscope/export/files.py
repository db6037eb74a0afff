"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.text import display_text


def write(path: Path, data: str | bytes, *, force: bool = False) -> Path:
    """Write a file, through a temporary one beside it that takes its place when it is complete.

    A pipe or a device is written to as it is. A symbolic link keeps pointing where it does.

    Raises:
        ScopeError: the file exists and `force` is not set, or it cannot be written.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    shown = display_text(str(path), whitespace=False).replace("\n", " ")
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except OSError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise ScopeError(f"{shown} is a folder", "--out with a file name")
    try:
        if mode is not None and not stat.S_ISREG(mode):
            target.write_bytes(content)
            return path
        if mode is not None and not force:
            raise ScopeError(f"{shown} exists", "--force to replace it")
        _replace(target, content, mode)
    except OSError as error:
        reason = display_text(error.strerror or str(error)).replace("\n", " ")
        raise ScopeError(f"cannot write {shown}: {reason}", "another --out") from error
    return path


def _replace(target: Path, content: bytes, mode: int | None) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        # A temporary file is private; the finished one is as open as any other new file here.
        os.chmod(name, stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
