"""A line at the bottom that asks for a file: its name is free, or it is asked before replacing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from llmscope.tui.dialogs.base import LineScreen


def free_name(folder: Path, stem: str, suffix: str = "") -> str:
    """Return a name that is not taken in a folder, with a number where it must have one."""
    numbered = (f"{stem}-{number}{suffix}" for number in count(2))
    names = chain([f"{stem}{suffix}"], numbered)
    return next(name for name in names if not (folder / name).exists())


class FileLineScreen(LineScreen):
    """A line that asks for a file, and asks again before files are replaced."""

    _confirmed: tuple[Path, ...] = ()

    def on_input_changed(self) -> None:
        """Forget the confirmation to replace files, since the name changed."""
        self._confirmed = ()

    def asks_to_replace(self, existing: Sequence[Path], name: str) -> bool:
        """Ask before files are replaced, and return whether that was asked just now.

        Args:
            existing: the files that would be replaced.
            name: the first of them, as shown.
        """
        paths = tuple(existing)
        if not paths or paths == self._confirmed:
            return False
        self._confirmed = paths
        self.say(f"{name} exists: enter replaces it, or write another name")
        return True
