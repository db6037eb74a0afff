"""The runs that ship with llmscope: `builtin:NAME`."""

from __future__ import annotations

from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.runs.format import INFO
from llmscope.support.text import display_text, nearest

PREFIX = "builtin:"
_HOME = Path(__file__).resolve().parents[1] / "builtin"


def shipped_runs() -> tuple[str, ...]:
    """Return the names of the runs that ship with llmscope."""
    return tuple(sorted(path.parent.name for path in _HOME.glob(f"*/{INFO}")))


def run_folder(named: str) -> Path:
    """Return the folder of a run, given as a path or as `builtin:NAME`.

    Raises:
        ScopeError: no run of that name ships with llmscope.
    """
    if not named.startswith(PREFIX):
        return Path(named)
    name, known = named.removeprefix(PREFIX), shipped_runs()
    if name not in known:
        near = nearest(name, known)
        there = ", ".join(f"{PREFIX}{name}" for name in ([near] if near else known)) or "a folder"
        raise ScopeError(f"there is no {display_text(named, whitespace=False)}", there)
    return _HOME / name
