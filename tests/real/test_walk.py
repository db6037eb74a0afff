"""200 random edits on the real models: reuse never changes a number."""

from dataclasses import replace

import pytest

import llmscope
from llmscope.record.capture.recorder import Recorder
from tests.record.walk import walk


@pytest.mark.slow
def test_reuse_on_the_model_that_ships():
    live, reference = llmscope.load("builtin:sort"), llmscope.load("builtin:sort")
    ran, reused, cancelled = walk(live.recorder, reference.recorder, steps=200, longest=11, seed=1)
    assert reused > 0.5 * ran
    assert cancelled > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("smollm2")
def test_reuse_on_smollm2(smollm2, plain):
    from llmscope.models.anatomy import find

    model = replace(smollm2.loaded_model, module=plain, anatomy=find(plain))
    ran, reused, cancelled = walk(smollm2.recorder, Recorder(model), steps=200, longest=64, seed=2)
    assert reused > ran
    assert cancelled > 20
