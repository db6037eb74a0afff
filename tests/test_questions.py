"""docs/questions.md: each question leads to a lens, a key and commands that there are."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from demo.lens_pages import built_in
from llmscope.lenses import lens
from llmscope.lenses.base import EVIDENCE
from tests.cli.running import run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "questions.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
ROWS = re.findall(r"^\| \[(.*?)\]\(#(.*?)\) \| (.*?) \| `(.|0 .)` \|$", PAGE, re.M)


def named(section):
    """Return the lens of a section, its mode (empty without one) and its key."""
    line = section.splitlines()[0]
    (name,) = re.findall(r"^Lens \[(.*?)\]\(lenses/\1\.md\)", line)
    mode = re.search(r"mode `(.*?)`", line)
    key = re.search(r"key `(.|0 .)`", line)
    return name, mode[1] if mode else "", key[1]


def test_the_table_lists_the_questions():
    assert 12 <= len(SECTIONS) <= 16
    assert [question for question, *_ in ROWS] == list(SECTIONS)
    for question, anchor, name, key in ROWS:
        assert anchor == re.sub(r"[^\w -]", "", question.lower()).replace(" ", "-")
        assert (name, key) == (named(SECTIONS[question])[0], named(SECTIONS[question])[2])


@pytest.mark.parametrize("question", SECTIONS)
def test_a_question_names_a_lens_a_key_and_what_the_answer_is_worth(question):
    section = SECTIONS[question]
    name, mode, key = named(section)
    assert name in built_in()
    assert not mode or mode in lens(name).modes
    page = (ROOT / "docs" / "lenses" / f"{name}.md").read_text("utf-8")
    (screen,) = re.findall(r"On the screen: (.*?)\. In a terminal", page)
    assert f"`{key}` " in screen
    assert re.findall(r"^\*\*(.*?)\*\*", section, re.M) == list(EVIDENCE)


@pytest.mark.few(6)
@pytest.mark.parametrize("question", SECTIONS)
def test_its_commands_run(question, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "demo" / "directions", tmp_path / "demo" / "directions")
    section = SECTIONS[question]
    name, mode, _ = named(section)
    for file, text in re.findall(r"^With `(.*?)`:\n\n```text\n(.*?)```", section, re.M | re.S):
        (tmp_path / file).write_text(text, "utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    calls = [shlex.split(line) for line in block.splitlines()]
    for call in calls:
        assert call[0] == "llmscope"
        result = run(*call[1:])
        assert result.exit_code == 0, result.stderr
        assert "refused" not in result.stdout
    asked = [call for call in calls if name in call]
    assert asked
    assert mode in ("", *lens(name).modes[:1]) or mode in asked[0]
