"""The replayed screen against what wrote the file: pictures, places, keys, what is saved."""

import asyncio
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len

import llmscope
from llmscope.figure import Focus
from llmscope.lenses import lens, names
from llmscope.tui.actions.registry import EVERY, REPLAY_ACTIONS
from llmscope.tui.modes import mode
from llmscope.tui.modes.replay.reader import read_snapshot
from llmscope.tui.modes.replay.screen import replay_app
from llmscope.tui.panes import pane_classes
from llmscope.tui.user_state import UserState
from tests.cli.running import run
from tests.tui.modes.replay.conftest import FIVE
from tests.tui.modes.replay.replaying import replayed, taken
from tests.tui.real import answered, screen


def give_room(overview, key):
    overview.enter(key)
    if overview.on_screen != (key,):
        overview.maximize()


SLOW = (".json", ".npz")


async def pictures(path, keys, *, tier="none"):
    """Each pane with all the room, and how large that is."""
    async with replayed(path, tier=tier) as shown:
        found = {}
        for key in keys:
            give_room(shown.app.grid, key)
            await shown.press()
            assert shown.app.grid.on_screen == (key,)
            found[key] = shown.pane(key)
        return found


def printed(lens, rows, *options):
    """The same figure as `snapshot --format txt` draws it in as many cells."""
    size = f"{cell_len(rows[0])}x{len(rows)}"
    asked = ("snapshot", "builtin:sort", "--prompt", "CABACB", "--lens", lens, *options)
    result = run(*asked, "--format", "txt", "--size", size)
    assert result.exit_code == 0, result.output
    return [line.rstrip() for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    "suffix", [".safetensors", *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)]
)
async def test_a_pane_is_the_picture_that_a_snapshot_prints(five, suffix):
    keys = {"tokens": "tokens", "map": "logit-lens", "next-token": "next-token"}
    # The second map has no pane of its own in the live screen.
    keys |= {"attention": "attention", "figure-4-map": "residual"}
    found = await pictures(five[suffix], keys)
    assert [*keys.values()] == [*FIVE]
    for key, lens_name in keys.items():
        places = lens(lens_name).uses_in("") | lens(lens_name).marked_in("")
        given = {"layer": 1, "head": 2}.items()
        options = [word for name, at in given if name in places for word in (f"--{name}", at)]
        wanted = printed(lens_name, found[key], *options)
        assert [row.rstrip() for row in found[key]] == wanted


async def test_a_pane_is_that_of_the_live_screen(five):
    keys = ("map", "next-token", "attention", "tokens")
    found = await pictures(five[".npz"], keys, tier="truecolor")
    scope = llmscope.load("builtin:sort")
    async with screen(scope, "CABACB") as (app, pilot):
        app.look_at(replace(app.state, view=0).move_to(layer=1, head=2))
        for key, rows in found.items():
            give_room(app.grid, key)
            await answered(app, pilot)
            region = app.grid.panes[key].region
            strips = app.screen._compositor.render_strips()[region.y : region.bottom]
            live = [
                "".join(part.text for part in strip)[region.x : region.right] for strip in strips
            ]
            assert live[1:] == rows[1:]  # but for the title, which is the snapshot's


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (200, 60), (58, 14)])
async def test_it_says_what_it_is(five, size):
    async with replayed(five[".safetensors"], *size) as shown:
        first = shown.rows[0]
        assert first.startswith(" builtin:sort")
        assert "replay" in first
        if size[0] >= 80:
            assert "a.safetensors" in first
            assert llmscope.__version__ in first
        if size[0] >= 120:
            assert "float32 · cpu" in first
        assert "CABACB" in shown.text
        assert not any(pane.stale for pane in shown.app.grid.panes.values())
        assert [cell_len(row) for row in shown.rows] == [size[0]] * size[1]


@pytest.mark.parametrize("size", [(120, 40), pytest.param((200, 60), marks=pytest.mark.slow)])
async def test_every_figure_has_a_pane(tmp_path, size):
    path = taken(tmp_path / "all.npz", *names(), options=("--versus-prompt", "BACABC"))
    seen = set()
    async with replayed(path, *size) as shown:
        overview = shown.app.grid
        for page in overview.workspaces:
            overview.open(page)
            await shown.press()
            for key in overview.on_screen:
                body = "".join(row[1:-1] for row in shown.pane(key)[1:-1])
                assert body.strip(), f"{key} is empty"
                held = getattr(overview.panes[key], "held", None)
                seen |= set() if held is None else {held.figure.lens}
        assert seen == {*names()}
        assert "BACABC" in (await _page(shown, "1"))


async def _page(shown, key):
    await shown.press(key)
    return shown.text


async def test_the_cursor_goes_as_far_as_the_figures(five):
    async with replayed(five[".safetensors"]) as shown:
        title = "Attention · layer 1 head 2"
        assert title in shown.text
        assert "next ‹A›" in shown.text
        await shown.press("left")
        assert shown.app.state.focus.position == 4
        assert "not in this snapshot: next-token at token 4 ‹C›" in _flat(shown, "next-token")
        assert "next ‹" not in shown.text
        assert title in shown.text
        await shown.press("up")
        told = _flat(shown, "attention")
        assert (
            "not in this snapshot: attention at layer 0, head 2; it holds layer 1, head 2" in told
        )
        await shown.press("right_square_bracket")  # the last head there is
        await shown.press("down", "end")
        assert title in shown.text
        assert "not in this snapshot" not in shown.text


def _flat(shown, key):
    return " ".join("".join(row[1:-1] for row in shown.pane(key)[1:-1]).split())


async def test_the_prompt_is_read_only(five):
    async with replayed(five[".safetensors"]) as shown:
        await shown.press("e")
        assert shown.app.in_prompt
        await shown.press("x", "backspace", "enter", "ctrl+w")
        assert shown.app.editor.text == "CABACB"
        assert [text for text in shown.notices if "read only" in text] == [shown.notices[-1]]
        await shown.press("left")  # to walk through it moves the cursor of the figures
        assert shown.app.state.focus.position < 5


async def test_keys_that_come_before_the_figures_wait_for_them(five):
    app = replay_app(read_snapshot(five[".npz"]))
    app.user = replace(app.user, typed="p")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("m")
        async with asyncio.timeout(60):
            while not app.grid.maximized:
                await pilot.pause()
        assert app.text == "CABACB"


async def test_what_needs_a_model_is_refused(five):
    async with replayed(five[".safetensors"]) as shown:
        before = shown.app.state
        for key in ("x", "w", "M", "X", "c", "b", "t", "space", "ctrl+r"):
            shown.app.clear_notifications()
            await shown.pilot.press(key)
            assert shown.app.state == before
            assert len(shown.app.screen_stack) == 1
            assert [text for text in shown.notices if "there is no model for" in text], key


async def test_palette_and_help_offer_what_works(five):
    from llmscope.tui.dialogs.command_palette import entries

    async with replayed(five[".safetensors"]) as shown:
        titles = [entry.title for entry in entries(shown.app)]
        assert "snapshot: where it came from" in titles
        assert "workspace: Snapshot" in titles
        absent = ("what if", "generation", "model", "compare", "Map")
        assert not any(title.startswith(absent) for title in titles)
        await shown.press("question_mark")
        assert "When does it know?" in shown.text
        await shown.press("end")
        assert "write" not in shown.text


async def test_it_tells_where_it_came_from(five):
    async with replayed(five[".safetensors"]) as shown:
        await shown.press("d", "p")
        origin = json.loads(five[".safetensors"].with_suffix(".json").read_text())["provenance"]
        for text in (*origin["model"]["weights"], "float32", "sdpa", origin["torch"]):
            assert text in shown.text
        await shown.press("escape")
        assert len(shown.app.screen_stack) == 1


async def test_a_live_screen_has_no_provenance_of_a_file():
    scope = llmscope.load("builtin:sort")
    async with screen(scope, "CAB") as (app, pilot):
        await pilot.press("escape", "d", "p")
        await pilot.pause()
        assert len(app.screen_stack) == 1
        assert not UserState().mode.offers("provenance")


async def test_what_is_saved_is_of_the_model_that_made_it(five, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = json.loads(five[".json"].read_text())
    record["llmscope"], record["model"]["device"] = "9.9.9", "cuda:1"
    (tmp_path / "their.json").write_text(json.dumps(record))
    async with replayed(tmp_path / "their.json") as shown:
        shown.app.grid.enter("attention")
        await shown.press("s")
        shown.app.screen.query_one("#line").value = "one.json"
        await shown.press("enter")
        saved = json.loads((tmp_path / "one.json").read_text())
        assert saved.pop("figures") == [record["figures"][FIVE.index("attention")]]
        assert saved == {key: value for key, value in record.items() if key != "figures"}
        await shown.press("g", "k", "s")
        assert "nothing to save: not in this snapshot" in shown.notices[-1]
        copied = []
        monkeypatch.setattr(shown.app, "copy_to_clipboard", copied.append)
        await shown.press("y", "c")
        assert copied == [record["provenance"]["command"]]


@pytest.mark.parametrize("size", [pytest.param((120, 40), marks=pytest.mark.slow), (200, 60)])
async def test_edits_are_told(tmp_path, size):
    options = ["--edit", "zero head 1.0", "--edit", "scale mlp 2 0.5", "--change"]
    path = taken(tmp_path / "e.json", *FIVE, options=[*options, "--versus-prompt", "BACABC"])
    async with replayed(path, *size) as shown:
        assert "builtin:sort · 2 edits" in shown.rows[0]
        assert "zero head 1.0" in shown.text
        assert "BACABC" in shown.text
        assert "by edits" in shown.text


async def test_the_walk_goes_through_the_steps_that_are_there(tmp_path):
    path = taken(tmp_path / "w.json", "walkthrough", options=("--layer", 1))
    async with replayed(path) as shown:
        assert "Step 0 of" in shown.text
        for _ in range(40):  # without waiting for each
            shown.app.action_act("down")
        await shown.press()
        steps = shown.app.grid.panes["walkthrough"].steps
        assert shown.app.state.step == len(steps) - 1 > 20
        assert f"Step {len(steps) - 1} of" in shown.text


async def test_q_leaves(five):
    async with replayed(five[".safetensors"]) as shown:
        await shown.press("q")
    assert shown.app.return_value == 0


def test_each_mode_that_a_pane_shows_is_one_of_its_lens():
    for pane in pane_classes().values():
        for name, modes in pane.snapshot_modes().items():
            assert {*modes} <= {"", *lens(name).modes}
    assert Focus().mode == ""


def test_the_keys_of_a_replay_are_no_other_actions():
    places = [(action.menu, action.letter) for action in EVERY if action.menu]
    assert len(places) == len(set(places))
    assert {action.name for action in REPLAY_ACTIONS} == mode.REPLAY_ACTIONS


async def test_the_mouse_goes_where_the_keys_go(five):
    async with replayed(five[".safetensors"]) as shown:
        await shown.pilot.click("#map", offset=(24, 4))
        await shown.press()
        scene = shown.app.state
        assert (scene.focus.layer, scene.focus.position) != (1, 5)
        assert "not in this snapshot" in shown.text
        await shown.pilot.click("#next-token", offset=(5, 3))  # where there is a sentence
        await shown.press()
        assert shown.app.state.focus == scene.focus
        await shown.pilot.click("#prompt", offset=(4, 1))
        await shown.press("x")
        assert shown.app.editor.text == "CABACB"


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        ("top", ("Jacobian lens", "5*", "2!", "doubtful")),
        ("lenses", ("side by side", "logit", "Jacobian", "Tuned")),
        ("slope", ("Jacobian lens against the model", "lens ", "the sign agrees")),
    ],
)
async def test_figures_of_learned_lenses(tmp_path, mode, seen):
    options = ("--mode", mode, "--translator", "jacobian", "--position", "-1", "--format", "json")
    path = taken(
        *(tmp_path / "lens.json", "logit-lens"),
        model="builtin:town",
        prompt="cat -> kitten, cow ->",
        options=options,
    )
    async with replayed(path) as screen:
        for words in seen:
            assert words in screen.text
        await screen.press("d", "l", "d", "d", "down")
        assert seen[0] in screen.text
