"""The commands, from a package that no other distribution brings.

A foreign distribution called llmscope that is installed last overwrites `llmscope/__init__.py`, and
nothing in that package can say so any more. This one can. It imports nothing else of its own.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

FOREIGN, FULL, LIGHT = "llmscope", "llmscope-tui", "llmscope-tui-light"


def main() -> None:
    """Run llmscope, or say in one line that another distribution overwrote it."""
    try:
        from llmscope.cli import main as run
    except Exception:  # the foreign package may do anything when it is imported
        line = overwritten()
        if not line:
            raise
        sys.exit(line)
    run()


def overwritten() -> str:
    """Return what keeps llmscope from starting and what to do; empty where nothing foreign is."""
    names = [name for name in (FOREIGN, FULL, LIGHT) if _is_installed(name)]
    if names[:1] != [FOREIGN]:
        return ""
    ours = names[1:] or [FULL]
    return (
        f"error: {FOREIGN}, another project, is installed too and has overwritten files of "
        f"{' and '.join(ours)} (try: pip uninstall {' '.join(names)}, then install {ours[0]} again)"
    )


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False
