"""TransformerLens on the same random GPT-2: what both can say is the same within 1e-4.

It runs the model's attention and norms in its own code, and its weights are left as they are: no
folding and no centring, but where a test says so. It needs the extra `bench`.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llmscope.record.derive.tensors import activations
from tests.families import small_model
from tests.lenses.test_experts import scope_on

pytest.importorskip("transformer_lens")

from transformer_lens import head_detector
from transformer_lens.model_bridge.sources import build_bridge_from_module

IDS = [5, 17, 3, 60, 17, 42, 8, 91, 33, 17, 42, 2]
LAYERS, HEADS = 3, 4
TARGET, VERSUS, POSITION = 11, 40, 7
CLOSE = 1e-4


def bridged():
    """TransformerLens around a model of its own: it changes in place what it is given."""
    model = small_model("gpt2").requires_grad_(False)
    return build_bridge_from_module(model, "GPT2LMHeadModel", hf_config=model.config)


def cached(bridge, ids):
    """All that TransformerLens keeps of a run."""
    return bridge.run_with_cache(torch.tensor([ids]))[1]


@pytest.fixture(scope="module")
def both():
    """The two, after the same tokens."""
    scope, bridge = scope_on("gpt2"), bridged()
    scope.record(IDS)
    return SimpleNamespace(scope=scope, bridge=bridge, cache=cached(bridge, IDS))


def alike(ours, theirs, close=CLOSE):
    """Equal within 1e-4, in shape too."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 10 * close  # there is something to tell apart
    assert ours == pytest.approx(theirs, abs=close, rel=0)


def alike_streams(ours, theirs):
    """Equal within 1e-4 of the largest magnitude."""
    alike(ours, theirs, CLOSE * float(theirs.abs().max()))


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize(
    ("theirs", "ours", "later"),
    [
        ("resid_pre", "stream", 0),
        ("resid_post", "stream", 1),
        ("attn_out", "attention_write", 0),
        ("mlp_out", "mlp_write", 0),
    ],
)
def test_streams(both, layer, theirs, ours, later):
    alike_streams(both.scope.latest.rows(ours, layer + later), both.cache[theirs, layer][0])


@pytest.mark.parametrize(
    ("mode", "theirs"), [("stream", "resid_post"), ("attention", "attn_out"), ("mlp", "mlp_out")]
)
def test_norms_of_streams(both, mode, theirs):
    shown = both.scope.look("residual", mode=mode).values[-LAYERS:]
    alike_streams(
        shown, torch.stack([both.cache[theirs, i][0].norm(dim=-1) for i in range(LAYERS)])
    )


@pytest.mark.parametrize("layer", range(LAYERS))
def test_attention_patterns_of_all_heads(both, layer):
    shown = both.scope.look("attention", mode="all", layer=layer).values
    alike(np.nan_to_num(shown), both.cache["pattern", layer][0])


def test_the_logits_of_the_logit_lens(both):
    theirs = both.cache.logit_lens(positions=None).values[:, 0]
    recording = both.scope.latest
    streams = torch.stack([recording.rows("stream", layer) for layer in range(LAYERS + 1)])
    with torch.no_grad():
        alike(recording.model.anatomy.readout(streams), theirs)
    figure = both.scope.look("logit-lens")
    alike(figure.values, theirs.softmax(-1).max(-1).values)
    assert figure.extra["ids"].tolist() == theirs.argmax(-1).tolist()
    figure = both.scope.look("logit-lens", mode="target", target=TARGET)
    alike(figure.values, theirs.softmax(-1)[..., TARGET])


@pytest.mark.parametrize("name", ["induction", "previous-token", "duplicate-token"])
def test_scores_of_heads(both, name):
    """Theirs is a share of all the attention there is; ours is a mean over the second copy."""
    figure = both.scope.look("heads", mode=name)
    ids, half = figure.extra["sequence"], figure.extra["half"]
    detected = getattr(head_detector, f"get_{name.replace('-', '_')}_head_detection_pattern")
    wanted = detected(torch.tensor([ids]))
    wanted[: len(ids) - half] = 0  # the first copy also has tokens before it
    cache = cached(both.bridge, ids)
    score = head_detector.compute_head_attention_similarity_score
    options = {"exclude_bos": False, "exclude_current_token": False, "error_measure": "mul"}
    theirs = [
        [score(head, wanted, **options) * len(ids) / half for head in cache["pattern", layer][0]]
        for layer in range(LAYERS)
    ]
    alike(figure.values, theirs)


def attributed(both, stack, versus):
    """Their parts on the direction of the target, through the last norm with its scale at rest."""
    direction = both.bridge.W_U[:, TARGET]
    if versus is not None:
        direction = direction - both.bridge.W_U[:, versus]
    return both.cache.apply_ln_to_stack(stack)[:, 0, POSITION] @ (
        both.bridge.ln_final.weight * direction
    )


@pytest.mark.parametrize("versus", [None, VERSUS])
def test_attribution_of_heads(both, versus):
    figure = both.scope.look(
        "attribution", mode="heads", target=TARGET, versus=versus, position=POSITION
    )
    theirs = attributed(both, both.cache.stack_head_results(), versus)
    alike(figure.values, theirs.reshape(LAYERS, HEADS))


@pytest.mark.parametrize("versus", [None, VERSUS])
def test_attribution_of_layers(both, versus):
    figure = both.scope.look(
        "attribution", mode="layers", target=TARGET, versus=versus, position=POSITION
    )
    stack, names = both.cache.decompose_resid(return_labels=True)
    theirs = dict(zip(names, attributed(both, stack, versus), strict=True))
    by_layer = [[theirs[f"{i}_attn_out"], theirs[f"{i}_mlp_out"]] for i in range(LAYERS)]
    assert figure.axes[1].labels == ("attention", "MLP")
    alike(figure.values, by_layer)
    alike(figure.extra["embedding"], theirs["embed"] + theirs["pos_embed"])


def test_attribution_of_neurons(both):
    figure = both.scope.look(
        "attribution", mode="neurons", layer=1, target=TARGET, position=POSITION, top_k=1000
    )
    stack = both.cache.get_neuron_results(1)[0, POSITION]  # [neuron, width]
    theirs = attributed(both, stack[:, None, None].expand(-1, 1, len(IDS), -1), None)
    alike(figure.values, theirs[list(figure.extra["neurons"])])


def test_attribution_of_heads_on_folded_and_centred_weights(both):
    """As TransformerLens is mostly used: a difference of two logits must not change by it."""
    bridge = bridged()
    bridge.enable_compatibility_mode(fold_value_biases=False)  # here they belong to the heads
    cache = cached(bridge, IDS)
    theirs = cache.logit_attrs(cache.stack_head_results(), TARGET, VERSUS).detach()
    figure = both.scope.look(
        "attribution", mode="heads", target=TARGET, versus=VERSUS, position=POSITION
    )
    alike(figure.values, theirs[:, 0, POSITION].reshape(LAYERS, HEADS))


@pytest.mark.parametrize("layer", range(LAYERS))
def test_activations_of_neurons(both, layer):
    theirs = both.cache["post", layer][0]
    alike(activations(both.scope.latest, layer), theirs)
    for neuron in (0, 77, theirs.shape[1] - 1):
        alike(both.scope.look("neurons", layer=layer, neuron=neuron).values, theirs[:, neuron])
