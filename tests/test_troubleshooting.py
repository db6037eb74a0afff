"""docs/troubleshooting.md explains messages that the code has, word for word."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.M)


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """Return all texts of the code, with … for what an f-string fills in."""
    found = set()
    for path in (ROOT / "llmscope").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(_part(part) for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def explained(message: str, texts: set[str]) -> bool:
    """Return whether a text of the code is the message; it may begin with what is filled in."""
    parts = message.split("…")
    pattern, longest = re.compile("…?" + ".+".join(map(re.escape, parts))), max(parts, key=len)
    return any(longest in text and pattern.fullmatch(text) for text in texts)


def test_the_page_explains_many():
    assert len(MESSAGES) == len(set(MESSAGES)) >= 20


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_has_the_message(message, texts):
    assert explained(message, texts)


def test_a_message_that_changed_is_noticed(texts):
    assert explained("… has no config.json", texts)
    assert not explained("… has no config.yaml", texts)
    assert not explained("… has no", texts)
