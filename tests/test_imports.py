"""The imports of llmscope at run time: no cycle of more than five modules, lazy ones included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx

PACKAGE = Path(__file__).parents[1] / "llmscope"
MOST = 5
"""The number of modules up to which a cycle may be justified by a comment at an import."""


def modules() -> dict[str, Path]:
    """Return the modules of the package by name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(body: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Yield the modules that code imports when it runs, each with its line.

    Code for type checkers alone is left out. `import_module` and `Lazy` with a name are imports.
    """
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from ((one.name, node.lineno) for one in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                yield (inner if inner in MODULES else node.module), node.lineno
        inside = [getattr(node, part, None) or [] for part in ("body", "orelse", "finalbody")]
        inside += [handler.body for handler in getattr(node, "handlers", [])]
        inside += [case.body for case in getattr(node, "cases", [])]
        for some in inside:
            yield from imports(some)
        if not any(inside):
            yield from _by_name(node)


def _by_name(node: ast.AST) -> Iterator[tuple[str, int]]:
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        texts = [value.value for value in call.args if isinstance(value, ast.Constant)]
        names = [text for text in texts if text in MODULES]
        if names and ast.unparse(call.func).endswith(("import_module", "Lazy", "partial")):
            yield from ((name, call.lineno) for name in names)


def graph() -> networkx.DiGraph[str]:
    """Return the graph of imports within the package."""
    found: networkx.DiGraph[str] = networkx.DiGraph()
    for name, path in MODULES.items():
        for other, line in imports(ast.parse(path.read_text()).body):
            if other in MODULES and other != name:
                found.add_edge(name, other, line=line)
    return found


def test_a_cycle_is_short_and_a_comment_at_an_import_says_why() -> None:
    edges = graph()
    assert edges.number_of_edges() > len(MODULES), "the imports were not read"
    for cycle in networkx.strongly_connected_components(edges):
        if len(cycle) == 1:
            continue
        assert len(cycle) <= MOST, sorted(cycle)
        inside = edges.subgraph(cycle).edges(data="line")
        above = (MODULES[name].read_text().splitlines()[line - 2] for name, _, line in inside)
        assert any(line.strip().startswith("#") for line in above), sorted(cycle)


def test_an_import_by_name_or_in_a_function_counts() -> None:
    code = (
        "def f():\n    from llmscope.figure import Focus\n"
        "x = import_module('llmscope.export')\n"
        "if TYPE_CHECKING:\n    import llmscope.scope.scope\n"
        "else:\n    y = Lazy('llmscope.support.text')\n"
    )
    assert [name for name, _ in imports(ast.parse(code).body)] == [
        *("llmscope.figure", "llmscope.export", "llmscope.support.text")
    ]
