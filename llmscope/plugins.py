"""Load what other installed packages add: lenses, panes, formats of files, sources of models.

A package registers an object under an entry point group, in its pyproject.toml, and says which
version of this interface it was written for:

    [project.entry-points."llmscope.formats"]
    csv = "their_package:CSV"

    [project.entry-points."llmscope.interface"]
    1 = "their_package"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any, TypeVar

from llmscope.support.text import display_text, typed_error_line

INTERFACE = 1
"""The version of what plug-ins are written against: docs/plugins.md describes it.

It rises by one where a change could break a plug-in that was written for the version before.
"""
OLDEST = 1
"""The oldest version whose plug-ins are still loaded."""
STATED = "llmscope.interface"
"""The entry point group in which a package states its version of the interface, as a name."""
GROUPS = {"lens": "lenses", "pane": "panes", "format": "formats", "source": "sources"}
"""The kinds of parts, and the entry point group of each without its prefix `llmscope.`."""

Part = TypeVar("Part")


@dataclass(frozen=True, order=True)
class Package:
    """An installed distribution: its name and version, without control characters."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()

    def to_dict(self) -> dict[str, str]:
        """Return name and version."""
        return asdict(self)


@dataclass(frozen=True, order=True)
class Registered:
    """A part that a package registers: a kind of `GROUPS`, the entry point's name, the package."""

    kind: str
    name: str
    package: Package


_flaws: dict[str, str] = {}
_packages: dict[tuple[str, str], Package] = {}


def with_plugins(
    group: str,
    kind: type[Any],
    built_in: Mapping[str, Part],
    flaw: Callable[[Part], str] | None = None,
    name_of: Callable[[Part], str] = attrgetter("name"),
) -> dict[str, Part]:
    """Return our own parts of a kind, and those that other packages register.

    What cannot be used costs a notice that names its package, and nothing else: an import that
    fails, an object of another type, and a name that is taken. A package that was written for
    another version of the interface is not imported.

    Args:
        group: the entry point group, without its prefix `llmscope.`.
        kind: the type of its objects.
        built_in: our own parts, by name. Their names cannot be replaced.
        flaw: returns why a part cannot be used; "" if it can.
        name_of: returns the name of a part.
    """
    parts = dict(built_in)
    for point, package in _points(group):
        where = f"{display_text(point.name)} in llmscope.{group}, of {package.name}"
        try:
            part = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the code of another package may raise anything
            _flaws[where] = f"{where} cannot be loaded: {typed_error_line(error)}"
            continue
        if not isinstance(part, kind):
            _flaws[where] = f"{where} is left out: it is no {kind.__name__}"
        elif flaw is not None and (reason := flaw(part)):
            _flaws[where] = f"{where} is left out: {reason}"
        elif name_of(part) in parts:
            name = display_text(name_of(part))
            _flaws[where] = f"{where} is left out: the name {name} is taken"
        else:
            parts[name_of(part)] = part
            _packages[group, name_of(part)] = package
    return parts


def package_of(group: str, name: str) -> Package | None:
    """Return the package that a part comes from; None for our own.

    Args:
        group: the entry point group, without its prefix `llmscope.`; `with_plugins` was called
            for it.
        name: the name of the part.
    """
    return _packages.get((group, name))


def registered() -> list[Registered]:
    """Return what other packages register, by kind, without importing them."""
    return [
        Registered(kind, display_text(point.name), package)
        for kind, group in GROUPS.items()
        for point, package in sorted(_points(group), key=lambda point: (point[0].name, point[1]))
    ]


def take_flaws() -> tuple[str, ...]:
    """Return a notice for each part that could not be used, once."""
    flaws = tuple(_flaws.values())
    _flaws.clear()
    return flaws


def _points(group: str) -> Iterator[tuple[EntryPoint, Package]]:
    """Yield the entry points of a group with their packages, without packages to be left out."""
    for point in entry_points(group=f"llmscope.{group}"):
        package = _package(point)
        if reason := _other_interface(point):
            _flaws[package.name] = f"{package} is left out: {reason}"
        else:
            yield point, package


def _package(point: EntryPoint) -> Package:
    """Return the package that an entry point is of."""
    if point.dist is None:
        return Package(display_text(point.value), "")
    name, version = point.dist.metadata["Name"], point.dist.metadata["Version"]
    return Package(display_text(name or point.value), display_text(version or ""))


def _other_interface(point: EntryPoint) -> str:
    """Return why the package of an entry point was not written for this llmscope; "" if it was.

    A package that states no version is taken as written for this one.
    """
    if point.dist is None:
        return ""
    for entry_point in point.dist.entry_points.select(group=STATED):
        text = entry_point.name
        version = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
        if version < 1:
            return f"{STATED} names a version such as {INTERFACE}, not {display_text(text)!r}"
        if version > INTERFACE:
            return (
                f"it is made for version {version} of the interface, and this llmscope has "
                f"{INTERFACE} (try: a newer llmscope)"
            )
        if version < OLDEST:
            return (
                f"it is made for version {version} of the interface, and this llmscope takes "
                f"{OLDEST} or later (try: a newer version of the package)"
            )
    return ""
