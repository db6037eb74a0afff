"""The figures of a report, and how pictures for print draw their intervals."""

import io
import json

import numpy as np
import pytest

from llmscope.cli.output.batch_report import report_text
from llmscope.export import render
from llmscope.export.paper import paper, plot
from llmscope.figure import Axis, Figure
from llmscope.report.figures import MOST_BARS, figures, interval_text, label_text, plots, value_text
from llmscope.report.means import Estimate, Resampling
from llmscope.report.summary import ReportRequest, report
from tests.report.conftest import HEADS, LAYERS, STRONG
from tests.report.folders import write_folder

HOW = Resampling(resamples=200)


@pytest.fixture(scope="module")
def found(batch):
    return report(str(batch[0]), ReportRequest(how=HOW))


def figure_of(found, lens, kind, start=""):
    return next(
        one
        for one in figures(found)
        if (one.lens, one.kind) == (lens, kind)
        and one.title.removeprefix(f"{lens}: ").startswith(start)
    )


def test_a_map_of_effects_marks_what_differs_from_zero(found):
    figure = figure_of(found, "ablation", "heatmap")
    assert [axis.name for axis in figure.axes] == ["layer", "head"]
    assert figure.values.shape == (LAYERS, HEADS)
    estimates = found.lenses[0].breakdowns[0].estimates
    for one in estimates:
        assert figure.values[one.labels] == np.float32(one.mean)
        assert figure.extra["low"][one.labels] == one.low
        assert figure.extra["corrected"][one.labels] == one.corrected
    assert np.argwhere(figure.extra["marked"]).tolist() == [list(STRONG)]
    text = render(figure, "txt")
    assert text.count("*") == 2  # of the cell, and of the remark below
    assert f"for {LAYERS * HEADS} cells (max-T): 1;" in text


def test_bars_tell_interval_and_number_of_prompts(found):
    figure = figure_of(found, "ablation", "bars")
    best = found.lenses[0].breakdowns[0].ranked[0]
    assert figure.axes[0].labels[0] == "1.2"
    assert figure.extra["beside"][0] == f"{interval_text(best)} **"
    text = render(figure, "txt")
    assert "n=58 **" in text


def test_the_verdict_is_the_worst_of_all_prompts(batch, tmp_path):
    _, prompts, lenses = batch
    folder = write_folder(tmp_path / "out", prompts, {"tokens": lenses["tokens"]})
    import pyarrow
    import pyarrow.parquet

    file = folder / "verdicts" / "shard-00000.parquet"
    table = pyarrow.parquet.read_table(file)
    status = ["partial", "partial", *table.column("status").to_pylist()[2:]]
    at = table.column_names.index("status")
    pyarrow.parquet.write_table(table.set_column(at, "status", pyarrow.array(status)), file)
    one = figures(report(str(folder), ReportRequest(how=HOW)))[0]
    assert (one.verdict.status, one.verdict.reason) == ("partial", "2 of 59 prompts")


def test_many_groups_are_cut_to_the_largest(batch, tmp_path):
    _, prompts, _ = batch
    rows = [{"line": 1 + at % 4, "part": f"part {at}", "score": float(at)} for at in range(100)]
    folder = write_folder(tmp_path / "out", prompts, {"heads": rows})
    figure = figure_of(report(str(folder), ReportRequest(how=HOW)), "heads", "bars")
    assert len(figure.axes[0]) == MOST_BARS
    assert min(figure.values) == 100 - MOST_BARS
    assert "60 largest of 100" in figure.title


def test_all_figures_are_drawn_in_all_formats(found):
    for kind in ("txt", "ansi", "svg", "html", "json"):
        assert render(figures(found), kind)
    for one in plots(found):
        assert plot(one).get_axes()


def test_paper_draws_error_bars_and_marks(found):
    curve = figure_of(found, "logit-lens", "bars", "p_target")
    assert curve.extra["ordered"]
    axes = plot(curve).get_axes()[0]
    (container,) = axes.containers
    segments = container.lines[2][0].get_segments()
    assert np.allclose([one[0][1] for one in segments], curve.extra["low"])
    assert np.allclose([one[1][1] for one in segments], curve.extra["high"])
    bars = figure_of(found, "ablation", "bars")
    segments = plot(bars).get_axes()[0].containers[0].lines[2][0].get_segments()
    assert np.allclose([one[0][0] for one in segments], bars.extra["low"])
    assert np.allclose([one[1][0] for one in segments], bars.extra["high"])
    dots = plot(figure_of(found, "ablation", "heatmap")).get_axes()[0].lines
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [
        (STRONG[1] + 0.5, STRONG[0] + 0.5)
    ]


@pytest.mark.slow
def test_the_paper_page_is_reproducible(found):
    from llmscope.export import PAPER

    one, two = (render(plots(found), "svg", look=PAPER) for _ in range(2))
    assert one == two
    stream = io.BytesIO()
    paper(plots(found)).savefig(stream, format="pdf")
    assert stream.getvalue()[:4] == b"%PDF"


def test_figures_of_other_lenses_have_no_error_bars():
    values = np.array([1.0, -2.0], np.float32)
    figure = Figure("x", "x", "bars", (Axis("part", ("a", "b")),), values, "logit")
    (container,) = plot(figure).get_axes()[0].containers
    assert container.errorbar is None


def test_numbers_as_text():
    assert value_text(0.4567, "probability") == "45.7 %"
    assert value_text(-0.05, "probability") == "-0.05"
    assert value_text(float("nan")) == "–"
    assert label_text((1, 2)) == "1.2"
    assert label_text((-1, -2)) == "-1 · -2"
    assert label_text(("a", None)) == "a · –"
    one = Estimate((1, 2), 0.5, 0.25, 0.75, prompts=1200, rows=5)
    assert interval_text(one) == "[0.25, 0.75] n=1,200"
    assert interval_text(Estimate((), 0.5, None, None, prompts=1, rows=5)) == "n=1"


def test_few_prompts_are_told(batch, tmp_path):
    _, prompts, lenses = batch
    some = [one for one in prompts if one["line"] < 5]
    rows = [row for row in lenses["ablation"] if row["line"] < 5]
    folder = write_folder(tmp_path / "out", some, {"ablation": rows})
    found = report(str(folder), ReportRequest(how=HOW))
    figure = figure_of(found, "ablation", "heatmap")
    assert figure.extra["caption"][1].startswith("fewer than 20 prompts")
    assert "note: fewer than 20 prompts" in report_text(found)


def folder_of_heads(folder, layers, heads, scale=1.0):
    """Write a batch whose ablation has effects of every head in layer 1."""
    random = np.random.default_rng(3)
    prompts = [{"line": line, "prompt": "", "n_tokens": 5, "error": None} for line in range(1, 31)]
    rows = [
        {
            "line": one["line"],
            "layer": layer,
            "head": head,
            "effect": scale * float(random.normal() / 10 - 12.345 * (layer == 1)),
        }
        for one in prompts
        for layer in range(layers)
        for head in range(heads)
    ]
    return write_folder(folder, prompts, {"ablation": rows})


def map_lines(text):
    """Return the lines of the first picture in a text."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("╭"))
    stop = next(at for at, line in enumerate(lines) if at > start and line.startswith("╰"))
    return lines[start : stop + 1]


@pytest.mark.parametrize(("layers", "heads", "scale"), [(40, 12, 1), (34, 32, 1e-3), (3, 25, 100)])
def test_the_text_shows_every_row_and_star_of_a_map(tmp_path, layers, heads, scale):
    made = report(
        str(folder_of_heads(tmp_path / "out", layers, heads, scale)), ReportRequest(how=HOW)
    )
    marked = made.lenses[0].breakdowns[0]
    starred = sum(bool(one.corrected) for one in marked.estimates)
    assert starred >= heads
    for text in (report_text(made), render(figures(made), "txt", size="auto")):
        lines = map_lines(text)
        shown = [line.split()[1].lstrip("▸") for line in lines[2 : 2 + layers]]
        assert shown == [str(layer) for layer in range(layers)]
        assert sum(line.count("*") for line in lines[2 : 2 + layers]) == starred
        assert "…" not in "".join(lines[:-4])
        row = next(line for line in lines if line.split()[1].lstrip("▸") == "1")
        assert row.count("-") == heads  # the numbers are there with their stars


def test_a_narrow_map_shows_stars_in_place_of_numbers(tmp_path):
    made = report(str(folder_of_heads(tmp_path / "out", 34, 32)), ReportRequest(how=HOW))
    starred = sum(bool(one.corrected) for one in made.lenses[0].breakdowns[0].estimates)
    terminal = map_lines(report_text(made, None))
    assert {len(line) for line in terminal} == {100}
    rows = terminal[2 : 2 + 34]
    assert [line.split()[1].lstrip("▸") for line in rows] == [str(layer) for layer in range(34)]
    # The cell of the cursor shows the cursor.
    assert sum(line.count("*") for line in rows) == starred - 1
    assert len(map_lines(report_text(made, (60, 20)))) == 20


@pytest.mark.parametrize("width", [100, 60, 44, 34])
def test_bars_keep_their_stars_in_any_width(found, width):
    figure = figure_of(found, "ablation", "bars")
    for beside, row in zip(
        figure.extra["beside"],
        render(figure, "txt", size=(width, len(figure.axes[0]) + 2)).splitlines()[1:],
        strict=False,
    ):
        stars = len(beside) - len(beside.rstrip("*"))
        assert row.count("*") == stars


def test_a_table_of_many_columns_shows_all(tmp_path):
    prompts = [{"line": line, "prompt": "", "n_tokens": 5, "error": None} for line in (1, 2)]
    names = [f"value_{at}" for at in range(20)]
    rows = [{"line": line, **dict.fromkeys(names, float(line))} for line in (1, 2)]
    folder = write_folder(tmp_path / "out", prompts, {"heads": rows})
    file = folder / "heads" / "shard-00000.parquet"
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    about = json.loads(table.schema.metadata[b"llmscope"])
    for name in names:
        about["columns"][name]["role"] = "value"
    table = table.replace_schema_metadata({"llmscope": json.dumps(about)})
    pyarrow.parquet.write_table(table, file)
    figure = figure_of(report(str(folder), ReportRequest(how=HOW)), "heads", "table")
    text = render(figure, "txt", size="auto")
    assert all(name in text for name in names)
