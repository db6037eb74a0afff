"""Every family against plain transformers on a model that llmscope never touched."""

import pytest
import torch

from llmscope.record.derive import tensors
from tests.families import FAMILIES, refused, small_model
from tests.record.conftest import prompt_of, recorder_for

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]  # longer than the windows of 6


def near(found, own):
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= 1e-5 * float(own.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_probabilities_and_streams(family):
    recording = recorder_for(small_model(family)).record(prompt_of(IDS))
    plain = small_model(family)
    streams = []
    stack = next(
        child
        for module in plain.modules()
        for child in module.children()
        if isinstance(child, torch.nn.ModuleList) and len(child) == 3
    )
    for layer in stack:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: streams.append(
                (args[0] if args else kwargs["hidden_states"])[0].clone()
            ),
            with_kwargs=True,
        )
    with torch.no_grad():
        own = plain(input_ids=torch.tensor([IDS])).logits[0]
    found = tensors.logits(recording, 0, len(IDS))
    near(found, own)
    assert float((torch.softmax(found, -1) - torch.softmax(own, -1)).abs().max()) <= 1e-5
    assert len(streams) == recording.layers == 3
    for layer, stream in enumerate(streams):
        near(recording.rows("stream", layer), stream)


@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_equal_eager_wherever_there_is_attention(family):
    without = refused(family, "patterns")
    shown = [layer for layer in range(3) if layer not in without]
    recording = recorder_for(small_model(family)).record(prompt_of(IDS))
    for layer in without:
        with pytest.raises(ValueError, match="no attention"):
            tensors.pattern(recording, layer)
    if not shown:
        return
    plain = small_model(family)
    plain.config._attn_implementation = "eager"
    with torch.no_grad():
        output = plain(input_ids=torch.tensor([IDS]), output_attentions=True)
    # Hybrids give one map for each layer that has attention.
    own = [attention for attention in output.attentions if attention is not None]
    assert len(own) == len(shown)
    for layer, attention in zip(shown, own, strict=True):
        found = tensors.pattern(recording, layer)
        assert float((found - attention[0]).abs().max()) <= 1e-5
