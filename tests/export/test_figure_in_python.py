"""A figure in numpy, polars, xarray and matplotlib, and how it prints."""

import sys

import numpy as np
import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.figure import Figure

matplotlib = pytest.importorskip("matplotlib")
PROMPT = "CABACB"


@pytest.fixture(scope="module")
def scope():
    scope = llmscope.load("builtin:sort")
    scope.record(PROMPT)
    return scope


@pytest.fixture
def pyplot():
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")
    matplotlib.use(before)


REFUSED = Figure.refused("attention", "Attention", "there is none")


def test_numpy_reads_the_values(scope):
    figure = scope.look("attention", layer=1, head=2)
    assert np.array_equal(np.asarray(figure), figure.values, equal_nan=True)
    assert np.asarray(figure).base is figure.values or np.asarray(figure) is figure.values
    assert np.asarray(figure, dtype=np.float64).dtype == np.float64
    copy = np.array(figure)
    copy[:] = 0
    assert figure.values.any()
    with pytest.raises(ValueError, match="there is none"):
        np.asarray(REFUSED)


def test_polars_gets_the_columns_of_pandas(scope):
    pytest.importorskip("polars")
    figure = scope.look("logit-lens")
    found, wanted = figure.to_polars(), figure.to_pandas()
    assert found.columns == list(wanted.columns)
    for name in found.columns:
        assert found[name].to_list() == wanted[name].to_list()


def test_xarray_names_the_dimensions(scope):
    pytest.importorskip("xarray")
    figure = scope.look("attention", layer=1, head=2, span=(2, 5))
    array = figure.to_xarray()
    assert array.dims == ("query", "key")
    assert array.sel(query=3, key=2).item() == figure.values[1, 2]
    assert list(array["query_label"].values) == list(PROMPT[2:5])
    assert array.attrs["verdict"] == "verified"
    with pytest.raises(ScopeError, match="there is none"):
        REFUSED.to_xarray()


@pytest.mark.parametrize("name", ["polars", "xarray"])
def test_what_is_not_installed_is_said(scope, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ScopeError, match=f"needs {name}, which is not installed"):
        getattr(scope.look("logit-lens"), f"to_{name}")()


@pytest.mark.parametrize(
    ("lens", "options"), [("attention", {"head": 1}), ("next-token", {}), ("tokens", {})]
)
def test_a_plot_holds_the_values(scope, pyplot, lens, options):
    figure = scope.look(lens, **options)
    _, (left, right) = pyplot.subplots(1, 2)
    assert figure.plot(right) is right
    assert right.get_title() == figure.title
    assert not left.get_title()
    drawn = (
        np.concatenate([np.ravel(one.get_array()) for one in right.collections])
        if figure.kind == "heatmap"
        else np.array([bar.get_width() for bar in right.patches] or right.lines[0].get_ydata())
    )
    wanted = figure.values[np.isfinite(figure.values)]
    assert np.ma.masked_invalid(drawn).compressed() == pytest.approx(wanted)
    page = figure.plot()
    assert isinstance(page, pyplot.Figure)
    assert page.number in pyplot.get_fignums()
    assert page not in (left.figure, right.figure)


def test_what_one_pair_of_axes_cannot_hold_is_refused(scope, pyplot):
    _, ax = pyplot.subplots()
    grid = scope.look("attention", mode="all")
    assert len(grid.axes) == 3
    with pytest.raises(ScopeError, match="which one pair of axes cannot hold"):
        grid.plot(ax)
    with pytest.raises(ScopeError, match="there is none"):
        REFUSED.plot(ax)
    with pytest.raises(ScopeError, match="their own style"):
        scope.look("attention").plot(ax, width=85)
    assert not ax.get_title()


def test_a_page_of_ones_own_has_several_maps_a_width_a_font_and_colours(scope, pyplot):
    grid = scope.look("attention", mode="all")
    page = grid.plot(width=85, font="DejaVu Serif", cmap="magma")
    assert page.get_size_inches()[0] * 25.4 == pytest.approx(85)
    meshes = [mesh for axes in page.get_axes() for mesh in axes.collections][: len(grid.axes[0])]
    np.testing.assert_allclose(np.ma.filled([m.get_array() for m in meshes], np.nan), grid.values)
    assert {mesh.get_cmap().name for mesh in meshes} == {"magma"}
    (title,) = {text.get_fontfamily()[0] for text in page.subfigs[0].texts}
    assert title == "DejaVu Serif"
    for wrong, told in (
        ({"font": "No Such Font"}, "no font 'No Such Font'"),
        ({"cmap": "magna"}, "magma, the nearest"),
        ({"width": 3}, "a page 3 mm wide"),
    ):
        with pytest.raises(ScopeError) as caught:
            grid.plot(**wrong)
        assert told in f"{caught.value.message} (try: {caught.value.hint})"


def test_it_prints_one_line_and_draws_itself_in_ipython(scope):
    figure = scope.look("attention", layer=1, head=2)
    assert repr(figure).startswith("<Figure attention: Attention")
    assert repr(figure).endswith("query 6 × key 6, probability, verified>")
    assert repr(REFUSED) == "<Figure attention: Attention: refused>"
    pretty = pytest.importorskip("IPython.lib.pretty")
    drawn = pretty.pretty([figure, figure])
    assert drawn.count("Attention") == 2
    assert "█" in drawn or "▓" in drawn
