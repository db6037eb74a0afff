"""Lines to type into: whatever is pasted, each key stays cheap."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.dialogs import ranking
from llmscope.tui.dialogs.base import LONGEST_SEARCH, TextLine
from llmscope.tui.dialogs.command_palette import entries
from tests.tui.conftest import Open

LONG = "what is a head " * 10_000


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "action", ["palette", "help", "recall", "find", "models", "lenses", "edit-write", "save"]
)
async def test_a_line_takes_the_beginning_of_a_long_paste(
    opened: Open, action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    async with opened() as session:
        await session.press("escape")
        BY_NAME[action].run(session.app)
        await session.settle()
        line = session.app.focused
        assert isinstance(line, TextLine)
        longest = line.longest
        assert longest < len(LONG)
        line.action_select_all()
        line.post_message(events.Paste(LONG))
        await session.settle()
        full = line.value
        assert full == LONG[:longest]
        await session.press("x")
        assert line.value == full
        await session.press("backspace", "x")
        assert line.value == full[:-1] + "x"
        line.action_select_all()
        line.post_message(events.Paste("short"))
        await session.settle()
        assert line.value == "short"


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("action", "typed", "said"),
    [
        ("recall", "xyzzy", "and the examples of this model"),
        ("palette", "xyzzyqwv", "try another word, or ? for the help"),
        ("dictionaries", "", "makes a folder: start llmscope beside it, or type its path"),
        ("lenses", "xyzzy", "a file that llmscope fit lens made"),
    ],
)
async def test_an_empty_list_says_what_could_be_there_and_how_it_is_made(
    opened: Open,
    action: str,
    typed: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    async with opened(120, 40) as session:
        await session.press("escape")
        BY_NAME[action].run(session.app)
        await session.settle()
        await session.press(*typed)
        text = " ".join(session.screen_text().replace("│", " ").split())
        assert said in text


def test_every_line_of_the_screen_has_a_limit() -> None:
    kinds = [Input]
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__.startswith("llmscope.")]
    assert TextLine in ours
    assert all(issubclass(kind, TextLine) for kind in ours)


@pytest.mark.few(2)
@pytest.mark.parametrize("letter", ["a ", "s ", "head ", "x y ", "attentoin "])
async def test_a_search_compares_a_bounded_number_of_words(
    opened: Open, monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    async with opened() as session:
        searched = [entry.found_by for entry in entries(session.app)]
    compared = 0
    alike = ranking._alike

    def count(typed: str, word: str) -> float:
        nonlocal compared
        compared += 1
        return alike(typed, word)

    monkeypatch.setattr(ranking, "_alike", count)
    ranking.ranked(searched, (letter * LONGEST_SEARCH)[:LONGEST_SEARCH])
    assert len(searched) > 200
    assert compared < 2000 * len(searched)
