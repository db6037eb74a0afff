from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text
from textual.events import Paste
from wcwidth import wcswidth, wcwidth

from llmscope.draw import load_theme
from llmscope.engine.events import Token
from llmscope.tui.prompt.editor import PromptEditor
from llmscope.tui.state.document import PromptDocument, stand_ins
from llmscope.tui.theme.textual_theme import variables
from tests.tui.acting import tokenize
from tests.tui.conftest import PROMPT, Open

ODD = "a\x0bb\x0cc\x1cd\x85e\u2028f\rg\r\nh"


@given(st.text())
def test_a_document_gives_its_text_back(text: str) -> None:
    assert PromptDocument(text).text == text


@given(st.text(st.characters(exclude_characters="\n")))
def test_stand_ins_are_as_many_and_harmless(line: str) -> None:
    shown = stand_ins(line)
    assert len(shown) == len(line)
    assert all(char == "\t" or char.isprintable() for char in shown)
    bare = shown.replace("\t", "")
    assert cell_len(bare) == wcswidth(bare) == sum(map(wcwidth, bare))


def test_stand_ins_say_what_kind_of_thing_they_stand_for() -> None:
    assert stand_ins("नम\u0938\u094d\u0924\u0947 हि") == "नमस◌त\u0947 ह◌"
    assert stand_ins("a\xa0b\u3000c") == "a␣b␣c"
    assert stand_ins("👍🏽\x1b\x7f\u0301") == "👍\ufffd␛␡◌"
    assert stand_ins("e\u0301 你好 שלום") == "e\u0301 你好 שלום"


@given(st.text(), st.text(), st.integers(0, 50), st.integers(0, 50))
def test_replacing_a_range_is_replacing_it_in_the_text(
    text: str, insert: str, one: int, other: int
) -> None:
    start, end = sorted((min(one, len(text)), min(other, len(text))))
    document = PromptDocument(text)
    result = document.replace_range(place(text, start), place(text, end), insert)
    assert document.text == text[:start] + insert + text[end:]
    assert result.replaced_text == text[start:end]
    assert result.end_location == place(document.text, start + len(insert))


def place(text: str, index: int) -> tuple[int, int]:
    before = text[:index].split("\n")
    return len(before) - 1, len(before[-1])


@pytest.mark.parametrize("key", ["ctrl+x", "ctrl+shift+k"])
async def test_the_last_line_can_be_cut_and_comes_back(opened: Open, key: str) -> None:
    async with opened(prompt="one\ntwo") as session:
        await session.press("ctrl+end", key)
        assert session.app.editor.text == "one\n"
        await session.press(key, "ctrl+z", "ctrl+z")
        assert session.app.editor.text == "one\ntwo"


async def test_no_character_of_a_prompt_is_lost(opened: Open) -> None:
    async with opened(prompt=ODD) as session:
        await session.press("end", "x")
        assert session.app.text == ODD + "x"
        assert session.engine.requests[-1].text == ODD + "x"


async def test_pasted_line_ends_are_newlines(opened: Open) -> None:

    async with opened(prompt="") as session:
        session.app.post_message(Paste("one\r\ntwo\rthree"))
        await session.settle()
        assert session.app.text == "one\ntwo\nthree"


async def test_tokens_are_tinted_in_place_and_the_focused_one_is_marked(opened: Open) -> None:
    theme = variables(load_theme())
    async with opened() as session:
        line = session.app.editor.get_line(0)
        colours = {}
        for span in line.spans:
            assert not isinstance(span.style, str)
            assert span.style.bgcolor is not None
            colours[line.plain[span.start : span.end]] = span.style.bgcolor.name
        assert list(colours) == ["The", " capital", " of", " France", " is"]
        assert colours[" is"] == theme["cursor"]
        assert colours["The"] != colours[" capital"]
        assert colours["The"] == colours[" of"]


async def test_only_what_stands_is_tinted_while_one_types(opened: Open) -> None:
    async with opened() as session:
        session.engine.auto = False
        await session.press("x", "home", "right")
        tinted = session.app.editor.get_line(0).spans
        assert len({(span.start, span.end) for span in tinted}) == 5
        await session.press("y")
        assert len(session.app.editor.get_line(0).spans) == 0


async def test_the_text_cursor_does_not_blink(opened: Open) -> None:
    async with opened() as session:
        assert not session.app.editor.cursor_blink
        assert not session.app.find.cursor_blink


@pytest.mark.parametrize("text", ["word " * 60, "line\n" * 12])
async def test_grows_to_a_few_lines_and_no_further(opened: Open, text: str) -> None:
    async with opened(prompt=PROMPT) as session:
        assert session.app.editor.outer_size.height == 3
        session.app.editor.replace_all(text)
        await session.settle()
        assert 3 < session.app.editor.outer_size.height <= 7


async def test_hidden_characters_wrap_as_wide_as_they_are_shown(opened: Open) -> None:
    text = "\u200b" * 100
    async with opened(60, 20, prompt=text) as session:
        editor = session.app.editor
        rows = [strip.text for strip in (editor.render_line(y) for y in range(3))]
        assert "".join(rows).count("\ufffd") == 100
        assert all(cell_len(row) <= editor.size.width for row in rows)


async def test_the_pieces_of_one_character_are_one_and_the_focus_covers_them(opened: Open) -> None:
    theme = variables(load_theme())
    text = "a🙂b"
    parts = [Token(1 + i, 2, part, 1, 2) for i, part in enumerate(("\\xf0", "\\x9f", "\\x99\\x82"))]
    tokens = [Token(0, 1, "a", 0, 1), *parts, Token(4, 3, "b", 2, 3)]
    async with opened(prompt=text) as session:
        editor = session.app.editor
        for focus in range(5):
            editor.show_tokens(text, tokens, focus)
            grounds = [background(editor.get_line(0), index) for index in range(3)]
            marked = min(focus, 1) if focus < 4 else 2
            assert [name == theme["cursor"] for name in grounds] == [
                index == marked for index in range(3)
            ]
        editor.show_tokens(text, tokens, 99)
        a, smile, b = (background(editor.get_line(0), index) for index in range(3))
        assert a == b != smile


async def test_special_tokens_are_marked(opened: Open) -> None:
    text = "<s>a"
    tokens = [Token(0, 1, "<s>", 0, 3, special=True), Token(1, 2, "a", 3, 4)]
    async with opened(prompt=text) as session:
        editor = session.app.editor
        editor.show_tokens(text, tokens, 1)
        line = editor.get_line(0)
        bold = [span for span in line.spans if not isinstance(span.style, str) and span.style.bold]
        assert [(span.start, span.end) for span in bold] == [(0, 3)]


def background(line: Text, index: int) -> str:
    """The background that wins at a character: the last one that was put there."""
    names = [
        span.style.bgcolor.name
        for span in line.spans
        if not isinstance(span.style, str)
        and span.style.bgcolor is not None
        and span.start <= index < span.end
    ]
    return names[-1]


async def test_only_what_is_seen_is_tinted_and_nobody_can_tell(opened: Open, monkeypatch) -> None:
    text = " ".join(f"word{i % 97}" for i in range(1500)) + "\nA second line\n" + "x " * 400
    async with opened(prompt=text) as session:
        editor, tokens = session.app.editor, tokenize(text)
        editor.show_tokens(text, tokens, 700)
        await session.settle()
        tinted = []
        real = PromptEditor._tint
        monkeypatch.setattr(
            PromptEditor, "_tint", lambda *given: (tinted.append(given[1]), real(*given))[1]
        )
        rows = editor.wrapped_document.height

        def drawn() -> list[object]:
            editor._line_cache.clear()
            return [editor.render_line(y) for y in range(editor.size.height)]

        for top in (0, 1, 40, rows // 2, rows - 3, rows - 1):
            editor.scroll_to(y=top, animate=False, force=True)
            await session.settle()
            seen = drawn()
            tinted.clear()
            assert drawn() == seen
            assert not tinted  # once for all rows of a line
            with monkeypatch.context() as patch:
                patch.setattr(PromptEditor, "_sight", lambda _: (0, len(text)))
                assert drawn() == seen
            whole = spans(editor)
            drawn()
            assert spans(editor) <= whole
            if top < rows // 2:  # in the long line, of which a part is on screen
                assert spans(editor) < whole / 3


def spans(editor: PromptEditor) -> int:
    return sum(len(line.spans) for line in editor._tinted.values())


@pytest.mark.slow
async def test_a_letter_on_a_row_that_is_new_is_seen_at_once(opened: Open) -> None:
    async with opened(prompt="stone " * 140) as session:
        editor = session.app.editor
        rows = editor.wrapped_document.height
        assert rows > editor.size.height, "it scrolls"
        letters = 0
        while editor.wrapped_document.height == rows:
            await session.press("x")
            letters += 1
            assert letters < 200
        top, here = editor.scroll_offset.y, editor._cursor_offset[1]
        assert top <= here < top + editor.size.height


async def test_many_rows_are_undone_though_the_scroll_bar_goes_first(opened: Open) -> None:
    async with opened(80, 24, prompt="a") as session:
        editor = session.app.editor
        session.app.post_message(Paste("row\n" * 300 + "end"))
        await session.settle()
        assert editor.text.endswith("end")
        await session.press("ctrl+z")
        assert editor.text == "a"
        await session.press("ctrl+y")
        assert editor.document.line_count == 301
