"""Load what other installed packages add: lenses, panes, formats of files, sources of models.

A package registers an object under an entry point group, in its pyproject.toml:

    [project.entry-points."llmscope.formats"]
    csv = "their_package:CSV"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any, TypeVar

from llmscope.text import display_text, named

Part = TypeVar("Part")

_flaws: dict[str, str] = {}


def with_plugins(
    group: str,
    kind: type[Any],
    own: Mapping[str, Part],
    flaw: Callable[[Part], str] | None = None,
    name_of: Callable[[Part], str] = attrgetter("name"),
) -> dict[str, Part]:
    """Return our own parts of a kind, and those that other packages register.

    What cannot be used costs a notice that names its package, and nothing else: an import that
    fails, an object of another type, and a name that is taken.

    Args:
        group: the entry point group, without its prefix `llmscope.`.
        kind: the type of its objects.
        own: our own parts, by name. Their names cannot be replaced.
        flaw: returns why a part cannot be used; "" if it can.
        name_of: returns the name of a part.
    """
    found = dict(own)
    for point in entry_points(group=f"llmscope.{group}"):
        where = f"{display_text(point.name)} in llmscope.{group}, of {_package(point)}"
        try:
            part = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the code of another package may raise anything
            _flaws[where] = f"{where} cannot be loaded: {named(error)}"
            continue
        if not isinstance(part, kind):
            _flaws[where] = f"{where} is left out: it is no {kind.__name__}"
        elif flaw is not None and (reason := flaw(part)):
            _flaws[where] = f"{where} is left out: {reason}"
        elif name_of(part) in found:
            name = display_text(name_of(part))
            _flaws[where] = f"{where} is left out: the name {name} is taken"
        else:
            found[name_of(part)] = part
    return found


def take_flaws() -> tuple[str, ...]:
    """Return a notice for each part that could not be used, once."""
    told = tuple(_flaws.values())
    _flaws.clear()
    return told


def _package(point: EntryPoint) -> str:
    """Return the name of the package that an entry point is of."""
    return display_text(point.dist.name if point.dist is not None else point.value)
