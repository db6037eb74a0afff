"""The destinations and formats of a snapshot, checked before a model loads."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmscope.cli.options.shared import usage
from llmscope.cli.output.notices import detail
from llmscope.cli.output.streams import put
from llmscope.errors import ScopeError
from llmscope.export import (
    PAPER_FORMATS,
    FilePair,
    format_of,
    formats,
    sidecar_path,
    write_all,
)
from llmscope.support.storage import RemoteFile, file_at
from llmscope.support.text import display_line, display_text

Content = str | bytes | FilePair
"""What is written to a destination."""


@dataclass(frozen=True)
class Output:
    """A destination: stdout unless there is a path or a remote file.

    Attributes:
        path: a file of this machine.
        format: the format of what is written.
        force: replace a file that exists.
        remote: a file at a URL.
    """

    path: Path | None
    format: str
    force: bool
    remote: RemoteFile | None = None

    @property
    def on_terminal(self) -> bool:
        """Whether the output goes straight to a terminal."""
        return self.to_stdout and sys.stdout.isatty()

    @property
    def to_stdout(self) -> bool:
        """Whether the output goes to stdout."""
        return self.path is None and self.remote is None

    def put(self, data: Content) -> None:
        """Write `data` to the destination.

        Raises:
            ScopeError: the destination cannot be written.
        """
        put_all([(self, data)])


def put_all(contents: Sequence[tuple[Output, Content]]) -> None:
    """Write all contents; files of this machine are written all or none.

    Remote files are written first, since they are the likeliest to fail, and stdout last.

    Raises:
        ScopeError: a destination cannot be written.
    """
    files: dict[Path, str | bytes] = {}
    for output, data in contents:
        if output.remote is not None:
            named = _files(data, Path(output.remote.name))
            output.remote.folder.write(
                {
                    path.name: content.encode("utf-8") if isinstance(content, str) else content
                    for path, content in named.items()
                }
            )
        elif output.path is not None:
            files |= _files(data, output.path)
    if files:
        write_all(files, force=any(output.force for output, _ in contents))
    for path, one in files.items():
        detail(f"wrote {path}: {len(one.encode() if isinstance(one, str) else one):,} bytes")
    for output, data in contents:
        if output.to_stdout:
            assert not isinstance(data, FilePair)
            put(data)


def _files(data: Content, path: Path) -> dict[Path, str | bytes]:
    return data.at(path) if isinstance(data, FilePair) else {path: data}


def choose_outputs(
    outs: Sequence[str],
    format: str | None,  # noqa: A002
    default: str,
    force: bool,
    *,
    paper: bool = False,
) -> tuple[Output, ...]:
    """Return an output for each `--out`.

    Args:
        outs: paths, URLs, or `-` for stdout; empty: stdout alone.
        format: the format. With several outputs, each file has that of its suffix, and this is
            the format of stdout. None: see `choose_output`.
        default: the format where neither a suffix nor `format` says one.
        force: whether to replace existing files.
        paper: whether pictures are drawn for paper. Of several outputs one at least is then a
            picture, and others may hold numbers.

    Raises:
        BadParameter: the format does not exist, or is given with several outputs none of which is
            stdout; or two outputs would be written to one place.
        ScopeError: a destination cannot be written.
    """
    if len(outs) <= 1:
        return (choose_output(outs[0] if outs else None, format, default, force, paper=paper),)
    usage(
        format is None or "-" in outs,
        "of stdout, which is not among several --out: each file has the format of its suffix",
        "--format",
    )
    numbers = tuple(
        format_known.name for format_known in formats().values() if format_known.holds == "numbers"
    )
    among = (*PAPER_FORMATS, *numbers) if paper else tuple(formats())
    outputs = tuple(
        _choose_among(out, format if out == "-" else None, default, force, among, paper=paper)
        for out in outs
    )
    places_used: set[str] = set()
    for output, out in zip(outputs, outs, strict=True):
        for place in _places(output):
            printed = display_line(out)
            usage(place not in places_used, f"{printed} would be written twice", "--out")
            places_used.add(place)
    drawn = any(output.format in PAPER_FORMATS for output in outputs)
    usage(not paper or drawn, f"of a picture: {', '.join(PAPER_FORMATS)}", "--look")
    return outputs


def _places(output: Output) -> list[str]:
    """Return names of what an output writes, the same for the same place."""
    if output.to_stdout:
        return ["-"]
    sidecar = output.format in formats() and formats()[output.format].sidecar
    remote = output.remote
    path = output.path if remote is None else Path(remote.folder.url) / remote.name
    assert path is not None
    paths = [path, sidecar_path(path)] if sidecar else [path]
    if remote is not None:
        return list(map(str, paths))
    # The last part may be a link, which is replaced; links among its folders are followed.
    return [os.path.join(os.path.realpath(path.parent), path.name) for path in paths]


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
        out: a path or URL, or None or `-` for stdout.
        format: a format; None takes it from the suffix, or for stdout the default.
        default: the default format.
        force: whether to replace an existing file.
        paper: whether the picture is for paper, which has its own formats.

    Raises:
        BadParameter: the format does not exist.
        ScopeError: the destination cannot be written.
    """
    among = PAPER_FORMATS if paper else tuple(formats())
    return _choose_among(out, format, default, force, among, paper=paper)


def _choose_among(
    out: str | None,
    format: str | None,  # noqa: A002
    default: str,
    force: bool,
    among: Sequence[str],
    *,
    paper: bool,
) -> Output:
    """Return an output as `choose_output` does, of one of the formats `among`."""
    listed = f"{'with --look paper ' if paper else ''}one of {', '.join(among)}"
    usage(format is None or format in among, listed, "--format")
    place = None if out in (None, "-") else file_at(out or "")
    path = place if isinstance(place, Path) else None
    remote = place if isinstance(place, RemoteFile) else None
    name = path if remote is None else Path(remote.name)
    if path is not None:
        _check(path, force)
    chosen = format or (format_of(name, among) if name else default)
    sidecar = chosen in formats() and formats()[chosen].sidecar
    usage(not sidecar or name is not None, f"two files: it takes --out FILE.{chosen}", "--format")
    if remote is not None:
        _check_remote(remote, sidecar, force)
    elif path is not None and sidecar:
        _check_pair(path, force)
    output = Output(path, chosen, force, remote)
    on_paper = paper and chosen in PAPER_FORMATS
    if output.on_terminal and (on_paper or formats()[chosen].binary):
        raise ScopeError(f"{chosen} is nothing for a terminal", f"--out FILE.{chosen}")
    return output


def file_output(out: str | None, format: str, force: bool) -> Output:  # noqa: A002
    """Return the output of one file in a format that a snapshot does not have, such as `csv`.

    Raises:
        ScopeError: the file cannot be written, or exists without `force`.
    """
    place = None if out in (None, "-") else file_at(out or "")
    if isinstance(place, RemoteFile):
        _check_remote(place, False, force)
        return Output(None, format, force, place)
    if place is not None:
        _check(place, force)
    return Output(place, format, force)


def _check_remote(file: RemoteFile, sidecar: bool, force: bool) -> None:
    """Raise a ScopeError if the file, or its sidecar file, exists and is not to be replaced."""
    path = Path(file.name)
    for file_path in (path, sidecar_path(path)) if sidecar else (path,):
        if not force and file.folder.size(file_path.name) is not None:
            raise ScopeError(f"{file.shown} exists", "--force to replace it")


def _check_pair(path: Path, force: bool) -> None:
    """Raise a ScopeError if the file or its sidecar file cannot be written."""
    for file in (path, sidecar_path(path)):
        if file.exists() and not file.is_file():
            raise ScopeError(f"{display_text(str(file))} is no file", "--out FILE.safetensors")
        _check(file, force)


def _check(path: Path, force: bool) -> None:
    printed = display_text(str(path))
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except OSError:
        mode = None
    if mode is None or stat.S_ISREG(mode):
        if not target.parent.is_dir():
            raise ScopeError(f"cannot write {printed}: there is no such folder", "another --out")
        if not os.access(target.parent, os.W_OK):
            raise ScopeError(f"cannot write {printed}: its folder is read-only", "another --out")
    if mode is not None and stat.S_ISDIR(mode):
        raise ScopeError(f"{printed} is a folder", "--out with a file name")
    if mode is not None and stat.S_ISREG(mode) and not force:
        raise ScopeError(f"{printed} exists", "--force to replace it")
