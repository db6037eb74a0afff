"""What is read of a file; what is broken or hostile is one line and harms no screen."""

import json
import time

import numpy as np
import pytest

import llmscope
from llmscope.engine.events import tokens_of
from llmscope.errors import ScopeError
from llmscope.export import save
from llmscope.figure import Axis, Figure
from llmscope.tui.modes.replay.reader import read_snapshot
from llmscope.tui.modes.replay.screen import facts
from tests.cli.running import failure, run
from tests.lenses.asked import options_for
from tests.tui.modes.replay.replaying import replayed, taken


def changed(source, change, name="changed.json"):
    """A copy of a JSON snapshot that was changed."""
    record = json.loads(source.read_text())
    change(record)
    copy = source.with_name(name)
    copy.write_text(json.dumps(record))
    return copy


def put(*path):
    """Puts the last of its arguments where the others lead."""
    *keys, last, value = path

    def change(record):
        for key in keys:
            record = record[key]
        record[last] = value

    return change


def told(path):
    line = failure("replay", path)
    assert line.count("\n") == 1
    assert "\x1b" not in line
    return line


@pytest.mark.parametrize("name", ["a.safetensors", "a.json"])
def test_either_file_of_a_pair(five, name):
    pair = five[".safetensors"]
    found, other = read_snapshot(pair.with_name(name)), read_snapshot(five[".npz"])
    assert (found.text, found.tokens, found.info) == (other.text, other.tokens, other.info)
    for one, figure in zip(found.figures, other.figures, strict=True):
        assert one.title == figure.title
        np.testing.assert_array_equal(one.values, figure.values)


@pytest.mark.parametrize("suffix", [".json", ".npz", ".safetensors"])
def test_figures_are_as_a_lens_gave_them(five, suffix):
    """Names by id, single numbers as numbers: what drawing and the line in words rely on."""
    scope = llmscope.load("builtin:sort")
    recording = scope.record("CABACB", fresh=True)
    for figure in read_snapshot(five[suffix]).figures:
        places = options_for(figure.lens, layer=1, head=2)
        live = scope.look(figure.lens, recording=recording, **places)
        np.testing.assert_array_equal(figure.values, live.values)
        assert (figure.axes, figure.title, figure.verdict.status) == (
            *(live.axes, live.title),
            live.verdict.status,
        )
        assert figure.extra.keys() == live.extra.keys()
        for name, value in live.extra.items():
            kept = figure.extra[name]
            if isinstance(value, int | str | dict) or value is None:
                assert kept == value, name
                assert not isinstance(kept, np.ndarray)
            elif not isinstance(value, float):
                assert np.allclose(kept, np.asarray(value), equal_nan=True), name


@pytest.mark.parametrize(
    ("model", "prompt"),
    [("builtin:town", "cat -> kitten, dog -> puppy, cow, horse"), ("builtin:sort", "CAB")],
)
def test_tokens_are_at_their_places_in_the_text(tmp_path, model, prompt):
    found = read_snapshot(taken(tmp_path / "t.json", "tokens", model=model, prompt=prompt))
    assert found.text == prompt
    assert found.tokens == tokens_of(llmscope.load(model).record(prompt))


def test_tokens_after_a_word_that_the_model_does_not_know(tmp_path):
    prompt = "cat -> zebra, Ω  cow"
    found = read_snapshot(taken(tmp_path / "t.json", "tokens", model="builtin:town", prompt=prompt))
    spans = {token.text: prompt[token.start : token.end] for token in found.tokens}
    assert spans[" cat"] == "cat"
    assert spans[" ->"] == " ->"
    assert spans[","] == ","
    assert spans[" cow"].strip() == "cow"
    assert all(word.strip() in ("", "zebra", "Ω") for text, word in spans.items() if "<" in text)


def test_a_prompt_that_is_known_by_its_ids(tmp_path):
    path = tmp_path / "ids.npz"
    result = run("snapshot", "builtin:sort", "--ids", "2,0,1", "--lens", "tokens", "--out", path)
    assert result.exit_code == 0
    found = read_snapshot(path)
    assert found.text == "CAB"
    assert [(t.start, t.end) for t in found.tokens] == [(0, 1), (1, 2), (2, 3)]


async def test_without_the_tokens_a_map_has_their_names_all_the_same(tmp_path):
    path = taken(tmp_path / "map.json", "residual")
    async with replayed(path) as shown:
        assert "Residual stream" in shown.text
        assert "surprisal" not in shown.text
        assert "13.9" not in shown.text


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (put("schema", 2), "its schema is not 1"),
        (put("tokens", []), "no list of tokens"),
        (put("tokens", 1, "position", 7), "token 1 is missing"),
        (put("tokens", 1, "id", "x"), "token 1 lacks its id"),
        (put("model", "layers", 10**9), "number of layers"),
        (put("model", "layers", True), "number of layers"),
        (put("model", "heads", -1), "number of heads"),
        (put("model", None), "its model is no JSON object"),
        (put("figures", []), "it holds no figure"),
        (put("figures", 0, "values", "much"), "a figure has no values"),
        (put("figures", 0, "axes", 0, "start", 4), "other tokens than its prompt"),
        (put("figures", 1, "extra", "ids", [[1]]), "figure 1 of the file cannot be drawn"),
        (put("figures", 2, "extra", "entropy", "\x1b[2J"), "figure 2 of the file cannot be drawn"),
        (put("focus", "layer", 7), "layer 7 is out of range"),
        (put("focus", "temperature", {}), "its focus has an invalid temperature"),
        (put("edits", ["\x1b[31m break it"]), "cannot be replayed"),
        (put("edits", ["zero head 0.0"] * 501), "more than 500 edits"),
        (put("model", "spec", "x" * 10_001), "a text is longer"),
        (lambda record: record.pop("model"), "without the prompt and the model"),
        (lambda record: record["figures"].extend(record["figures"] * 9), "more than 45 figures"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(five, change, wanted):
    assert wanted in told(changed(five[".json"], change))


def test_tokens_that_are_not_in_the_prompt_are_looked_for_in_no_time(five):
    def change(record):
        record["prompt"] = "a" * 100_000
        record["tokens"] = [{"position": at, "id": 0, "text": "zz"} for at in range(30_000)]
        record["figures"] = [one for one in record["figures"] if one["lens"] == "next-token"]
        record["focus"] = {}

    path = changed(five[".json"], change)
    begun = time.process_time()
    found = read_snapshot(path)
    assert time.process_time() - begun < 3
    assert {(token.start, token.end) for token in found.tokens} == {(0, 0)}


def test_no_more_facts_are_listed_than_can_be_read(five):
    more = put("provenance", {f"key {at}": "x" * 3000 for at in range(5000)})
    rows = facts(read_snapshot(changed(five[".json"], more)))
    assert len(rows) < 1100
    assert any(name == "and" and value.endswith("more") for name, value in rows)
    assert max(len(value) for _, value in rows) <= 2000


def test_a_figure_without_a_prompt(tmp_path):
    figure = Figure("x", "One", "bars", (Axis("part", ("a",)),), np.float32([1]), "bits")
    line = told(save(figure, tmp_path / "one.json"))
    assert "figures alone, without the prompt" in line


def test_damaged_files(five, tmp_path):
    tensors = five[".safetensors"].read_bytes()
    beside = five[".safetensors"].with_suffix(".json").read_bytes()
    for name, data, record in (
        ("short", tensors[:-8], beside),
        ("other", tensors[:-1] + bytes([tensors[-1] ^ 1]), beside),
        ("cut", tensors, beside[: len(beside) // 2]),
        ("empty", b"", beside),
    ):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        path.with_suffix(".json").write_bytes(record)
        assert "is no snapshot" in told(path)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(tensors)
    assert "cannot read" in told(alone)
    sidecar = tmp_path / "lonely.json"
    sidecar.write_bytes(beside)
    assert "holds no arrays: it is the sidecar" in told(sidecar)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert "is no snapshot" in told(tmp_path / "deep.json")
    assert "is no folder of a batch" in told(tmp_path)
    assert "No such file" in told(tmp_path / "\x1b[31mred.json")


def test_more_than_memory_should_be_given_for(five, monkeypatch):
    from llmscope.export import read

    monkeypatch.setattr(read, "LARGEST", 1000)
    assert "holds more than" in told(five[".safetensors"])
    assert "holds more than" in told(five[".npz"])


async def test_nothing_of_a_file_acts_on_the_terminal(five):
    evil = "\x1b]0;pwned\x07[bold]\u202e"

    def change(record):
        record["model"]["spec"] = record["llmscope"] = record["model"]["dtype"] = evil
        record["provenance"]["command"] = record["prompt"] = evil
        record["versions"]["\x1b[2J"] = evil
        record["tokens"][2]["text"] = evil
        for figure in record["figures"]:
            figure["title"] = evil
            for axis in figure["axes"]:
                axis["labels"] = [evil for _ in axis["labels"]]

    async with replayed(changed(five[".json"], change, "evil\x1b[1m.json")) as shown:
        for keys in ((), ("P",), ("escape",), ("question_mark",), ("escape", "y"), ("escape", "m")):
            await shown.press(*keys)
            assert not {"\x1b", "\x07", "\u202e"} & set(shown.text)
        assert "[bold]" in shown.text


async def test_what_a_figure_lacks_takes_no_other_pane_down(five):
    """Checks before the screen cannot foresee each place of the cursor."""

    def change(record):
        names = record["figures"][1]["extra"]
        names["ids"] = [[0] * 6] * 3 + [[0, 0, 0]]

    path = changed(five[".json"], change)
    try:
        read_snapshot(path)
    except ScopeError:
        return
    async with replayed(path) as shown:
        await shown.press("left", "left", "up", "right")
        assert "layer" in shown.text


async def test_a_shorter_figure_is_read_without_harm(five):
    """Of fewer tokens than the prompt has: nothing stands on it where it does not reach."""

    def shorter(place):
        def change(record):
            figure = record["figures"][place]
            axis = next(
                i for i, a in enumerate(figure["axes"]) if a["name"] in ("position", "query")
            )
            del figure["axes"][axis]["labels"][3:]
            cut = figure["values"] if axis == 0 else None
            if cut is not None:
                del cut[3:]
            for row in () if axis == 0 else figure["values"]:
                del row[3:]

        return change

    assert "of other tokens than its prompt" in told(changed(five[".json"], shorter(0)))
    for place in (3, 4):
        async with replayed(changed(five[".json"], shorter(place))) as shown:
            await shown.press("home", "end", "up", "tab", "y")
            assert shown.app.is_running


async def test_what_the_live_screen_saved(tmp_path):
    from tests.tui.real import screen

    async with screen(llmscope.load("builtin:sort"), "CAB") as (app, pilot):
        app.grid.enter("attention")
        await pilot.press("s")
        app.screen.query_one("#line").value = str(tmp_path / "live.json")
        await pilot.press("enter")
        title = app.figures.shown("attention").figure.title
    async with replayed(tmp_path / "live.json") as shown:
        assert title in shown.text
        assert "CAB" in shown.text


async def test_a_pane_of_a_replay_is_saved_and_replayed(five, tmp_path):
    again = tmp_path / "again.safetensors"
    async with replayed(five[".json"]) as shown:
        shown.app.grid.enter("attention")
        await shown.press("s")
        shown.app.screen.query_one("#line").value = str(again)
        await shown.press("enter")
        rows = shown.pane("attention")
    first, other = read_snapshot(five[".json"]), read_snapshot(again)
    assert (other.text, other.tokens, other.info) == (first.text, first.tokens, first.info)
    assert other.about == first.about
    async with replayed(again) as shown:
        assert shown.pane("attention")[0].startswith(rows[0][:20])
        assert "not in this snapshot" not in shown.text
