"""The table of every lens in every mode, against its figures."""

import io
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import llmscope
from llmscope.cli.options.edit_options import other_ids
from llmscope.corpus.records.inputs import InputColumns
from llmscope.corpus.records.prompts import PromptLine
from llmscope.figure import LAYER_HEAD, Focus
from llmscope.figure.tables.arrow import TableWriter, arrow_type, described_in
from llmscope.jobs.examples.collect import Collection, collect
from llmscope.jobs.examples.sources import NeuronSource
from llmscope.jobs.fit_direction.fit import fit_direction
from llmscope.jobs.snapshots import PromptJob
from llmscope.jobs.snapshots.finished import pack_value, unpack_value
from llmscope.jobs.snapshots.rows import rows_of
from llmscope.jobs.snapshots.shards import Tables
from llmscope.learned.lenses.direction_file import write_directions
from llmscope.lenses import lens, names
from llmscope.lenses.base import options
from tests.cli.running import run
from tests.jobs.fit_direction.conftest import ids_texts, planted_model
from tests.lenses.asked import options_for
from tests.lenses.test_experts import scope_on
from tests.lenses.test_jacobian_lens import lens_of, matrices
from tests.lenses.test_probe import IDS, SOME

OTHER = "Tom lives in the blue house.\nAnna likes tea.\nWho lives in the blue house?"
PROMPTS = (
    "Tom lives in the red house.\nAnna likes tea.\nWho lives in the red house?",
    "Anna lives in the red house.\nTom likes milk.\nWho lives in the red house?",
)
ELSEWHERE = {("logit-lens", "slope"), ("features", "examples"), ("neurons", "examples")}
"""Modes that need more than a prompt."""
EVERY = [
    (name, mode)
    for name in names()
    for mode in lens(name).modes or ("",)
    if name not in ("experts", "probe") and (name, mode) not in ELSEWHERE
    if mode != "experts"  # of mixtures only: below
]


@pytest.fixture(scope="module")
def town():
    scope = llmscope.load(
        "builtin:town", adapters=["builtin:town-pirate"], reward="builtin:town-reward"
    )
    scope.compare(llmscope.load("builtin:town"))
    return scope


def job_of(scope, name, mode, **given):
    focus = Focus(mode=mode)
    if lens(name).versus:
        focus = Focus(mode=mode, versus_prompt=other_ids(scope, OTHER, special_tokens=True))
    if (name, mode) == ("features", "find"):
        focus = options()["query"].set(focus, " cake")
    if name == "patching":
        given = {"target": scope.token(" red"), "versus": scope.token(" blue"), **given}
    if name == "passages":
        given = {"target": scope.token(" red"), "separator": "\n", **given}
    for key, value in given.items():
        focus = options()[key].set(focus, value)
    return PromptJob((name,), focus)


def tables_of(scope, job):
    """The figures of each prompt and the table of them."""
    lines = [PromptLine(at, text, inputs={"id": f"p{at}"}) for at, text in enumerate(PROMPTS, 1)]
    rows = rows_of(scope, lines, job, None)
    assert [row.error for row in rows] == ["", ""]
    inputs = InputColumns({"id": arrow_type("string")})
    shard = Tables(job, inputs, tensors=True).shard("shard-00000", rows)
    again = [replace(row, figures=stored(row.figures)) for row in rows]
    assert Tables(job, inputs, tensors=True).shard("shard-00000", again) == shard
    (name,) = job.lenses
    data = shard.files.get(f"{name}/shard-00000.parquet")
    table = None if data is None else pq.read_table(io.BytesIO(data))
    return {row.line.number: row.figures for row in rows}, table


def stored(figures):
    """The figures as they come back from the journal of a batch that was stopped."""
    arrays = {}
    note = json.loads(json.dumps(pack_value(figures, arrays)))
    return unpack_value(note, {name: array.copy() for name, array in arrays.items()})


def check(name, mode, figures, table):
    """Check a table against the figures of each line."""
    declared = lens(name).columns
    chosen = lens(name)
    first = next(iter(figures.values()))[0]
    if mode in chosen.axes or "" in chosen.axes:
        axes = chosen.axes.get(mode, chosen.axes.get(""))
        assert tuple(axis.name for axis in first.axes) == axes
    # The columns are those that are told before anything is computed, and typed as told.
    about = described_in(table.schema)
    assert (about["lens"], about["mode"], about["schema"]) == (name, mode, 2)
    own = chosen.table(mode)
    if mode in chosen.axes or "" in chosen.axes:
        assert [one.name for one in own] == [one for one in table.column_names if one != "id"]
        for one in own:
            assert table.schema.field(one.name).type == arrow_type(one.type), one.name
            assert about["columns"][one.name]["role"] == one.role
    columns = {one: table[one].to_pylist() for one in table.column_names}
    for column, values in columns.items():
        numbers = [one for one in values if isinstance(one, float)]
        assert not np.isnan(numbers).any(), column
    # A key says which row it is: no two rows have the same.
    keys = [one for one in table.column_names if about["columns"][one]["role"] == "key"]
    places = Counter(zip(*(columns[one] for one in keys), strict=True))
    assert max(places.values()) == 1, places.most_common(2)
    for one in keys:
        assert None not in columns[one], one
    # One row for each cell that was computed, in order, with the value of the figure.
    values = [
        one for one in own if one.role == "value" and one.of is not None and one.name in columns
    ]
    main = next(one for one in values if np.shape(one.of(first)) == first.values.shape)
    for line, some in figures.items():
        at = [place for place, one in enumerate(columns["line"]) if one == line]
        cells = np.concatenate([np.asarray(main.of(one)).ravel() for one in some])
        known = np.zeros(len(cells), bool)
        for one in values:
            parts = [one.of(figure) for figure in some]
            if one.type == "float32" and all(np.ndim(part) for part in parts):
                shaped = [
                    np.broadcast_to(np.asarray(part, np.float64), figure.values.shape).ravel()
                    for part, figure in zip(parts, some, strict=True)
                ]
                known |= ~np.isnan(np.concatenate(shaped))
        assert len(at) == known.sum()
        found = np.array([columns[main.name][place] for place in at], dtype=np.float64)
        assert np.allclose(found, cells[known].astype(np.float64), atol=1e-6, equal_nan=True)
        assert {columns["status"][place] for place in at} == {one.verdict.status for one in some}
        assert {columns["id"][place] for place in at} == {f"p{line}"}
    assert {one.name for one in declared if not one.modes or mode in one.modes} <= set(columns)


@pytest.mark.parametrize(("name", "mode"), EVERY)
@pytest.mark.few(16)
def test_a_table_has_a_row_for_each_cell(town, name, mode):
    figures, table = tables_of(town, job_of(town, name, mode))
    refused = [one for some in figures.values() for one in some if one.verdict.status == "refused"]
    if refused and name == "saliency":  # 32 steps may miss too much
        pytest.skip(refused[0].verdict.reason)
    assert not refused, refused[0].verdict.reason
    check(name, mode, figures, table)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("logit-lens", "target"), ("tokens", ""), ("attention", "raw"), ("next-token", "")],
)
def test_a_table_says_what_look_says(town, name, mode):
    """Row by row, by the labels of the axes, not by order."""
    _, table = tables_of(town, job_of(town, name, mode))
    for line, text in enumerate(PROMPTS, 1):
        figure = town.look(name, recording=town.record(text, fresh=True), mode=mode)
        rows = [row for row in table.to_pylist() if row["line"] == line]
        for row in rows:
            index = []
            for axis in figure.axes:
                if axis.name == "layer":
                    word = "embed" if row["layer"] < 0 else str(row["layer"])
                    index.append(axis.labels.index(word))
                elif axis.name == "token":
                    index.append(row["rank"] - 1)
                    assert row["token"] == axis.labels[index[-1]]
                else:
                    index.append(row[axis.name])
                    shown = {"position": "prompt_token" if "prompt_token" in row else "token"}
                    column = shown.get(axis.name, f"{axis.name}_token")
                    assert row[column] == axis.labels[row[axis.name]]
            value = figure.values[tuple(index)]
            names = {"logit-lens": "p_target", "tokens": "surprisal", "attention": "weight"}
            found = row[names.get(name, "p")]
            assert np.isnan(value) if found is None else found == pytest.approx(value, abs=1e-6)
        assert len(rows) == np.isfinite(figure.values).sum() + (name == "tokens")


def test_all_layers_and_heads_are_one_table(town):
    job = PromptJob(("attention",), Focus(mode="raw"), every=("layer", "head"))
    figures, table = tables_of(town, job)
    check("attention", "raw", figures, table)
    info = town.info()
    assert len(figures[1]) == info.layers * info.heads
    assert set(table["layer"].to_pylist()) == set(range(info.layers))


def test_a_dictionary_is_not_repeated_at_other_layers(town):
    job = PromptJob(("features",), Focus(mode="token"), every=("layer",))
    figures, table = tables_of(town, job)
    layers = [one.extra["layer"] for one in figures[1]]
    assert len(layers) == len(set(layers))
    check("features", "token", figures, table)


@pytest.mark.parametrize(
    ("name", "mode", "clash"),
    [("ablation", "parts", "part"), ("model-diff", "next", "model"), ("tokens", "", "from_end")],
)
def test_an_input_column_never_takes_the_name_of_a_column(town, name, mode, clash):
    job = job_of(town, name, mode)
    rows = rows_of(town, [PromptLine(1, PROMPTS[0], inputs={clash: "mine"})], job, None)
    shard = Tables(job, InputColumns({clash: arrow_type("string")})).shard("shard-00000", rows)
    for path, data in shard.files.items():
        table = pq.read_table(io.BytesIO(data))
        assert len(table.column_names) == len(set(table.column_names))
        if not path.startswith("verdicts"):
            assert set(table[f"{clash}_input"].to_pylist()) == {"mine"}


@pytest.mark.few(2)
@pytest.mark.parametrize("step", [0, 1, 5, 28, 29])
def test_the_numbers_of_a_step_are_a_table(town, step):
    job = job_of(town, "walkthrough", "values", step=step)
    figures, table = tables_of(town, job)
    check("walkthrough", "values", figures, table)


def written(figure, mode):
    inputs = {"id": arrow_type("string")}
    table = TableWriter(figure.lens, mode, lens(figure.lens).columns, inputs)
    table.add(figure, 1, 19, {"id": "p1"})
    return pq.read_table(io.BytesIO(table.finish()))


def test_experts_are_a_table():
    figure = scope_on("mixtral").look("experts", layer=1)
    table = written(figure, "")
    check("experts", "", {1: [figure]}, table)
    rows = table.to_pylist()
    assert sum(row["chosen"] for row in rows) == figure.extra["chosen"].size
    for row in rows:
        chosen = figure.extra["chosen"][row["position"]].tolist()
        assert row["chosen"] == (row["expert"] in chosen)
        weight = figure.extra["weights"][row["position"]]
        told = None if not row["chosen"] else float(weight[chosen.index(row["expert"])])
        assert row["weight"] == (None if told is None else pytest.approx(told))


def test_what_experts_write_is_a_table():
    figure = scope_on("mixtral").look("attribution", mode="experts", layer=1)
    assert figure.verdict.status != "refused", figure.verdict.reason
    check("attribution", "experts", {1: [figure]}, written(figure, "experts"))


@pytest.mark.parametrize("mode", lens("probe").modes)
def test_a_probe_is_a_table(tmp_path, mode):
    scope = llmscope.wrap(planted_model()[0])
    write_directions(fit_direction(scope, ids_texts(), SOME), tmp_path / "direction.safetensors")
    scope.record(IDS)
    file = str(tmp_path / "direction.safetensors")
    figure = scope.look("probe", direction=file, **options_for("probe", mode=mode, layer=2))
    table = written(figure, mode)
    check("probe", mode, {1: [figure]}, table)
    assert set(table["layer"].to_pylist()) <= {0, 2}


def test_steps_along_a_learned_lens_are_a_table():
    scope = scope_on("llama")
    figure = scope.look(
        "logit-lens", mode="slope", target=7, position=4, translator=lens_of(*matrices())
    )
    assert figure.verdict.status != "refused", figure.verdict.reason
    check("logit-lens", "slope", {1: [figure]}, written(figure, "slope"))


def test_examples_are_a_table(tmp_path):
    scope = llmscope.load("builtin:town")
    lines = list(enumerate(PROMPTS, 1))
    source = NeuronSource(1, (3,))
    collect(scope, lines, [source], Collection(), tmp_path / "examples")
    scope.record(PROMPTS[0])
    figure = scope.look(
        "neurons", mode="examples", layer=1, neuron=3, examples=str(tmp_path / "examples")
    )
    assert figure.verdict.status != "refused", figure.verdict.reason
    check("neurons", "examples", {1: [figure]}, written(figure, "examples"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [one for one in names() if one not in ("experts", "probe")])
def test_the_command_writes_the_table(tmp_path, name):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": one, "id": "x"}) + "\n" for one in PROMPTS))
    more = {
        "patching": ("--versus-prompt", OTHER, "--target", " red", "--versus", " blue"),
        "contrast": ("--versus-prompt", OTHER),
        "stages": ("--adapter", "builtin:town-pirate"),
        "model-diff": ("--versus-model", "builtin:town-pirate"),
        "passages": ("--separator", "\n", "--target", " red"),
    }.get(name, ())
    ask = ("snapshot", "builtin:town", "--prompts", prompts, "--lens", name, *more)
    result = run(*ask, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    table = pq.read_table(tmp_path / "out" / name / "shard-00000.parquet")
    chosen = lens(name)
    mode = chosen.table_mode or next(iter(chosen.modes), "")
    assert table.column_names == [*(one.name for one in chosen.table(mode)), "id"]
    assert set(table["line"].to_pylist()) == {1, 2}


def test_every_lens_declares_columns_and_axes():
    for name in names():
        chosen = lens(name)
        for mode in chosen.modes or ("",):
            columns = [one.name for one in chosen.table(mode)]
            assert len(columns) == len(set(columns))
            known = mode in chosen.axes or "" in chosen.axes
            assert known or (name, mode) == ("walkthrough", "values")
            for axis in chosen.axes.get(mode, chosen.axes.get("", ())):
                assert axis != LAYER_HEAD
            values = [one for one in chosen.table(mode) if one.role == "value"]
            assert values, (name, mode)
            for one in chosen.table(mode):
                assert one.help, (name, mode, one.name)
