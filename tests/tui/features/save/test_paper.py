"""A picture for a paper, without leaving the screen: s, tab, enter."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

import llmscope
from llmscope.draw.glyphs import UNICODE
from tests.tui.real import answered, screen


async def saved(
    folder: Path, keys: list[str], workspace: str = "1"
) -> tuple[Path, tuple[str, ...]]:
    async with screen(llmscope.load("builtin:sort"), "CAB") as (app, pilot):
        await pilot.press("escape", workspace)
        await answered(app, pilot)
        labels = app.grid.pane.shown.figure.axes[0].labels
        await pilot.press("s", *keys, "enter")
        async with asyncio.timeout(60):
            while not list(folder.glob("*")):
                await pilot.pause(0.05)
    (found,) = folder.glob("*")
    return found, labels


@pytest.mark.slow
async def test_three_keys_save_a_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, _ = await saved(tmp_path, ["tab"])
    assert re.fullmatch(r"llmscope-map-layer\d+\.pdf", path.name)
    assert path.read_bytes().startswith(b"%PDF-")


@pytest.mark.few(1)
@pytest.mark.parametrize("workspace", ["1", "4"])
async def test_an_svg_for_a_paper_has_no_cursor_and_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path, labels = await saved(folder, ["tab", *["backspace"] * 3, *"svg"], workspace)
    text = path.read_text(encoding="utf-8")
    assert not any(mark in text for mark in (UNICODE.mark, UNICODE.cursor, UNICODE.thumb_down))
    origin = re.search(r"<dc:description>(.*?)</dc:description>", text, re.DOTALL)
    assert origin is not None
    command = json.loads(origin[1].replace("&quot;", '"').replace("&gt;", ">"))["command"]
    assert command.endswith("--look paper")
    for label in labels:
        assert escape(label) in text, "no row is cut off"


async def test_a_pdf_is_for_a_paper_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, _ = await saved(tmp_path, ["a", "full_stop", *"pdf"])
    assert path.name == "a.pdf"
    assert path.read_bytes().startswith(b"%PDF-")
