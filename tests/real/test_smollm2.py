"""llmscope on a real model, against plain transformers on the same weights."""

import pytest
import torch

from llmscope.record.derive import tensors
from llmscope.record.derive.verify import CAPABILITIES

pytestmark = pytest.mark.xdist_group("smollm2")
PROMPT = (
    "The old bank by the river was closed on Sunday, so Mary walked to the market. "
    "She bought bread, two apples and a map of France — its capital, Paris, was circled in red."
)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            "The capital of France is",
            {" Paris": 0.7725, " the": 0.0645, " London": 0.0125, " Le": 0.0099, " New": 0.0093},
        ),
        ("When Mary and John went to the store, John gave a drink to", {" Mary": 0.92}),
        ("The Eiffel Tower is located in the city of", {" Paris": 0.70}),
    ],
)
def test_it_says_what_is_known_of_it(smollm2, prompt, expected):
    smollm2.record(prompt, fresh=True)
    figure = smollm2.look("next-token", top_k=5)
    top = dict(zip(figure.axes[0].labels, figure.values.tolist(), strict=True))
    assert list(top)[: len(expected)] == list(expected)
    for token, probability in expected.items():
        assert top[token] == pytest.approx(probability, abs=0.002 if len(expected) > 1 else 0.01)
    assert figure.verdict.status == "verified"


def test_every_capability_that_it_has_is_verified(smollm2):
    status = {name: smollm2.verdicts(name).status for name in CAPABILITIES}
    assert status.pop("experts") == "refused"
    assert set(status.values()) == {"verified"}


def test_patterns_and_probabilities_equal_eager(smollm2, plain):
    recording = smollm2.record(PROMPT, fresh=True)
    ids = torch.tensor([recording.prompt.ids])
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        own = plain(input_ids=ids, output_attentions=True)
    plain.set_attn_implementation("sdpa")
    for layer in range(30):
        found = tensors.pattern(recording, layer)
        assert float((found - own.attentions[layer][0]).abs().max()) <= 1e-5, layer
    found = torch.softmax(tensors.logits(recording, 0, len(recording)), -1)
    assert float((found - torch.softmax(own.logits[0], -1)).abs().max()) <= 1e-5


def test_streams_activations_and_logits_equal_hooked_values(smollm2, plain):
    recording = smollm2.record(PROMPT, fresh=True)
    caught = {}

    def keep(name):
        return lambda _, args, output=None: caught.update({name: args[0][0]})

    hooks = [
        layer.mlp.down_proj.register_forward_pre_hook(keep(index))
        for index, layer in enumerate(plain.model.layers)
    ]
    hooks.append(plain.model.norm.register_forward_pre_hook(keep("final")))
    with torch.no_grad():
        own = plain(input_ids=torch.tensor([recording.prompt.ids]), output_hidden_states=True)
    for hook in hooks:
        hook.remove()

    def near(found, expected):
        assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())

    for layer in range(30):
        near(recording.rows("stream", layer), own.hidden_states[layer][0])
        near(tensors.activations(recording, layer), caught[layer])
    near(recording.rows("stream", 30), caught["final"])
    near(tensors.logits(recording, 0, len(recording)), own.logits[0])
