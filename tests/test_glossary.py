"""The glossary names modules that exist, each word once, in order."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| (\S.*?) \| .* \| `(llmscope/[\w/]+\.py)` \|$",
    (ROOT / "docs" / "glossary.md").read_text("utf-8"),
    flags=re.MULTILINE,
)


def test_every_word_lives_where_the_glossary_says():
    assert len(ROWS) > 30
    assert [path for _, path in ROWS if not (ROOT / path).is_file()] == []


def test_words_are_in_order_and_there_once():
    words = [word.casefold() for word, _ in ROWS]
    assert words == sorted(set(words))
