import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.cells import cell_len

from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.scale import Scale, legend


def array(*values):
    return np.array(values, dtype=np.float32)


def text(row):
    return "".join(segment.text for segment in row)


def test_kinds():
    assert Scale.of(array(1, 2, np.nan)) == Scale(1, 2, "linear")
    assert Scale.of(array(-1, 3)) == Scale(-3, 3, "signed")
    assert Scale.of(array(1, 2000)) == Scale(1, 2000, "log")
    assert Scale.of(array(0, 2000)).kind == "linear"
    assert Scale.of(array(0.2, 0.5), "probability") == Scale(0, 1, "linear")
    assert Scale.of(array(np.nan)).kind == "linear"


def test_a_probes_score_has_a_scale_that_an_outlier_does_not_stretch():
    values = array(-54, -0.5, 0, 0.5, 2)
    scale = Scale.of(values, "class gaps")
    assert scale == Scale(-1.0, 1.0, "signed")
    assert scale.steps(values, 9).tolist() == [0, 2, 4, 6, 8]


def test_steps_reach_both_ends_and_zero_is_in_the_middle():
    assert Scale(1, 3, "linear").steps(array(1, 2, 3, np.nan), 11).tolist() == [0, 5, 10, -1]
    assert Scale(-4, 4, "signed").steps(array(-4, 0, 4), 31).tolist() == [0, 15, 30]
    assert Scale(1, 10000, "log").steps(array(1, 10, 100, 10000), 5).tolist() == [0, 1, 2, 4]


@given(arrays(np.float32, 12), st.sampled_from(["", "probability"]), st.integers(2, 32))
def test_steps_are_steps_and_keep_the_order(values, unit, count):
    steps = Scale.of(values, unit).steps(values, count)
    known = ~np.isnan(values)
    assert ((steps == -1) == ~known).all()
    assert steps.max(initial=-1) < count
    order = np.argsort(values[known])
    assert (np.diff(steps[known][order]) >= 0).all()


@pytest.mark.parametrize("tier", ["truecolor", "none"])
def test_the_legend_prints_both_ends_and_says_log(tier):
    row = text(legend(Scale(1.5, 22574, "log"), "norm", styles_for(RenderOptions(tier=tier)), 60))
    assert row.startswith("norm 1.5 ")
    assert row.endswith(" 22.6k · log")


@pytest.mark.parametrize("width", range(20, 60))
def test_a_narrow_border_shortens_the_ramp_before_it_cuts_an_end(width):
    row = text(
        legend(Scale(-0.998, 0.998, "signed"), "activation", styles_for(RenderOptions()), width)
    )
    assert "-0.998" in row
    assert "0.998" in row.replace("-0.998", "")
    assert cell_len(row) <= max(width - 4, 17)
