"""The models that were opened last, kept so that they are a key away."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import exists, expanduser
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.spec import parse
from llmscope.tui.session.state_files import locked, save_recent, saved_recent

MOST = 20
"""So many are kept."""
LONGEST = 4096
"""Characters of a name at most, as of a path."""


@dataclass(frozen=True)
class Recent:
    """A model that was opened.

    Attributes:
        spec: what to type to open it, from here.
        path: where it lies, if it is a folder or a file.
    """

    spec: str
    path: str = ""


def remember(spec: str) -> None:
    """Note that a model was opened. A folder that cannot be written costs that, no more."""
    if len(spec) > LONGEST:
        return
    try:
        parsed = parse(spec)
    except ScopeError:
        return  # it was there to be loaded, and is gone
    path = _whole(parsed.name) if parsed.source in ("folder", "gguf") else ""
    if path is None:
        return
    with locked():
        others = [one for one in saved_recent() if one != (spec, path)]
        save_recent([(spec, path), *others][:MOST])


def recent() -> list[Recent]:
    """They, the last one first. What lies nowhere any more is left out.

    A folder that was opened from another place by a relative name has its whole path as its spec.
    """
    found: dict[str, Recent] = {}
    for spec, path in saved_recent():
        if len(spec) > LONGEST or (path and not exists(path)):
            continue
        same = not path or _whole(expanduser(spec)) == path
        one = Recent(spec if same else path, path)
        found.setdefault(one.spec, one)
    return list(found.values())


def _whole(name: str) -> str | None:
    """The whole path of a name; None where no file can have that name."""
    try:
        return str(Path(name).resolve())
    except (OSError, ValueError, RuntimeError):  # too long, with NUL in it, or links in a circle
        return None
