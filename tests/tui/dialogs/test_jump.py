"""Jump: a letter on each border, and where it leads."""

from __future__ import annotations

import pytest

from llmscope.tui.dialogs.jump import LETTERS, MESSAGE, JumpScreen, letters
from llmscope.tui.state.workspaces import WORKSPACES, Workspace
from tests.tui.conftest import PROMPT, Open, Session


def shown_at(session: Session) -> dict[str, str]:
    """What stands at the corner of each place on screen."""
    rows = session.screen_text().split("\n")
    overview = session.app.grid
    places = {"prompt": session.app.editor, **{k: overview.panes[k] for k in overview.on_screen}}
    corners = {key: widget.region.offset for key, widget in places.items()}
    return {key: rows[corner.y][corner.x : corner.x + 3] for key, corner in corners.items()}


@pytest.mark.parametrize("workspace", WORKSPACES, ids=lambda one: one.name)
def test_each_place_of_a_workspace_has_a_letter_of_its_own(workspace: Workspace) -> None:
    found = [LETTERS[key] for key in ("prompt", "prompt b", *workspace.panes)]
    assert len(set(found)) == len(found)
    assert not set(found) & set("0123456789"), "digits lead to the workspaces"


def test_letters_are_initials_where_possible() -> None:
    overview = {key: LETTERS[key] for key in ("prompt", *WORKSPACES[0].panes)}
    assert overview == {
        "prompt": "p",
        "map": "m",
        "next-token": "n",
        "attention": "a",
        "mlp": "l",
        "tokens": "t",
    }


def test_after_the_last_letter_come_digits() -> None:
    found = letters({str(number): "x" for number in range(30)})
    assert len(set(found.values())) == 30
    assert found["29"] == "3"
    assert LETTERS[MESSAGE] == "m", "it stands where there is no map"


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("size", "places"),
    [
        ((40, 10), {"prompt": " p ", "next-token": " n "}),
        ((80, 24), {"prompt": " p ", "map": " m ", "next-token": " n "}),
        (
            (120, 40),
            {"prompt": " p ", "map": " m ", "next-token": " n ", "attention": " a ", "mlp": " l "},
        ),
        (
            (200, 60),
            {
                "prompt": " p ",
                "map": " m ",
                "next-token": " n ",
                "attention": " a ",
                "mlp": " l ",
                "tokens": " t ",
            },
        ),
    ],
)
async def test_letters_stand_on_the_borders_and_lead_there(
    opened: Open, size: tuple[int, int], places: dict[str, str]
) -> None:
    async with opened(*size) as session:
        app = session.app
        for key, label in places.items():
            await session.press("escape", "p", "p")
            assert shown_at(session) == places
            await session.press(label.strip())
            wanted = app.editor if key == "prompt" else app.grid.panes[key]
            assert app.focused is wanted
        assert app.text == PROMPT


async def test_any_other_key_leaves_everything_as_it_was(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "p", "p", "q")
        assert app.is_running
        assert len(app.screen_stack) == 1
        assert app.focused is app.grid.panes["map"]
        await session.press("p", "p", "escape")
        assert app.focused is app.grid.panes["map"]
        assert " m " not in shown_at(session).values()


async def test_a_semicolon_is_text_in_the_prompt(opened: Open) -> None:
    async with opened() as session:
        await session.press("semicolon")
        assert session.app.text == PROMPT + ";"
        assert len(session.app.screen_stack) == 1


async def test_another_size_takes_the_letters_away(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "p", "p")
        assert isinstance(session.app.screen, JumpScreen)
        await session.pilot.resize_terminal(80, 24)
        await session.settle()
        assert len(session.app.screen_stack) == 1


async def test_an_empty_prompt_has_the_message_to_go_to(opened: Open) -> None:
    async with opened(prompt="") as session:
        session.app.action_act("jump")
        await session.settle()
        await session.press(LETTERS[MESSAGE])
        assert session.app.focused is session.app.placeholder
