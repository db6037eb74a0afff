"""The distributions that bring a package `llmscope`, and what the light one leaves out.

`llmscope-tui` is the full distribution and `llmscope-tui-light` the one without torch. Both hold
the same files, and a foreign distribution named `llmscope` holds others of the same names: of two
in one environment, the one installed last has overwritten files of the other.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.support.text import display_text

FULL, LIGHT, FOREIGN = "llmscope-tui", "llmscope-tui-light", "llmscope"
LEFT_OUT = {
    "torch": "PyTorch",
    "accelerate": "accelerate",
    "gguf": "gguf",
    "huggingface_hub": "huggingface-hub",
    "jinja2": "jinja2",
    "peft": "peft",
    "sentencepiece": "sentencepiece",
    "transformers": "transformers",
}
"""Modules that the light distribution does not bring, each with the name of its package."""
TO_FULL = (
    f"the full distribution: pip uninstall {LIGHT}, then pip install . in a checkout of {FULL}"
)
"""What to do about a module of `LEFT_OUT` that is missing."""

_NAMES = {name.replace("-", "_"): name for name in (FULL, LIGHT, FOREIGN)}
_METADATA = re.compile(r"([a-z0-9_.-]+?)-([0-9][^-]*)(-py[0-9.]+)?\.(dist|egg)-info", re.IGNORECASE)
_SITES = ("site-packages", "dist-packages")


def clash() -> tuple[str, str] | None:
    """Return which distributions share this environment, and what to do; None without a clash.

    It lists the folders of packages, which takes less than a millisecond, and imports nothing.
    """
    names = sorted({name for folder in _folders() for name in _distributions(folder)})
    if len(names) < 2:
        return None
    both = f"{', '.join(names[:-1])} and {names[-1]}"
    wanted = FULL if FULL in names else LIGHT
    what = f"{both} are installed together, and each overwrites files of the other"
    if FOREIGN in names:
        what += f" ({FOREIGN} is another project)"
    return what, f"pip uninstall {' '.join(names)}, then install {wanted} again"


def need_torch(what: str) -> None:
    """Raise ScopeError unless torch is installed. It is not imported.

    Args:
        what: what needs it, such as `llmscope snapshot`.
    """
    if "torch" not in sys.modules and find_spec("torch") is None:
        raise ScopeError(f"{what} needs PyTorch, which is not installed", TO_FULL)


def left_out(error: BaseException) -> ScopeError | None:
    """Return the error to report for a module that the light distribution leaves out.

    Returns:
        None if the error is another one.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    package = LEFT_OUT.get(error.name.partition(".")[0])
    if package is None:
        return None
    return ScopeError(f"this needs {package}, which is not installed", TO_FULL)


def _folders() -> Iterator[str]:
    """Yield the folder that this package is in, and the folders of packages on the path."""
    yield str(Path(__file__).parents[2])
    yield from (path for path in sys.path if os.path.basename(path) in _SITES)


def _distributions(folder: str) -> Iterator[str]:
    """Yield the names of the distributions in a folder that bring a package `llmscope`."""
    with suppress(OSError, ValueError):
        for entry in os.listdir(folder):
            if entry[:8].lower() != "llmscope":
                continue
            matched = _METADATA.fullmatch(entry)
            name = matched and re.sub(r"[-_.]+", "_", matched[1]).lower()
            if name in _NAMES:
                yield _NAMES[name]


def clash_line() -> str:
    """Return the note for the user about a clash, in one line; empty without a clash."""
    names_and_hint = clash()
    return (
        ""
        if names_and_hint is None
        else display_text(f"note: {names_and_hint[0]} (try: {names_and_hint[1]})")
    )
