"""The destination and format of a snapshot, checked before a model loads."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from llmscope.cli.options.shared import usage
from llmscope.cli.output.streams import put
from llmscope.errors import ScopeError
from llmscope.export import (
    PAPER_FORMATS,
    FilePair,
    format_of,
    formats,
    sidecar_path,
    write,
    write_all,
)
from llmscope.text import display_text


@dataclass(frozen=True)
class Output:
    """A destination. `path` None: stdout."""

    path: Path | None
    format: str
    force: bool

    @property
    def on_terminal(self) -> bool:
        """Whether the output goes straight to a terminal."""
        return self.path is None and sys.stdout.isatty()

    def put(self, data: str | bytes | FilePair) -> None:
        """Write `data` to the destination.

        Raises:
            ScopeError: the destination cannot be written.
        """
        if isinstance(data, FilePair):
            assert self.path is not None
            write_all(data.at(self.path), force=self.force)
        elif self.path is not None:
            write(self.path, data, force=self.force)
        else:
            put(data)


def choose_output(
    out: str | None,
    format: str | None,  # noqa: A002
    default: str,
    force: bool,
    *,
    paper: bool = False,
) -> Output:
    """Return the output that the options ask for.

    Args:
        out: a path, or None or `-` for stdout.
        format: a format; None takes it from the path's suffix, or for stdout the default.
        default: the default format.
        force: whether to replace an existing file.
        paper: whether the picture is for paper, which has its own formats.

    Raises:
        BadParameter: the format does not exist.
        ScopeError: the destination cannot be written.
    """
    known = formats()
    among = PAPER_FORMATS if paper else tuple(known)
    usage(format is None or format in among, f"one of {', '.join(among)}", "--format")
    path = checked_path(out, force)
    chosen = format or (format_of(path, among) if path else default)
    if not paper and known[chosen].sidecar:
        usage(path is not None, f"two files: it takes --out FILE.{chosen}", "--format")
        _check_pair(path or Path(), force)
    output = Output(path, chosen, force)
    if output.on_terminal and (paper or known[chosen].binary):
        raise ScopeError(f"{chosen} is nothing for a terminal", f"--out FILE.{chosen}")
    return output


def checked_path(out: str | None, force: bool) -> Path | None:
    """Return the file that `--out` names; None for stdout.

    Raises:
        ScopeError: the file cannot be written, or exists without `force`.
    """
    if out in (None, "-"):
        return None
    path = Path(out or "")
    _check(path, force)
    return path


def _check_pair(path: Path, force: bool) -> None:
    """Raise a ScopeError if the file or its sidecar file cannot be written."""
    for file in (path, sidecar_path(path)):
        if file.exists() and not file.is_file():
            raise ScopeError(f"{display_text(str(file))} is no file", "--out FILE.safetensors")
        _check(file, force)


def _check(path: Path, force: bool) -> None:
    shown = display_text(str(path))
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except OSError:
        mode = None
    if mode is None or stat.S_ISREG(mode):
        if not target.parent.is_dir():
            raise ScopeError(f"cannot write {shown}: there is no such folder", "another --out")
        if not os.access(target.parent, os.W_OK):
            raise ScopeError(f"cannot write {shown}: its folder is read-only", "another --out")
    if mode is not None and stat.S_ISDIR(mode):
        raise ScopeError(f"{shown} is a folder", "--out with a file name")
    if mode is not None and stat.S_ISREG(mode) and not force:
        raise ScopeError(f"{shown} exists", "--force to replace it")
