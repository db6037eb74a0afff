"""What is derived in the place of the MLP's input is that input."""

import pytest
import torch

from llmscope.models.anatomy import find
from llmscope.record.derive.verify import verify
from tests.families import CLOSELY, FAMILIES, small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.thinned import thinned

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 31, 9]


def inputs_of(model):
    """What each MLP of an untouched model is handed. [row, width] each."""
    caught = []
    for layer in find(model).layers:
        if layer.mlp_input_module is not None:
            layer.mlp_input_module.register_forward_pre_hook(
                lambda _, args, named: caught.append(
                    (args or (named["hidden_states"],))[0].clone()
                ),
                with_kwargs=True,
            )
    with torch.no_grad():
        model(torch.tensor([IDS]), use_cache=False)
    return [tensor.reshape(len(IDS), -1) for tensor in caught]


CASES = [(family, dtype) for dtype in (torch.float32, torch.bfloat16) for family in FAMILIES]


@pytest.mark.parametrize(
    ("family", "dtype"),
    thinned(CASES, lambda case: case[1].itemsize == 4 or case[0] in CLOSELY),
    ids=str,
)
@pytest.mark.few(8)
def test_it_is_what_the_mlp_is_handed(family, dtype):
    own = inputs_of(small_model(family).to(dtype))
    recorder = recorder_for(small_model(family).to(dtype))
    verify(recorder)
    recording = recorder.record(prompt_of(IDS), fresh=True)
    found = [recording.rows("mlp_input_module", layer) for layer in range(recording.layers)]
    found = [entry for entry in found if entry is not None]
    assert len(found) == len(own)
    bound = 1e-5 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    for mine, theirs in zip(found, own, strict=True):
        assert float((mine.float() - theirs.float()).abs().max()) <= bound * float(
            theirs.abs().max()
        )


@pytest.mark.slow
def test_most_families_keep_a_fifth_less():
    saved = []
    for family in FAMILIES:
        recorder = recorder_for(small_model(family))
        verify(recorder)
        recording = recorder.record(prompt_of(IDS))
        layers = [
            rows for rows in recording.parts[0][0].layers if rows.mlp_input_module is not None
        ]
        if layers and all(rows.entry is not None and rows.kept_entry is None for rows in layers):
            saved.append(family)
    # In falcon_h1 three things are added in another order; the others have no MLP.
    assert set(FAMILIES) - set(saved) == {"falcon_h1", "mamba", "mamba2", "rwkv"}


def test_what_does_not_follow_bit_for_bit_is_kept():
    model = small_model("llama")  # hands one MLP something else than the norm gives
    model.model.layers[1].mlp.register_forward_pre_hook(lambda _, args: (args[0] * 1.001,))
    recorder = recorder_for(model)
    verify(recorder)
    entries = [tap.entry for tap in recorder.taps.layers]
    assert entries[1] is None
    assert None not in (entries[0], entries[2])
