"""`scale`: the same picture, larger."""

import re
import struct

import numpy as np
import pytest

from llmscope.errors import ScopeError
from llmscope.export import render
from llmscope.figure import Axis, Figure, Verdict
from tests.cli.running import failure, run

FIGURE = Figure(
    lens="residual",
    title="norms",
    kind="heatmap",
    axes=(Axis("layer", ("0", "1")), Axis("position", ("a", "b", "c"))),
    values=np.arange(6, dtype=np.float32).reshape(2, 3),
    unit="norm",
    verdict=Verdict("verified", ""),
)


def pixels(png):
    return struct.unpack(">II", png[16:24])


def sides(svg):
    head = svg[: svg.index(">")]
    return tuple(float(re.search(rf' {name}="([\d.]+)"', head)[1]) for name in ("width", "height"))


@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_png_and_svg_show_more_of_the_same(scale):
    plain, larger = (render(FIGURE, "svg", size=(40, 8), scale=by) for by in (1.0, scale))
    assert sides(larger) == pytest.approx([side * scale for side in sides(plain)], abs=0.06)
    assert plain.split(">", 1)[1] == larger.split(">", 1)[1]  # nothing else differs
    assert re.search('viewBox="[^"]+"', plain)[0] == re.search('viewBox="[^"]+"', larger)[0]
    plain, larger = (pixels(render(FIGURE, "png", size=(40, 8), scale=by)) for by in (1.0, scale))
    assert larger == pytest.approx([side * scale for side in plain], abs=1)


def test_on_paper_a_png_has_more_pixels():
    plain, larger = (
        pixels(render(FIGURE, "png", size=(40, 12), look="paper", scale=by)) for by in (1.0, 2.0)
    )
    assert larger == pytest.approx([side * 2 for side in plain], abs=1)


def test_html_shows_the_larger_svg():
    page = render(FIGURE, "html", size=(40, 8), scale=2.0)
    svg = render(FIGURE, "svg", size=(40, 8), scale=2.0)
    assert svg in page


def test_nobody_fills_the_memory_with_pixels():
    with pytest.raises(ScopeError, match="pixels"):
        render(FIGURE, "png", size=(400, 100), scale=50.0)


def test_from_the_command_line(tmp_path):
    wanted = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "next-token")
    for name, scale in (("a.svg", "1"), ("b.svg", "2")):
        assert run(*wanted, "--out", tmp_path / name, "--scale", scale).exit_code == 0
    plain, larger = ((tmp_path / name).read_text("utf-8") for name in ("a.svg", "b.svg"))
    assert sides(larger) == pytest.approx([side * 2 for side in sides(plain)])
    assert "from 0.1 to 20" in failure(*wanted, "--scale", "0", "--format", "svg", code=2)
    assert "not of json" in failure(*wanted, "--scale", "2", code=2)
    paper = failure(*wanted, "--look", "paper", "--format", "pdf", "--scale", "2", code=2)
    assert "a png on paper" in paper
