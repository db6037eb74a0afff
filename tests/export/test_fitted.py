"""`--size auto`: pictures that fit what they show."""

from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from llmscope.draw import RenderOptions
from llmscope.export import render, save
from llmscope.export.fitted import BESIDE_TITLE, HIGHEST, MOST_CELLS, NARROWEST, WIDEST, sizes
from llmscope.figure import Axis, Figure
from tests.cli.running import failure, run


def a_map(rows, columns, names=("layer", "position"), title="norms"):
    axes = (
        Axis(names[0], tuple(map(str, range(rows)))),
        Axis(names[1], tuple(f"t{at}" for at in range(columns))),
    )
    values = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    return Figure("residual", title, "heatmap", axes, values, "norm")


def bars(count):
    values = np.linspace(0.1, 1, count, dtype=np.float32)
    axes = (Axis("position", tuple(f"b{at}" for at in range(count))),)
    return Figure("tokens", "bits", "bars", axes, values, "bits")


def lines_of(figures, **options):
    return str(render(figures, "txt", size="auto", **options)).splitlines()


@pytest.mark.parametrize("columns", [1, 3, 8, 40, 150, 250])
@pytest.mark.parametrize("names", [("layer", "position"), ("query", "key"), ("layer", "head")])
def test_a_map_shows_all_its_columns_and_no_empty_ones(columns, names):
    figure = a_map(4, columns, names)
    shown = lines_of(figure)
    (width,) = {cell_len(line) for line in shown}
    assert NARROWEST <= width <= WIDEST
    inside = [line[2:-2] for line in shown[1:-1]]
    if names != ("layer", "head"):  # its last row lists the largest
        used = max(len(line.rstrip()) for line in inside)
        least = max(NARROWEST, len("norms") + BESIDE_TITLE, cell_len(shown[-1].rstrip("─╯")) + 2)
        assert width - 4 - used <= 2 or width <= least  # a number has a blank behind it
    assert any(f"t{columns - 1}" in line for line in inside) or columns > 20  # few have labels


def test_a_tall_figure_shows_all_its_rows():
    shown = lines_of(bars(70))
    assert len(shown) > 70
    assert all(f"b{at}" in " ".join(shown).split() for at in range(69))
    assert len(str(render(bars(70), "txt")).splitlines()) == 30


def test_figures_of_one_picture_are_equally_wide():
    shown = lines_of([a_map(2, 3), bars(3)])
    assert {cell_len(line) for line in shown} == {100}


def test_a_picture_has_limits():
    assert sizes([a_map(300, 1000)], RenderOptions(), None, None) == (WIDEST, [HIGHEST])
    many = [a_map(100, 1000)] * 9
    width, heights = sizes(many, RenderOptions(), None, None)
    assert (width, heights) == (100, [30] * 9)
    assert width * sum(heights) <= MOST_CELLS


def test_a_refused_and_an_empty_figure_keep_the_usual_width():
    refused = Figure.refused("attention", "Attention", "there is none")
    axes = (Axis("layer", ("0",)), Axis("position", ()))
    empty = replace(a_map(1, 1), values=np.zeros((1, 0), np.float32), axes=axes)
    assert {cell_len(line) for line in lines_of([refused, empty])} == {100}


def test_it_is_the_size_of_files_and_of_pipes(tmp_path):
    figure = a_map(2, 3)
    save(figure, tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text().splitlines() == lines_of(figure)
    ask = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "attention")
    for name, size in (("a", ()), ("b", ("--size", "auto"))):
        result = run(*ask, *size, "--out", tmp_path / f"{name}.svg")
        assert result.exit_code == 0, result.stderr
    picture = (tmp_path / "a.svg").read_text()
    assert " --size auto" in (tmp_path / "b.svg").read_text()
    assert (
        picture.partition("<style>")[2] == (tmp_path / "b.svg").read_text().partition("<style>")[2]
    )
    piped = run(*ask, "--format", "svg")
    assert piped.stdout == picture
    assert "--size" in failure(*ask, "--size", "some", code=2)
