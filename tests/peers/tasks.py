"""The blocks of docs/python/tasks.md, and how each is run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "python" / "tasks.md"
LIBRARIES = ("llmscope", "TransformerLens", "nnsight")
_BLOCK = re.compile(r'^```python(?: title="(\w+)")?\n(.*?)^```', re.S | re.M)


def sections() -> dict[str, dict[str, str]]:
    """Return the code of each section by library; "" is what all need, of the first section."""
    first, *rest = PAGE.read_text("utf-8").split("\n## ")
    named = {"setup": first} | {part.partition("\n")[0]: part for part in rest}
    return {name: dict(_BLOCK.findall(text)) for name, text in named.items()}


def run(code: str, names: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run code as a module with some names, and return its names.

    nnsight reads the source of a trace, so that the code must be in a file.
    """
    path = folder / f"block_{len(list(folder.iterdir()))}.py"
    path.write_text(code, "utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    spec.loader.exec_module(module)
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


def lines(code: str) -> int:
    """Return the number of lines of code, without blank ones and comments."""
    return len([one for one in code.splitlines() if one.split("#")[0].strip()])
