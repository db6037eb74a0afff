"""Prompts of megabytes: a letter is there at once, or the text is refused and nothing is lost."""

import time
from contextlib import asynccontextmanager

import pytest
from textual import events

from llmscope.draw import RenderOptions
from llmscope.support.text import shared_length
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.prompt import editor as editing

SECONDS = 0.3
"""CPU seconds of a letter at most."""
WORDS = "word and "


class Still:
    """An engine that answers nothing."""

    def __init__(self, post):
        pass

    def start(self):
        pass

    def ask(self, request):
        pass

    def close(self):
        return True


@asynccontextmanager
async def screen(prompt):
    app = LlmscopeApp(Still, spec="builtin:sort", prompt=prompt, look=RenderOptions(tier="none"))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.pause()
        yield app, pilot


async def letter(app, pilot, key="x"):
    length, begun = len(app.editor.text), time.process_time()
    await pilot.press(key)
    await pilot.pause()
    assert len(app.editor.text) == length + 1
    return time.process_time() - begun


async def shown(prompt, width):
    async with screen(prompt) as (app, pilot):
        await pilot.resize_terminal(width, 30)
        await pilot.pause()
        region = app.editor.region
        strips = app.screen._compositor.render_strips()
        rows = ["".join(part.text for part in strip) for strip in strips]
        return [row[region.x : region.right] for row in rows[region.y : region.bottom]]


async def test_a_letter_in_a_line_as_long_as_one_may_be():
    long = (WORDS * 30_000)[: editing.LONGEST_LINE - 100]
    async with screen(long) as (app, pilot):
        await letter(app, pilot)
        assert min([await letter(app, pilot) for _ in range(3)]) < SECONDS
        assert app.editor.text == f"{long}xxxx"


async def test_rows_of_a_long_line_are_drawn_as_those_of_a_short_one(monkeypatch):
    prompt = "\t".join(f"w{number}\u0301 [/nope]" for number in range(400))
    rows = await shown(prompt, 60)
    monkeypatch.setattr(editing, "LONG", 1 << 30)
    assert rows == await shown(prompt, 60)
    assert any("[/nope]" in row for row in rows)


@pytest.mark.parametrize("text", [WORDS * 40_000, f"{WORDS}\n" * 120_000])
async def test_what_is_too_long_is_not_pasted_and_told(text):
    async with screen("before") as (app, pilot):
        await app.editor._on_paste(paste := events.Paste(text))
        await pilot.pause()
        assert paste._no_default_action
        assert app.editor.text == "before"
        assert ["not pasted" in one.message for one in app._notifications] == [True]
        assert app.editor.text == "before"


async def test_letters_that_come_together_are_always_taken(monkeypatch):
    monkeypatch.setattr(editing, "LONGEST_TEXT", 5)
    async with screen("before") as (app, _):
        assert app.editor._too_long("x" * editing.LETTERS) == ""
        assert "1,007 characters" in app.editor._too_long("x" * (editing.LETTERS + 1))


async def test_it_is_left_while_a_long_prompt_is_laid_out():
    async with screen("a prompt") as (app, _):
        pass
    app._begin()  # which a slow layout let come only now; no MountError


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [("", "", 0), ("a", "", 0), ("ab", "ab", 2), ("abc", "abd", 2), ("xbc", "ybc", 0)],
)
def test_what_two_texts_share(one, other, wanted):
    assert shared_length(one, other) == shared_length(other, one) == wanted
    long = "x" * 12_345
    assert shared_length(long + one, long + other) == len(long) + wanted
