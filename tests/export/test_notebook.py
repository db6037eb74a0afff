"""What a figure gives to a notebook: one drawing, and nothing that acts beyond it."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from llmscope.draw import RenderOptions, load_theme
from llmscope.export import render
from llmscope.figure import Axis, Figure

SVG, TEXT = "image/svg+xml", "text/plain"


def drawn(svg):
    """The drawing alone: what follows the opening tag and the style."""
    return svg.split("</style>", 1)[1]


def test_it_is_the_drawing_of_the_exports(figure, tmp_path):
    shown = figure._repr_mimebundle_()
    assert set(shown) == {TEXT, SVG}
    saved = figure.save(tmp_path / "a.svg", size=None).read_text()
    assert drawn(shown[SVG]) == drawn(saved)
    assert shown[TEXT] + "\n" == render(figure, "txt")


def test_its_style_reaches_no_other_picture_of_the_page(figure):
    svg = figure._repr_mimebundle_()[SVG]
    root = ET.fromstring(svg)
    (style,) = (element.text for element in root if element.tag.endswith("style"))
    selectors = re.findall(r"([^{}]+){", style)
    assert len(selectors) == 3
    assert all(one.startswith(f".{root.get('class')} ") for one in selectors)
    assert "script" not in svg
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]


def test_it_is_as_tall_as_the_figure():
    heights = []
    for layers in (2, 8):
        axes = (Axis("layer", tuple(map(str, range(layers)))), Axis("position", ("a", "b")))
        figure = Figure("any", "Any", "heatmap", axes, np.zeros((layers, 2), np.float32), "x")
        heights.append(float(ET.fromstring(figure._repr_mimebundle_()[SVG]).get("height")))
    assert heights[1] - heights[0] == 6 * 19


@pytest.mark.parametrize("words", [3, 60])
def test_a_refused_figure_shows_all_of_its_reason(words):
    reason = " ".join(f"<because{number}>" for number in range(words))
    shown = Figure.refused("any", "Any", reason)._repr_mimebundle_()
    assert re.findall(r"<because\d+>", shown[TEXT]) == reason.split()
    said = "".join(ET.fromstring(shown[SVG]).itertext())
    assert re.findall(r"<because\d+>", said) == reason.split()
    assert "· refused" in shown[TEXT]


def test_the_theme_is_that_of_the_settings(figure, monkeypatch):
    grounds = {}
    for theme in ("auto", "light", "nonsense"):
        monkeypatch.setenv("LLMSCOPE_THEME", theme)
        grounds[theme] = re.findall(r'fill="(#\w+)"', figure._repr_mimebundle_()[SVG])[0]
    assert grounds["light"] == load_theme("light").background
    # One that does not exist is no reason to show nothing.
    assert grounds["nonsense"] == grounds["auto"] == RenderOptions().theme.background


def test_a_figure_alone_loads_neither_drawing_nor_pandas():
    code = (
        "import sys, numpy as np; from llmscope.figure import Axis, Figure;"
        "f = Figure('a', 'A', 'bars', (Axis('token', ('x',)),), np.ones(1, np.float32), 'u');"
        "before = {n for n in sys.modules if n.split('.')[0] in ('rich', 'pandas', 'torch')};"
        "f.tidy(); f._repr_mimebundle_();"
        "print(sorted(before), 'pandas' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False", "False"]
