"""What a recording says, held against plain transformers on a model of its own.

The reference never goes through llmscope: a second copy of the weights, in eager attention for
patterns and probabilities, in its default attention with hooks at places that are written out
here, for everything else.
"""

import pytest
import torch

from llmscope.record.derive import row_stats, tensors
from tests.families import CLOSELY, small_model
from tests.record.conftest import prompt_of, recorder_for

LAYERS = {
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "opt": "model.decoder.layers",
}
DOWN = {"gpt2": "mlp.c_proj", "gpt_neox": "mlp.dense_4h_to_h", "opt": "fc2"}
ATTENTION = {"gpt2": "attn", "gpt_neox": "attention"}
# What is added to the stream: on gemma the norms that follow attention and MLP.
WRITES = {
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3_text": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "opt": ("self_attn", "fc2"),
}
FINAL_NORM = {
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "opt": "model.decoder.final_layer_norm",
}
IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]  # longer than gemma's window of 6


@pytest.fixture(params=sorted(CLOSELY))
def family(request):
    return request.param


@pytest.fixture
def recording(family):
    return recorder_for(small_model(family)).record(prompt_of(IDS))


def near(found, own, bound=1e-5):
    """Within the bound, relative to the largest magnitude of the tensor."""
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= bound * float(own.abs().max())


def hooked(model, paths):
    """Run the model on IDS; the first input of each module of `paths`, and its output."""
    inputs, outputs = {}, {}

    def keep(path):
        def hook(_, args, output):
            inputs[path] = args[0] if args else None
            outputs[path] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [model.get_submodule(path).register_forward_hook(keep(path)) for path in paths]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([IDS])).logits[0]
    for hook in hooks:
        hook.remove()
    return inputs, outputs, logits


def rows(tensor):
    return tensor.reshape(len(IDS), -1)


def test_patterns_and_probabilities_equal_eager_transformers(family, recording):
    model = small_model(family)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = model(input_ids=torch.tensor([IDS]), output_attentions=True)
    assert len(own.attentions) == recording.layers
    for layer, attention in enumerate(own.attentions):
        together = tensors.pattern(recording, layer)
        assert float((together - attention[0]).abs().max()) <= 1e-5
        for head in range(attention.shape[1]):
            alone = tensors.pattern(recording, layer, head)
            assert float((alone - attention[0, head]).abs().max()) <= 1e-5
    probabilities = torch.softmax(own.logits[0], -1)
    found = torch.softmax(tensors.logits(recording, 0, len(IDS)), -1)
    assert float((found - probabilities).abs().max()) <= 1e-5
    last = torch.softmax(tensors.logits_after(recording, len(IDS) - 1), -1)
    assert float((last - probabilities[-1]).abs().max()) <= 1e-5


def test_streams_writes_activations_and_logits_equal_hooked_values(family, recording):
    stack = LAYERS.get(family, "model.layers")
    down = DOWN.get(family, "mlp.down_proj")
    attention = ATTENTION.get(family, "self_attn")
    attention_write, mlp_write = WRITES.get(family, (attention, "mlp"))
    norm = FINAL_NORM.get(family, "model.norm")
    model = small_model(family)
    layers = range(model.config.num_hidden_layers)
    wanted = [
        f"{stack}.{layer}.{part}" for layer in layers for part in (down, attention_write, mlp_write)
    ]
    inputs, outputs, logits = hooked(model, [*wanted, norm])
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([IDS]), output_hidden_states=True).hidden_states
    for layer in layers:
        near(recording.rows("stream", layer), hidden[layer][0])
        activations = rows(inputs[f"{stack}.{layer}.{down}"])
        near(tensors.activations(recording, layer), activations)
        near(torch.tensor(row_stats.activity(recording)[layer]), activations.norm(dim=-1))
        for name, path in (("attention_write", attention_write), ("mlp_write", mlp_write)):
            written = rows(outputs[f"{stack}.{layer}.{path}"])
            near(recording.rows(name, layer), written)
            near(torch.tensor(row_stats.norms(recording, name)[layer]), written.norm(dim=-1))
    final = rows(inputs[norm])
    near(recording.rows("stream", recording.layers), final)
    near(torch.tensor(row_stats.norms(recording, "stream")[-1]), final.norm(dim=-1))
    near(tensors.logits(recording, 0, len(IDS)), logits)


def test_row_statistics_equal_those_of_the_logits(family, recording):
    *_, stats = row_stats.row_stats(recording)
    with torch.no_grad():
        logits = small_model(family)(input_ids=torch.tensor([IDS])).logits[0].double()
    logprobs = torch.log_softmax(logits, -1) / torch.log(torch.tensor(2.0, dtype=torch.double))
    entropy = -(logprobs.exp2() * logprobs).sum(-1)
    assert stats.entropy == pytest.approx(entropy.numpy(), abs=1e-4)
    assert torch.tensor(stats.surprisal)[0].isnan()
    assert torch.tensor(stats.rank)[0].isnan()
    for position in range(1, len(IDS)):
        before = logprobs[position - 1]
        own = float(before[IDS[position]])
        assert stats.surprisal[position] == pytest.approx(-own, abs=1e-4)
        assert stats.rank[position] == 1 + int((before > own).sum())


def test_cosines_run_from_the_embedding_to_one(recording):
    found = row_stats.cosines(recording)
    streams = [recording.rows("stream", layer).double() for layer in range(recording.layers + 1)]
    for layer, stream in enumerate(streams):
        dots = (stream * streams[-1]).sum(-1) / (stream.norm(dim=-1) * streams[-1].norm(dim=-1))
        assert found[layer] == pytest.approx(dots.numpy(), abs=1e-5)
    assert found[-1] == pytest.approx(1.0, abs=1e-6)


def test_the_model_is_as_it_was_outside_of_a_recording(family):
    plain = small_model(family)
    recorder = recorder_for(small_model(family))
    recorder.record(prompt_of(IDS))
    ids = torch.tensor([IDS, IDS[::-1]])
    with torch.no_grad():
        own = plain(input_ids=ids).logits
        after = recorder.model.module(input_ids=ids).logits
    assert torch.equal(own, after)
    assert all(not tap.kept for tap in recorder.taps.layers)
