"""A run on the screen: its steps, prompts, maps over time, and what is missing."""

import json
import zlib
from contextlib import suppress
from time import perf_counter

import numpy as np
import pytest

from llmscope.errors import ScopeError
from llmscope.figure import TRAINING_STEP
from llmscope.runs import format as form
from llmscope.runs.reader import RunReader
from llmscope.runs.shard import pack, shard_bytes
from llmscope.runs.shipped import run_folder, shipped_runs
from llmscope.runs.writer import RunWriter
from llmscope.tui.actions.registry import BY_NAME, RUN_ACTIONS
from llmscope.tui.modes.mode import of_run
from llmscope.tui.modes.run.run_bar import RunBar
from llmscope.tui.modes.run.run_view import RunView
from tests.runs.making import figures, info, line, written
from tests.thinned import thinned
from tests.tui.modes.run.watching import watched


@pytest.fixture
def run(tmp_path):
    return written(tmp_path / "run")


async def test_it_opens_at_the_newest_step(run):
    async with watched(run) as screen:
        assert screen.moment.step == 4
        assert "step 40 of 40" in screen.bar
        assert "prompt 1/2" in screen.bar
        assert "newest" in screen.bar
        assert "loss 0.024" in screen.bar
        want = figures(40)["0/logit-lens:target"].values
        np.testing.assert_array_equal(screen.shown("map").values, want)
        assert screen.notices == []


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("keys", "step"),
    [
        (("comma",), 30),
        (("comma", "comma", "full_stop"), 30),
        (("home",), 0),
        (("home", "comma"), 0),
        (("home", "full_stop", "end"), 40),
        (("full_stop",), 40),
    ],
)
async def test_the_keys_of_the_slider(run, keys, step):
    async with watched(run) as screen:
        await screen.press(*keys)
        assert f"step {step} of 40" in screen.bar
        want = figures(step)
        np.testing.assert_array_equal(
            screen.shown("map").values, want["0/logit-lens:target"].values
        )
        np.testing.assert_array_equal(
            screen.shown("next-token").values, want["0/next-token"].values
        )
        np.testing.assert_array_equal(
            screen.shown("heads").values, want["model/heads:induction"].values
        )
        tokens = screen.shown("tokens").values
        np.testing.assert_array_equal(tokens, want["0/tokens"].values)
        assert not screen.app.waiting


async def test_the_next_prompt_at_the_same_step(run):
    async with watched(run) as screen:
        await screen.press("comma", "n")
        assert "prompt 2/2 · step 30 of 40" in screen.bar
        want = figures(30)["1/logit-lens:target"].values
        np.testing.assert_array_equal(screen.shown("map").values, want)
        await screen.press("n")
        assert "prompt 1/2" in screen.bar
        await screen.press("N")
        assert "prompt 2/2" in screen.bar


async def test_a_run_that_grows_is_followed_until_one_goes_back(run):
    async with watched(run) as screen:
        writer = RunWriter(run, info())
        writer.add(figures(50), line(50), began=perf_counter())
        await screen.poll()
        assert "step 50 of 50" in screen.bar
        want = figures(50)["0/next-token"].values
        np.testing.assert_array_equal(screen.shown("next-token").values, want)
        await screen.press("comma")
        writer.add(figures(60), line(60), began=perf_counter())
        await screen.poll()
        assert "step 40 of 60" in screen.bar
        await screen.press("end")
        assert "step 60 of 60" in screen.bar
        writer.add(figures(70), line(70), began=perf_counter())
        await screen.poll()
        assert "step 70 of 70" in screen.bar


async def test_the_maps_over_time(run):
    async with watched(run) as screen:
        await screen.press("2")
        key = "time-A-logit-lens-0"
        found = screen.shown(key)
        assert found.axes[1].name == TRAINING_STEP
        want = [figures(step)["0/logit-lens:target"].values[:, 3] for step in range(0, 50, 10)]
        np.testing.assert_array_equal(found.values, np.array(want).T)
        assert "Probability of ‹·e›" in screen.text
        await screen.press("left")  # a column is a step
        assert "step 30 of 40" in screen.bar
        await screen.press("right", "right")
        assert "step 40 of 40" in screen.bar
        curve = screen.shown("curve")
        want = [figures(step)["0/logit-lens:target"].values[-1, 3] for step in range(0, 50, 10)]
        np.testing.assert_allclose(curve.values, want)
        loss = screen.shown("logged")
        np.testing.assert_allclose(loss.values, [1 / (1 + step) for step in range(0, 50, 10)])


async def test_the_line_below_says_the_number_under_the_cursor(run):
    async with watched(run) as screen:
        await screen.press("2", "left", "up")
        want = figures(30)["0/logit-lens:target"].values[2, 3]
        said = f"step 30, layer 1: probability of ‹·e›: {100 * want:.1f} %"
        assert said in screen.text


async def test_the_curve_is_of_the_pane_that_had_the_focus_last(run):
    async with watched(run) as screen:
        await screen.press("2", "tab")
        follows = screen.app.grid.current
        assert follows != "time-A-logit-lens-0"
        await screen.settle()
        assert screen.shown("curve").title.startswith(("surprisal", "induction score"))


async def test_a_map_grows_with_the_run(run):
    async with watched(run) as screen:
        await screen.press("2")
        assert screen.shown("time-A-logit-lens-0").values.shape[1] == 5
        RunWriter(run, info()).add(figures(50), line(50), began=perf_counter())
        await screen.poll()
        assert screen.shown("time-A-logit-lens-0").values.shape[1] == 6
        assert not screen.app.waiting


async def test_it_plays_to_the_end_and_stops(run):
    async with watched(run) as screen:
        await screen.press("home", "space")
        assert "playing" in screen.bar
        playing = screen.app.mode.playing
        for _ in range(5):
            playing.go_on(screen.app)
        await screen.settle()
        assert "step 40 of 40" in screen.bar
        assert playing.timer is None
        assert "playing" not in screen.bar
        await screen.press("space")  # from the end it begins again
        assert "step 0 of 40" in screen.bar
        await screen.press("space")
        assert playing.timer is None


async def test_a_click_on_the_slider(run):
    async with watched(run) as screen:
        region = screen.app.query_one("#run-bar").region
        at = screen.bar.index("─")
        await screen.pilot.click(offset=(at, region.y))
        await screen.settle()
        assert "step 0 of 40" in screen.bar
        middle = (screen.bar.index("●") + screen.bar.rindex("─")) // 2
        await screen.pilot.click(offset=(middle, region.y))
        await screen.settle()
        assert "step 20 of 40" in screen.bar


async def test_what_is_damaged_is_told_once_and_the_rest_is_shown(run):
    shard = sorted((run / form.SHARDS).iterdir())[2]
    shard.write_bytes(b"x" * shard.stat().st_size)
    async with watched(run) as screen:
        await screen.press("comma", "comma")
        assert "step 20 of 40" in screen.bar
        assert "step 20 is left out" in screen.text
        assert "its checksum differs" in screen.shown("map").verdict.reason
        await screen.poll()
        assert len([one for one in screen.notices if "step 20" in one]) == 1
        await screen.press("comma")
        want = figures(10)["0/next-token"].values
        np.testing.assert_array_equal(screen.shown("next-token").values, want)
        await screen.press("2")
        assert np.isnan(screen.shown("time-A-logit-lens-0").values[:, 2]).all()
        await screen.press("d", "p")
        assert "checksum" in screen.text


async def test_a_damaged_newest_step_is_no_obstacle(run):
    shards = sorted((run / form.SHARDS).iterdir())
    shards[-1].write_bytes(b"x")
    shards[1].unlink()
    async with watched(run) as screen:
        assert "step 40 of 40" in screen.bar
        assert screen.shown("map").verdict.status == "refused"
        await screen.press("comma")
        want = figures(30)["0/logit-lens:target"].values
        np.testing.assert_array_equal(screen.shown("map").values, want)
        await screen.press("comma", "comma", "n")  # a prompt first seen where its step is missing
        assert "prompt 2/2 · step 10" in screen.bar
        await screen.press("comma")
        want = figures(0)["1/logit-lens:target"].values
        np.testing.assert_array_equal(screen.shown("map").values, want)


async def test_an_index_that_shrinks_leaves_what_is_shown(run):
    async with watched(run) as screen:
        (run / form.INDEX).write_bytes(b"")
        await screen.poll()
        await screen.press("comma", "2")
        assert "step 30 of 40" in screen.bar
        assert any("open it again" in one for one in screen.notices)


async def test_two_runs_with_other_targets_share_no_plot(tmp_path):
    one = written(tmp_path / "one")
    other = written(tmp_path / "other")
    record = json.loads((other / form.INFO).read_text())
    record["prompts"][0]["target"] = " z"
    (other / form.INFO).write_text(json.dumps(record))
    async with watched(one, other) as screen:
        await screen.press("3")
        assert screen.shown("curve").axes[0].name == TRAINING_STEP
        assert screen.shown("logged").axes[0].labels == ("A one", "B other")


HOSTILE = {
    "axes": (5, ["x"], [{"name": "layer"}], [{"name": "layer", "labels": [1]}]),
    "extra.target": (["x"], 5),
    "extra.target_probability": ("x", [1], 10**30),
    "verdict": (5, {"status": "x"}, None),
    "title": (5, "[bold]x" * 100),
    "extra.names": (5, {"x": 1}),
    "kind": ("x", 7),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("entry", thinned(HOSTILE, lambda entry: entry in ("axes", "title")))
async def test_a_hostile_run_ends_in_a_line_or_a_refusal(tmp_path, entry):
    for at, value in enumerate(HOSTILE[entry]):
        for first in (True, False):
            run = written(tmp_path / f"{at}-{first}", steps=(0, 10))
            base = {key: pack(figure) for key, figure in figures(0).items()}
            if first:
                for packed in base.values():
                    packed.entries[entry] = value
                (run / form.BASE).write_bytes(shard_bytes(base, {}))
            else:
                own = {key: pack(figure) for key, figure in figures(10).items()}
                for packed in own.values():
                    packed.entries[entry] = value
                data = shard_bytes(own, base)
                (run / form.SHARDS / "00000010.safetensors").write_bytes(data)
                lines = (run / form.INDEX).read_text().splitlines()
                record = json.loads(lines[-1]) | {"size": len(data), "crc": zlib.crc32(data)}
                (run / form.INDEX).write_text("\n".join([*lines[:-1], json.dumps(record), ""]))
            with suppress(ScopeError):  # one line, which other tests hold to
                async with watched(run) as screen:
                    await screen.press("comma", "full_stop", "2", "left", "up", "n", "d", "p")
                    assert screen.app.is_running


async def test_a_lens_may_be_named_anything(tmp_path):
    run = written(tmp_path / "run")
    text = (run / form.INFO).read_text().replace('"lens":"tokens"', '"lens":"[b]a b/\\u001b.#"')
    (run / form.INFO).write_text(text)
    async with watched(run) as screen:
        await screen.press("2", "comma")
        assert "\x1b" not in screen.text


async def test_two_runs_beside_each_other(tmp_path):
    one = written(tmp_path / "one")
    other = written(tmp_path / "other", steps=(0, 15, 30))
    async with watched(one, other) as screen:
        titles = [page.title for page in screen.app.mode.workspaces]
        assert titles[:2] == ["At the step of one", "At the step of other"]
        await screen.press("comma", "comma")  # step 20; the other's latest is 15
        assert "step 20 of 40" in screen.bar
        await screen.press("2")
        shown = screen.app.grid.on_screen
        key = next(key for key in shown if "map" in key)
        want = figures(15)["0/logit-lens:target"].values
        np.testing.assert_array_equal(screen.shown(key).values, want)
        await screen.press("3")
        loss = screen.shown("logged")
        assert loss.axes[0].labels == ("A one", "B other")


async def test_two_runs_of_other_prompts_are_refused(tmp_path):
    one = written(tmp_path / "one")
    other = written(tmp_path / "other", prompts=1)
    with pytest.raises(ScopeError, match="different prompts"):
        RunView([RunReader(one), RunReader(other)])


async def test_a_run_without_a_step_waits(tmp_path):
    run = written(tmp_path / "run")
    (run / form.INDEX).unlink()
    with pytest.raises(ScopeError, match="no recorded step yet"):
        RunView([RunReader(run)])


async def test_what_needs_a_model_is_refused_and_says_so(run):
    async with watched(run) as screen:
        await screen.press("x")
        assert any("recorded run: there is no model" in one for one in screen.notices)
        await screen.press("e", "a")
        assert screen.app.editor.text == "a b c d"


async def test_every_key_of_the_run_is_free_on_this_screen(run):
    async with watched(run) as screen:
        keymap = screen.app.user.keymap
        taken = [key for one in RUN_ACTIONS for key in keymap.keys(one)]
        assert len(taken) == len(set(taken)) == len(RUN_ACTIONS)
        assert all(of_run(name) == (one in RUN_ACTIONS) for name, one in BY_NAME.items())
        others = [one for one in BY_NAME.values() if one not in RUN_ACTIONS]
        assert not {key for one in others for key in keymap.keys(one)} & set(taken)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("width", "height", "plain"),
    [(80, 24, False), (200, 60, False), (80, 24, True), (40, 10, False), (20, 6, True)],
)
async def test_all_sizes(run, width, height, plain):
    async with watched(run, width=width, height=height, plain=plain) as screen:
        for keys in (("comma",), ("2",), ("left", "up", "down"), ("m",), ("n",)):
            await screen.press(*keys)
        if plain:
            assert screen.text.isascii()
        if height > 11:
            assert "step" in screen.bar


async def test_the_shipped_run():
    assert shipped_runs() == ("town-run",)
    async with watched(run_folder("builtin:town-run")) as screen:
        assert "dpo 100" in screen.bar
        for _ in range(3):
            await screen.press("p", "t", "n", "comma")
        assert screen.notices == []
    with pytest.raises(ScopeError, match=r"there is no builtin:town-rum"):
        run_folder("builtin:town-rum")


async def test_the_largest_jump_of_a_row_is_said_with_its_stage():
    async with watched(run_folder("builtin:town-run"), width=160) as screen:
        await screen.press("escape", "2")
        pane = screen.app.grid.pane
        figure = pane.shown.figure
        row = figure.values[figure.axes[0].labels.index("5")].astype(float)
        at = int(np.nanargmax(np.abs(np.diff(row))))
        said = f"largest jump {100 * row[at]:.0f} → {100 * row[at + 1]:.0f} % between steps "
        assert said + "240 and 320 of corpus" in screen.text
        start = next(line.start for line in pane.view.main.steps if line.stage == "corpus")
        steps = [int(step) - start for step in figure.extra["steps"][at : at + 2]]
        assert steps == [240, 320]


async def test_foreign_text_is_never_markup(tmp_path):
    evil = "[bold red]x[/] \x1b[31m‮"
    told = info(prompts=1)
    prompt = told.prompts[0].__class__(
        text=evil,
        ids=told.prompts[0].ids,
        labels=(evil, "[/]", " c", " d"),
        special=told.prompts[0].special,
        target=evil,
    )
    folder = tmp_path / "[bold]run[/]"
    writer = RunWriter(
        folder,
        told.__class__(
            llmscope=evil,
            model={**told.model, "spec": evil},
            versions={},
            prompts=(prompt,),
            figures=told.figures,
        ),
    )
    writer.add(figures(0, prompts=1), line(0, name=evil, scalars={evil: 1.0}), began=perf_counter())
    async with watched(folder) as screen:
        await screen.press("2", "d", "p", "escape", "s", "escape")
        assert "\x1b" not in screen.text
        assert "‮" not in screen.text


async def test_the_line_below_is_of_each_prompts_own_mode():
    async with watched(run_folder("builtin:town-run")) as screen:
        assert "the lens gives ‹·calf›" in screen.text
        await screen.press("n")
        assert "the lens gives ‹·fep›" in screen.text


async def test_a_prompt_without_a_target_after_one_with(tmp_path):
    run = written(tmp_path / "run")
    for name in (form.INFO, form.BASE):
        data = (run / name).read_bytes()
        if name == form.INFO:
            record = json.loads(data)
            for one in record["figures"]:
                if one["key"] == "1/logit-lens:target":
                    one["mode"] = "top"
            (run / name).write_text(json.dumps(record))
    async with watched(run) as screen:
        await screen.press("n")
        assert "the lens reads ‹·t1›" in screen.text


@pytest.mark.parametrize("plain", [False, True])
async def test_stages_are_named_separators_on_the_slider_and_over_the_maps(plain):
    begin = "|" if plain else "│"
    run = RunReader(run_folder("builtin:town-run"))
    stages = list(dict.fromkeys(line.stage for line in run.steps))
    assert len(stages) > 3
    async with watched(run_folder("builtin:town-run"), width=160, plain=plain) as screen:
        slider = screen.bar
        places = [slider.find(f"{begin}{stage}") for stage in stages]
        named = [place for place in places if place >= 0]
        assert len(named) >= 3
        assert named == sorted(named)
        start, length = screen.app.screen_stack[0].query_one(RunBar)._track
        track = slider[start + 1 : start + 1 + length]
        assert track.count(begin) >= len(stages) - 1, "the knob may stand on one"
        await screen.press("2")
        assert screen.app.grid.workspace.title.startswith("Over time")
        heads = [row for row in screen.rows if f"{begin}{stages[1]}" in row and "layer" in row]
        assert heads, "the columns of a map"
        for stage in stages[1:3]:
            assert f"{begin}{stage}" in heads[0]
