"""docs/troubleshooting.md explains messages that the code has, word for word."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.house.texts import joined

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.M)


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    """Return the source of each file."""
    paths = (ROOT / "llmscope").rglob("*.py")
    return {path: joined(path.read_text("utf-8")) for path in paths}


@cache
def texts(path: Path) -> set[str]:
    """Return all texts of a file, with … for what an f-string fills in."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            found.add("".join(_part(part) for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def explained(message: str, sources: dict[Path, str]) -> bool:
    """Return whether a text of the code is the message; it may begin with what is filled in."""
    parts = message.split("…")
    pattern, longest = re.compile("…?" + ".+".join(map(re.escape, parts))), max(parts, key=len)
    paths = [path for path, source in sources.items() if longest in source]
    return any(pattern.fullmatch(text) for path in paths for text in texts(path))


def test_the_page_explains_many():
    assert len(MESSAGES) == len(set(MESSAGES)) >= 20


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_has_the_message(message, sources):
    assert explained(message, sources)


def test_a_message_that_changed_is_noticed(sources):
    assert explained("… has no config.json", sources)
    assert not explained("… has no config.yaml", sources)
    assert not explained("… has no", sources)
