"""Copying inside of tmux, which by default ignores the sequence with which programs copy.

With its option `set-clipboard external`, the default, tmux alone may set the clipboard of the
terminal around it: so the text is handed to tmux, as its newest buffer and for that clipboard.
"""

from __future__ import annotations

import os
import shutil
import subprocess

PATIENCE = 5.0
"""Most seconds that tmux may take."""


def inside_tmux() -> bool:
    """Return whether the terminal is a pane of tmux whose command can be run."""
    return bool(os.environ.get("TMUX")) and shutil.which("tmux") is not None


def hand_to_tmux(text: str) -> bool:
    """Make a text the newest buffer of tmux and the clipboard of the terminal around it.

    Returns:
        Whether tmux took it. One before 3.2 has no option `-w` and does not.
    """
    command = shutil.which("tmux")
    if command is None:
        return False
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command; the text is its input
            [command, "load-buffer", "-w", "-"],
            input=text.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
