"""The one folder that tools for agents write to."""

from __future__ import annotations

import itertools
from pathlib import Path

from llmscope.errors import ScopeError, option
from llmscope.export import FilePair, write_all
from llmscope.support.storage import URL_AS_PATH
from llmscope.support.text import one_line

LONGEST_PATH = 240
"""Maximum characters of a path that an answer names; of a longer one only the end is told."""


class OutputFolder:
    """A folder for files. Nothing outside of it is written, and no file that was there before.

    Args:
        path: the folder; it is made when the first file is written.

    Attributes:
        path: its absolute path, with links resolved.
        written: the files that this object wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.written: set[Path] = set()

    def within(self, name: str) -> Path:
        """Return the path of a file in the folder.

        Args:
            name: a path relative to the folder, or an absolute one in it.

        Raises:
            ScopeError: the path leads out of the folder, is a URL, or is no path of a file.
        """
        if URL_AS_PATH.match(name):  # it would make a folder such as `s3:`
            raise ScopeError(
                f"{one_line(name, LONGEST_PATH)!r} is a URL, and files go to the output folder "
                f"{self.shown(self.path)}",
                "a file name such as figure.svg",
            )
        try:
            focus = (self.path / name).resolve()
            focus.exists()  # raises where a part of the name is too long
        except (OSError, ValueError, RuntimeError) as error:  # NUL, too long, or a loop of links
            raise ScopeError(
                f"{one_line(name, LONGEST_PATH)!r} is no path", "a file name such as figure.svg"
            ) from error
        if focus == self.path or not focus.is_relative_to(self.path):
            raise ScopeError(
                f"{one_line(name, LONGEST_PATH)!r} is not in the output folder "
                f"{self.shown(self.path)}",
                "a file name such as figure.svg",
            )
        return focus

    def put(self, name: str, data: str | bytes | FilePair) -> Path:
        """Write a file, and return its path. A file that this object wrote is replaced.

        Raises:
            ScopeError: the path leads out of the folder, a file of another origin is there, or it
                cannot be written.
        """
        path = self.within(name)
        contents = data.at(path) if isinstance(data, FilePair) else {path: data}
        for content in contents:
            if content not in self.written and (content.exists() or content.is_symlink()):
                raise ScopeError(
                    f"{self.shown(content)} exists, and was not written by this session",
                    "another name",
                )
        self._make(path.parent)
        write_all(contents, force=True)
        self.written.update(contents)
        return path

    def free(self, stem: str, suffix: str = "") -> str:
        """Return the name of a file or folder that does not exist yet, such as `look-3.json`."""
        for number in itertools.count(1):
            name = f"{stem}-{number}{suffix}"
            if not (self.path / name).exists() and not (self.path / name).is_symlink():
                break
        return name

    def make_folder(self, name: str) -> Path:
        """Make a folder in this one and return its path.

        Raises:
            ScopeError: it leads out of this folder, or cannot be made.
        """
        path = self.within(name)
        self._make(path)
        return path

    def shown(self, path: Path) -> str:
        """Return a path as an answer names it: one safe line."""
        return one_line(str(path), LONGEST_PATH)

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = one_line(error.strerror or str(error))
            raise ScopeError(
                f"cannot make the folder {self.shown(path)}: {reason}", f"another {option('out')}"
            ) from error
