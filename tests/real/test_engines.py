"""Hidden states of SmolLM2 from plain transformers, as another engine would write them."""

import numpy as np
import pytest
import torch

from llmscope.models.hidden_states import read_hidden_states
from llmscope.record.compare.engine_difference import hidden_states_difference
from llmscope.record.compare.rounding import MARGIN, rounding
from tests.vllm_files import streams, write

pytestmark = [pytest.mark.xdist_group("smollm2"), pytest.mark.slow]
PROMPT = "When Mary and John went to the store, John gave a drink to"
SHORT = ("The", "x = 5", "Paris is", "1 2 3")
LAYERS = list(range(31))


def engine(plain, dtype):
    """The weights in another dtype and with another attention function."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(
        plain.config, attn_implementation="eager", dtype=dtype
    ).eval()
    model.load_state_dict(plain.state_dict())
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_correct_engine_does_not_part(smollm2, plain, tmp_path, dtype):
    model = engine(plain, dtype)
    worst = 0.0
    for prompt in (PROMPT, *SHORT):
        recording = smollm2.record(prompt, fresh=True)
        ids = list(recording.prompt.ids)
        states = read_hidden_states(
            write(tmp_path / "a.safetensors", ids, streams(model, ids)), LAYERS
        )
        found = hidden_states_difference(recording, states)
        assert found.parting is None, found.caption
        known = rounding(recording, dtype)
        typical = np.maximum(np.median(known.relative, axis=1), torch.finfo(dtype).eps)
        worst = max(worst, float((np.median(found.relative, axis=1) / typical).max()))
    assert worst < MARGIN
    assert found.kl.max() < (1e-8 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize(("dtype", "heads"), [(torch.float32, 1), (torch.bfloat16, 9)])
def test_changed_heads_are_found_in_their_layer(smollm2, plain, tmp_path, dtype, heads):
    """One head in float32; in bfloat16 rounding hides one, and all of the layer's are changed."""
    model = engine(plain, dtype)
    with torch.no_grad():
        model.model.layers[14].self_attn.o_proj.weight[:, : heads * 64] *= 2
    recording = smollm2.record(PROMPT, fresh=True)
    ids = list(recording.prompt.ids)
    path = write(tmp_path / "a.safetensors", ids, streams(model, ids))
    found = hidden_states_difference(recording, read_hidden_states(path, LAYERS))
    assert found.layer == 15
    beyond = np.median(found.relative, axis=1) > found.rounding[:, 0]
    assert not beyond[:15].any()
    assert beyond[15:].all() or dtype == torch.bfloat16


def test_layers_that_are_off_by_one_are_told(smollm2, plain, tmp_path):
    recording = smollm2.record(PROMPT, fresh=True)
    ids = list(recording.prompt.ids)
    chosen = [2, 3, 16, 30]
    path = write(
        tmp_path / "a.safetensors", ids, streams(engine(plain, torch.bfloat16), ids), chosen
    )
    found = hidden_states_difference(recording, read_hidden_states(path, [1, 2, 15, 29]))
    assert found.parting == 0
    assert found.caption[-1] == "the streams fit layer ids 2,3,16,30"
