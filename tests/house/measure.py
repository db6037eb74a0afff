"""Measure the source of a package: lines, folders, imports between its parts, and names."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

VAGUE = {
    *("one", "found", "shown", "own", "said", "kept", "told", "made", "held"),
    *("asked", "taken", "given", "some", "most", "least"),
}
"""Names of locals that say nothing of what they hold."""
Arrows = dict[str, set[str]]
"""The parts that each part imports, by name."""


@dataclass(frozen=True)
class Source:
    """A Python file of a package.

    Attributes:
        path: path of the file.
        module: its dotted name.
    """

    path: Path
    module: str

    @cached_property
    def text(self) -> str:
        """Return the content of the file."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Return the syntax tree of the file."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Return all nodes of the syntax tree: several measures pass over them."""
        return list(ast.walk(self.tree))

    @property
    def lines(self) -> int:
        """Return the number of all lines."""
        return len(self.text.splitlines())

    @property
    def code_lines(self) -> int:
        """Return the number of lines with code: no blanks, comments, docstrings or imports."""
        skipped: set[int] = set()
        unclear: set[int] = set()
        for node in self.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom) or _is_docstring(node):
                skipped.update(range(node.lineno, (node.end_lineno or 0) + 1))
            elif isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno != node.lineno:
                unclear.update(range(node.lineno, (node.end_lineno or 0) + 1))
        bare = {
            at
            for at, line in enumerate(self.text.split("\n"), 1)
            if line.strip() in ("", "\\") or line.lstrip().startswith("#")
        }
        if bare & unclear - skipped:  # a text has such a line, or a comment is between its parts
            return len(self._lines_of_tokens() - skipped)
        return self.text.count("\n") + 1 - len(bare | skipped)

    def _lines_of_tokens(self) -> set[int]:
        """Return the lines with tokens other than comments: exact, but it takes long."""
        lines: set[int] = set()
        skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT)
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in (*skipped, tokenize.DEDENT, tokenize.ENDMARKER):
                lines.update(range(token.start[0], token.end[0] + 1))
        return lines

    def imports(self) -> Iterator[str]:
        """Yield the dotted names that the file imports, at any place in it."""
        for node in self.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from _imported(node)

    def imports_at_import(self) -> Iterator[str]:
        """Yield the dotted names that importing the file imports: none within functions."""
        waiting: list[ast.stmt] = list(self.tree.body)
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from _imported(node)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                waiting += node.orelse
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting += [child for child in ast.walk(node) if isinstance(child, ast.Import)]
                waiting += [child for child in ast.walk(node) if isinstance(child, ast.ImportFrom)]

    def vague_names(self) -> Iterator[str]:
        """Yield each name that is bound in the file and is one of `VAGUE`."""
        for node in self.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.id
            elif isinstance(node, ast.arg):
                name = node.arg
            else:
                continue
            if name in VAGUE:
                yield name

    def classes(self) -> Iterator[str]:
        """Yield the names of the classes at the top of the file."""
        yield from (node.name for node in self.tree.body if isinstance(node, ast.ClassDef))


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif node.module and not node.level:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def sources(root: Path) -> list[Source]:
    """Return the Python files of a package, by name.

    Args:
        root: folder of the package.
    """
    paths = sorted(root.rglob("*.py"))
    return [Source(path, _module(path.relative_to(root.parent))) for path in paths]


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_parts(package: list[Source], place: str, *, at_import: bool = False) -> Arrows:
    """Return what each part of a place imports of its other parts.

    A part is a folder or a module directly in the place. The place's own `__init__` is no part.

    Args:
        package: the files.
        place: dotted name of a folder, such as `llmscope.tui`.
        at_import: leave out imports within functions and those for types alone.
    """
    arrows: Arrows = {}
    prefix = f"{place}."
    for source in package:
        if source.module.startswith(prefix):
            arrows.setdefault(_part(source.module, prefix), set())
    for source in package:
        if not source.module.startswith(prefix):
            continue
        part = _part(source.module, prefix)
        names = source.imports_at_import() if at_import else source.imports()
        imported = {_part(name, prefix) for name in names if name.startswith(prefix)}
        arrows[part] |= {name for name in imported if name in arrows and name != part}
    return arrows


def _part(module: str, prefix: str) -> str:
    return module.removeprefix(prefix).split(".")[0]


def floors(arrows: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the floor of each part, from 1: above all that it imports; a circle shares one."""
    circles = _circles(arrows)
    floor: dict[frozenset[str], int] = {}

    def climb(circle: frozenset[str]) -> int:
        if circle not in floor:
            below = {circles[name] for part in circle for name in arrows[part]} - {circle}
            floor[circle] = 1 + max(map(climb, below), default=0)
        return floor[circle]

    return {part: climb(circles[part]) for part in arrows}


def pointing_up(package: list[Source], place: str) -> list[tuple[str, str]]:
    """Return the imports of a place's parts that point to a higher floor.

    The floors are those of what is imported at import time, which has no circles.
    """
    floor = floors(imported_parts(package, place, at_import=True))
    arrows = imported_parts(package, place)
    return [
        (part, name)
        for part, names in arrows.items()
        for name in sorted(names)
        if floor[name] > floor[part]
    ]


def _circles(arrows: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    """Return the parts that import each other in a circle with each part, itself included."""
    reached = {part: _reached(part, arrows) for part in arrows}
    return {
        part: frozenset({part} | {name for name in reached[part] if part in reached[name]})
        for part in arrows
    }


def _reached(part: str, arrows: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [part]
    while waiting:
        for name in arrows[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def repeated_classes(package: list[Source]) -> Counter[str]:
    """Return how often each class name is used that is used more than once."""
    names = Counter(name for source in package for name in source.classes())
    return Counter({name: count for name, count in names.items() if count > 1})
