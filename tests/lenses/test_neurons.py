"""Neurons: activations and promoted tokens against plain transformers, written out by hand."""

import numpy as np
import pytest
import torch

from tests.families import small_model
from tests.lenses.test_experts import IDS, scope_on

# By family: down projection, MLP, final norm.
LLAMA = ("model.layers.{}.mlp.down_proj", "model.layers.{}.mlp", "model.norm")
PLACES = {
    "llama": LLAMA,
    "phi3": LLAMA,
    "granite": LLAMA,
    "gemma2": LLAMA,
    "cohere": LLAMA,
    "falcon_h1": (
        "model.layers.{}.feed_forward.down_proj",
        "model.layers.{}.feed_forward",
        "model.final_layernorm",
    ),
    "gpt2": ("transformer.h.{}.mlp.c_proj", "transformer.h.{}.mlp", "transformer.ln_f"),
    "opt": (
        "model.decoder.layers.{}.fc2",
        "model.decoder.layers.{}.fc2",
        "model.decoder.final_layer_norm",
    ),
}
LAYER = 1


def weights(model, family):
    """W_out. [neuron, width]"""
    weight = model.get_submodule(PLACES[family][0].format(LAYER)).weight.detach().double()
    if family == "falcon_h1":
        weight = weight * model.config.mlp_multipliers[1]
    return weight if family == "gpt2" else weight.T


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "opt", "falcon_h1"])
def test_activations_through_the_weights_sum_to_what_the_mlp_writes(family):
    model, scope = small_model(family), scope_on(family)
    down, mlp, _ = (path.format(LAYER) for path in PLACES[family])
    written = []
    model.get_submodule(mlp).register_forward_hook(lambda *found: written.append(found[2]))
    with torch.no_grad():
        model(input_ids=torch.tensor([IDS]))
    own = written[0].reshape(len(IDS), -1).double()
    out = weights(model, family)
    looks = [
        scope.look("neurons", layer=LAYER, neuron=neuron, top_k=1) for neuron in range(len(out))
    ]
    assert all(figure.verdict.status == "verified" for figure in looks)
    fired = torch.tensor(np.stack([figure.values for figure in looks])).double()
    total = torch.einsum("np,nw->pw", fired, out)
    bias = getattr(model.get_submodule(down), "bias", None)
    total = total if bias is None else total + bias.detach().double()
    assert float((total - own).abs().max()) <= 1e-5 * float(own.abs().max())


@pytest.mark.parametrize("family", PLACES)
def test_what_it_promotes_is_the_product_of_the_weights(family):
    model = small_model(family)
    neuron = 13
    row = weights(model, family)[neuron]
    shift = 1 if family == "gemma2" else 0  # its norms multiply by 1 + weight
    if family == "gemma2":
        row = row * (model.model.layers[LAYER].post_feedforward_layernorm.weight.double() + 1)
    norm = model.get_submodule(PLACES[family][2])
    row = row * (getattr(model.config, "residual_multiplier", None) or 1.0)
    if family in ("gpt2", "opt", "cohere"):
        row = row - row.mean()
    gained = row * (norm.weight.detach().double() + shift)
    raised = model.get_output_embeddings().weight.detach().double() @ gained
    if family == "cohere":
        raised = raised * model.config.logit_scale
    if family == "granite":
        raised = raised / model.config.logits_scaling
    if family == "falcon_h1":
        raised = raised * model.config.lm_head_multiplier
    raised = raised.detach() - raised.detach().mean()
    scope = scope_on(family)
    fired = scope.look("neurons", layer=LAYER, neuron=neuron).values
    signs = set()
    for position in (int(fired.argmax()), int(fired.argmin())):
        figure = scope.look(
            "neurons", layer=LAYER, neuron=neuron, mode="tokens", top_k=6, position=position
        )
        sign = -1 if fired[position] < 0 else 1
        signs.add(sign)
        assert figure.extra["sign"] == sign
        check_promoted(figure, sign * raised)
    assert signs == ({1} if family == "opt" else {1, -1}), "a ReLU never fires below zero"


def check_promoted(figure, raised):
    """Compare the lists of a figure with the logits that the neuron raises where it fires so."""
    assert figure.verdict.status == "verified"
    up, down = raised.topk(6), (-raised).topk(6)
    assert figure.extra["promoted_ids"].tolist() == up.indices.tolist()
    assert figure.extra["suppressed_ids"].tolist() == down.indices.tolist()
    expected = torch.cat([up.values, -down.values.flip(0)])
    assert figure.values == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-6)
    assert figure.axes[0].labels == tuple(
        map(str, [*up.indices.tolist(), *down.indices.flip(0).tolist()])
    )


def test_the_strongest_neuron_of_the_position_is_taken():
    model, scope = small_model("llama"), scope_on("llama")
    caught = []
    model.model.layers[LAYER].mlp.down_proj.register_forward_pre_hook(
        lambda _, args: caught.append(args[0][0])
    )
    with torch.no_grad():
        model(input_ids=torch.tensor([IDS]))
    for position in range(len(IDS)):
        figure = scope.look("neurons", layer=LAYER, position=position)
        neuron = int(caught[0][position].abs().argmax())
        assert figure.extra["neuron"] == neuron
        assert figure.values == pytest.approx(caught[0][:, neuron].numpy(), abs=1e-5)
        assert figure.extra["activation"] == figure.values[position]


def test_experts_and_missing_neurons():
    mixture = scope_on("mixtral")
    figure = mixture.look("neurons", layer=LAYER, expert=3, neuron=7)
    assert (figure.extra["neuron"], figure.extra["names"]) == (3 * 80 + 7, ("3.7",))
    strongest = mixture.look("neurons", layer=LAYER, expert=2).extra["neuron"]
    assert strongest in range(2 * 80, 3 * 80)
    with pytest.raises(ValueError, match="expert 4 is out of range"):
        mixture.look("neurons", layer=LAYER, expert=4)
    scope = scope_on("llama")
    with pytest.raises(ValueError, match="layer 2 has no experts"):
        scope.look("neurons", expert=0)
    assert scope.look("neurons", neuron=-1).extra["neuron"] == 79
    with pytest.raises(ValueError, match="neuron 80 is out of range"):
        scope.look("neurons", neuron=80)
