"""A person's own keys: what a config file may say, and what the screen makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmscope.tui.actions.registry import ACTIONS, BY_NAME
from llmscope.tui.actions.user_keymap import Keymap, key_for, keymap_from, read_keymap
from llmscope.tui.dialogs.help import HelpScreen
from llmscope.tui.user_state import UserState
from tests.tui.conftest import PROMPT, Open


def chosen(**keys: object) -> Keymap:
    return keymap_from({"keys": {name.replace("_", "-"): value for name, value in keys.items()}})


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("?", "question_mark"),
        ("y", "y"),
        ("G", "G"),
        ("Ctrl+y", "ctrl+y"),
        ("ctrl+[", "ctrl+left_square_bracket"),
        ("F2", "f2"),
        ("esc", "escape"),
        ("ctrl+i", "tab"),
        ("left_square_bracket", "left_square_bracket"),
        ("+", "plus"),
        ("shift+left", "shift+left"),
        ("ecsape", None),
        ("ctlr+y", None),
        ("ctrl+", None),
        ("ctrl", None),
        ("\x1b", None),
    ],
)
def test_keys_as_a_person_writes_them(written: str, key: str | None) -> None:
    assert key_for(written) == key


def test_every_key_of_the_registry_can_be_written() -> None:
    for action in ACTIONS:
        for key in action.keys:
            assert key_for(key) == key, action.name


def test_a_chosen_key_takes_the_place_of_the_registrys() -> None:
    keymap = chosen(copy="ctrl+e, f10")
    assert keymap.notice == ""
    assert keymap.keys(BY_NAME["copy"]) == ("ctrl+e", "f10")
    others = [action for action in ACTIONS if action.name != "copy"]
    assert all(keymap.keys(action) == action.keys for action in others)


@pytest.mark.parametrize(
    ("name", "keys", "told"),
    [
        ("cpoy", "y", "no action 'cpoy', nearest is copy"),
        ("copy", "ecsape", "no key 'ecsape' for copy, nearest is escape"),
        ("copy", 3, 'the keys of copy are text: "key,key"'),
        ("copy", "x", "x is copy now, and no longer edit-zero"),
        ("figures", "x", "x is text in the prompt, so it cannot be figures"),
        ("edit", "", "edit needs a key"),
        ("copy", "ctrl+q", "quit-anywhere needs ctrl+q: give it another"),
        ("\x1b[31m", "y", "no action"),
    ],
)
def test_what_is_wrong_is_told_and_costs_that_line(name: str, keys: object, told: str) -> None:
    keymap = keymap_from({"keys": {"find": "f", name: keys}})
    assert keymap.notice.startswith("config.toml: ")
    assert told in keymap.notice
    assert "\n" not in keymap.notice
    assert "\x1b" not in keymap.notice
    assert keymap.keys(BY_NAME["find"]) == ("f",)
    for needed in ("figures", "edit", "quit-anywhere"):
        assert keymap.keys(BY_NAME[needed]), needed


def test_of_two_chosen_actions_the_first_has_the_key() -> None:
    keymap = chosen(copy="n,N", find="n,f")
    assert "copy and find both want n: copy has it" in keymap.notice
    assert keymap.keys(BY_NAME["copy"]) == ("n", "N")
    assert keymap.keys(BY_NAME["find"]) == ("f",)


def test_actions_may_swap_their_keys_without_a_notice() -> None:
    keymap = chosen(copy="t", menu_target="y")
    assert keymap.notice == ""
    assert keymap.keys(BY_NAME["menu-target"]) == ("y",)


def test_one_key_may_do_one_thing_in_the_prompt_and_another_in_the_figures() -> None:
    keymap = chosen(maximize="escape", cancel="f10")
    assert keymap.notice == ""
    assert keymap.keys(BY_NAME["figures"]) == ("escape",)


def test_many_flaws_are_still_one_notice() -> None:
    keymap = keymap_from({"keys": {f"none{n}": "y" for n in range(9)}})
    assert "and 5 more" in keymap.notice


@pytest.mark.parametrize(
    ("content", "told"),
    [("[keys", "config.toml: "), ("keys = 3", "keys is a section"), ("\xff", "config.toml: ")],
)
def test_a_broken_file_leaves_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, told: str
) -> None:
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path))
    assert read_keymap() == Keymap()
    (tmp_path / "config.toml").write_bytes(content.encode("latin-1"))
    keymap = read_keymap()
    assert told in keymap.notice
    assert not keymap.chosen


def test_the_file_is_where_themes_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMSCOPE_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "llmscope").mkdir()
    (tmp_path / "llmscope" / "config.toml").write_text('[keys]\ncopy = "Y"\n')
    assert read_keymap().keys(BY_NAME["copy"]) == ("Y",)


async def test_the_screen_obeys_and_shows_the_chosen_keys(opened: Open) -> None:
    keymap = chosen(
        map_view="f5",
        token_left="f12",
        token_right="f10",
        figures="ctrl+b",
        pane_mlp="percent_sign",
        edit="ctrl+e",
    )
    assert keymap.notice == ""
    async with opened(200, 60, user=UserState(keymap=keymap)) as session:
        app = session.app
        assert "ctrl+b leave prompt" in session.screen_text().split("\n")[-1]
        await session.press("percent_sign", "escape")
        assert app.text == PROMPT + "%"
        assert app.focused is app.editor
        await session.press("ctrl+b", "f12", "f5", "v")
        assert app.state.focus.position == 4, "of 0 to 5"
        assert app.state.view == 1
        footer = session.screen_text().split("\n")[-1]
        assert footer.startswith(" f12 f10 token")
        await session.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        rows = app.screen.page().plain.split("\n")
        assert any(row.split()[:4] == ["f5", "d", "d", "next"] for row in rows)
        await session.press("escape", "percent_sign")
        assert app.focused is app.grid.panes["mlp"]
        await session.press("ctrl+e")
        assert app.focused is app.editor
        await session.press("ctrl+p", *"next view")
        assert " f5 " in session.screen_text()


async def test_what_is_wrong_in_the_file_is_one_notice(opened: Open) -> None:
    async with opened(user=UserState(keymap=chosen(cpoy="y", find="ctrl+ö+"))) as session:
        told = [notice.message for notice in session.app._notifications]
        assert len(told) == 1
        assert "nearest is copy" in told[0]
