"""The models that were opened last, remembered so that they can be opened by a key."""

from __future__ import annotations

from os.path import exists, expanduser
from pathlib import Path
from typing import NamedTuple

from llmscope.errors import ScopeError
from llmscope.models.spec import parse
from llmscope.tui.session.state_file import changing, read_state

MOST = 20
"""The most models to keep."""
LONGEST_SPEC = 4096
"""The most characters of a name, as of a path."""


class Recent(NamedTuple):
    """A model that was opened.

    Attributes:
        spec: what to type to open it, from the current folder.
        path: its path if it is a folder or a file, else empty.
    """

    spec: str
    path: str = ""


def remember(spec: str) -> None:
    """Record that a model was opened. If the folder cannot be written, only this is lost."""
    if len(spec) > LONGEST_SPEC:
        return
    try:
        parsed = parse(spec)
    except ScopeError:
        return  # it was loaded, but has been deleted since
    path = _whole(parsed.name) if parsed.source in ("folder", "gguf") else ""
    if path is None:
        return
    opened = Recent(spec, path)
    with changing() as state:
        others = [model for model in state.get("recent", list[Recent]) or [] if model != opened]
        state.put("recent", [opened, *others][:MOST])


def recent() -> list[Recent]:
    """Return the recent models, the last one first, without paths that no longer exist.

    A folder that was opened from elsewhere by a relative name has its absolute path as its spec.
    """
    recents: dict[str, Recent] = {}
    for spec, path in read_state().get("recent", list[Recent]) or []:
        if len(spec) > LONGEST_SPEC or (path and not exists(path)):
            continue
        same = not path or _whole(expanduser(spec)) == path
        model = Recent(spec if same else path, path)
        recents.setdefault(model.spec, model)
    return list(recents.values())


def _whole(name: str) -> str | None:
    """Return the absolute path of a name; None if no file can have that name."""
    try:
        return str(Path(name).resolve())
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL character, or circular links
        return None
