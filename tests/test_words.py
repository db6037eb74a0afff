"""What the code says, to its readers and to users, is plain English."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.house.texts import joined

ROOT = Path(__file__).parents[1]
RIDDLES = re.compile(
    r"\b(is none|are none|so many|but for|a person|somebody|nobody)\b", re.IGNORECASE
)
"""Phrases that stand for plainer ones: "missing", a number, "except", "the user"."""


def riddles(path: Path) -> list[str]:
    """Return the places of a Python file whose strings or comments hold one of the phrases."""
    source = path.read_text(encoding="utf-8")
    if not any(map(phrases, (source, joined(source)))):
        return []
    texts = [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    texts += [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    return [
        f"{path.relative_to(ROOT)}:{line}: {found.group()}"
        for line, text in texts
        for found in phrases(text)
    ]


def phrases(text: str) -> list[re.Match[str]]:
    """Return where a text has one of the phrases."""
    return list(RIDDLES.finditer(text.replace("is None", "").replace("are None", "")))


@pytest.mark.parametrize("folder", sorted(p.name for p in (ROOT / "llmscope").iterdir()))
def test_no_riddles(folder):
    at = ROOT / "llmscope" / folder
    paths = [at] if at.suffix == ".py" else sorted(at.rglob("*.py"))
    assert [found for path in paths for found in riddles(path)] == []


def test_a_riddle_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "one.py"
    file.write_text('"""Keep so many."""\nX = "there is none"  # but for this\nY = None is None\n')
    assert len(riddles(file)) == 3
    file.write_text('X = (\n    "so "  # far\n    f"many"\n)\n')
    assert len(riddles(file)) == 1
