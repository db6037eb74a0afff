"""Prompts of several lengths in one pass, against a pass of each."""

import inspect

import numpy as np
import pytest

from llmscope.record.analysis.logit_lens import LensReading, read, read_together, readings
from llmscope.record.capture.padded import record_padded
from llmscope.record.fetch import fetched
from tests.families import FAMILIES, small_model
from tests.record.conftest import prompt_of, recorder_for

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]  # longer than the windows of 6
PROMPTS = (IDS, IDS[3:], IDS[-2:], IDS[:9])


def near(found, own):
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= 1e-5 * float(own.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.few(8)
def test_every_family(family):
    recorder = recorder_for(small_model(family))
    padded = record_padded(recorder, [prompt_of(ids) for ids in PROMPTS])
    assert len(padded) == len(PROMPTS)
    for ids, found in zip(PROMPTS, padded, strict=True):
        own = recorder.record(prompt_of(ids), fresh=True)
        near(found.logits, own.logits)
        near(found.parts[0][0].final, own.parts[0][0].final)
        for layer in range(own.layers):
            near(found.rows("stream", layer), own.rows("stream", layer))


def test_it_keeps_the_streams_alone():
    recorder = recorder_for(small_model("llama"))
    (found,) = record_padded(recorder, [prompt_of(IDS)])
    for rows in found.parts[0][0].layers:
        kept = {name for name, value in vars(rows).items() if value is not None}
        assert kept == {"stream"}
    whole = recorder.record(prompt_of(IDS), fresh=True)  # the next one keeps all again
    assert whole.rows("mlp_write", 1).shape == whole.rows("stream", 1).shape


@pytest.mark.parametrize("targets", [(None, None, None, None), (3, 4, 3, 90), (None, 4, None, 7)])
def test_logit_lenses_read_together_are_those_read_alone(targets):
    recorder = recorder_for(small_model("gpt2"))
    prompts = [prompt_of(ids) for ids in PROMPTS]
    padded = record_padded(recorder, prompts)
    columns = [range(len(ids)) for ids in PROMPTS]
    read_together(list(zip(padded, columns, map(LensReading, targets), strict=True)))
    for found, asked, target, prompt in zip(padded, columns, targets, prompts, strict=True):
        own = recorder.record(prompt, fresh=True)
        fetched(read(own, asked, LensReading(target)))
        pair = [readings(one, LensReading(target), range(len(one))) for one in (found, own)]
        for name in ("token", "probability", "target", "rank"):
            one, other = (getattr(side, name) for side in pair)
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
            assert np.isnan(one).all() == (name in ("target", "rank") and target is None)


def test_code_around_the_body_is_run():
    """What transformers did not write may do anything there."""
    model = small_model("gpt2")
    recorder = recorder_for(model)
    assert recorder._body is model.transformer
    ran = []
    kind = type(model)

    class Own(kind):
        def forward(self, *args, **how):
            ran.append(how["logits_to_keep"])
            return super().forward(*args, **how)

    Own.forward.__signature__ = inspect.signature(kind.forward)
    model.__class__ = Own
    record_padded(recorder_for(model), [prompt_of(IDS)])
    assert ran == [1]
