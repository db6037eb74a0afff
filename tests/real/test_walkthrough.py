"""The walk through a real model: each step against hooks by hand, in early and late layers."""

import numpy as np
import pytest

from llmscope.record.walkthrough import steps
from tests.record.walked import Truth, off

pytestmark = [pytest.mark.xdist_group("smollm2"), pytest.mark.slow]
TEXT = "The capital of France is"


@pytest.mark.parametrize("layer", [0, 9, 29])
def test_each_step_is_what_plain_transformers_gives(smollm2, plain, layer):
    recording = smollm2.record(TEXT)
    try:
        truth = Truth("llama", plain, list(recording.prompt.ids), layer, -1, heads=(9, 3))
    finally:
        plain.set_attn_implementation("sdpa")
    found = steps(recording, len(recording) - 1, layer, smollm2.recorder.run)
    ends = iter(truth.values["residual add"])
    for step in found:
        if step.name == "tokens" or step.name.startswith("layer"):
            continue
        own = next(ends) if step.name == "residual add" else truth.values[step.name]
        assert not step.reason, step.name
        assert step.by == "arithmetic"
        assert step.agreement <= 1e-5
        if step.name == "scores":  # a score is an exponent: its error counts as it is
            assert np.nanmax(np.abs(step.value - own)) <= 1e-5 * max(1, np.nanmax(np.abs(own)))
        else:
            assert off(step.value, own, step.axes) <= 1e-5, step.name


def test_it_ends_in_paris(smollm2):
    smollm2.record(TEXT)
    figure = smollm2.look("walkthrough", layer=9)
    assert figure.verdict.status == "verified"
    assert figure.extra["steps"][-1]["told"] == [" Paris"]
    assert "(77.2" in figure.extra["caption"][0]
    assert "one at a time" not in figure.extra["caption"][0]  # a pass takes its time here
