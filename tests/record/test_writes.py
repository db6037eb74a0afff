"""What parts add to the stream, in families that name or scale them in their own way, by hand."""

from dataclasses import replace

import pytest
import torch

from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.derive import tensors
from llmscope.record.derive.verify import WRITES, verify
from llmscope.scope.scope import Scope
from tests.all_families import small_model
from tests.record.conftest import prompt_of, recorder_for

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]
OTHER = [9, 33, 71, 4, 12, 42, 60, 1, 88, 25, 7, 13, 66]

# family -> modules whose outputs are added for attention and for the MLP, and the scale's name.
GRANITE = (("self_attn", "mamba"), ("block_sparse_moe", "shared_mlp"), "residual_multiplier")
ADDED = {
    "granitemoe": GRANITE,
    "granitemoeshared": GRANITE,
    "granitemoehybrid": GRANITE,
    "granitemoe_swa": GRANITE,
    "afmoe": (("post_attention_layernorm",), ("post_mlp_layernorm",), None),
    "lfm3": (("post_operator_norm",), ("post_ffn_norm",), None),
    "hyperclovax": (("post_norm1",), ("post_norm2",), "residual_multiplier"),
    "minicpm3": (("self_attn",), ("mlp",), "residual_scale"),
    "glm4": (("post_self_attn_layernorm",), ("post_mlp_layernorm",), None),
}
SCALES = {"residual_multiplier": 0.5}


def model_of(family):
    name = ADDED[family][2]
    return small_model(family, **({name: SCALES[name]} if name in SCALES else {}))


def near(found, own):
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= 1e-5 * float(own.abs().max())


def by_hand(family):
    """Streams and the two writes of each layer of a plain model. [row, width] each"""
    model, streams, writes = model_of(family), [], []
    *both, scale = ADDED[family]
    for layer in model.model.layers:
        written = [[], []]
        writes.append(written)

        def enter(_, args, kwargs):
            streams.append((args[0] if args else kwargs["hidden_states"])[0].clone())

        layer.register_forward_pre_hook(enter, with_kwargs=True)
        factor = getattr(layer, scale) if scale else 1.0
        for found, names in zip(written, both, strict=True):
            for name in names:
                module = getattr(layer, name, None)
                if module is not None:

                    def keep(_, args, output, found=found, factor=factor):
                        first = output[0] if isinstance(output, tuple) else output
                        found.append(first.reshape(len(IDS), -1) * factor)

                    module.register_forward_hook(keep)
    final = model.model.embedding_norm if family == "lfm3" else model.model.norm
    final.register_forward_pre_hook(lambda _, args: streams.append(args[0][0].clone()))
    with torch.no_grad():
        model(input_ids=torch.tensor([IDS]), use_cache=False)
    return streams, [[sum(part) for part in layer] for layer in writes]


@pytest.mark.parametrize("family", ADDED)
def test_writes_are_what_modules_gave_and_add_up(family):
    streams, writes = by_hand(family)
    recorder = recorder_for(model_of(family))
    verdicts = verify(recorder)
    assert verdicts("writes").status == "verified"
    recording = recorder.record(prompt_of(IDS), fresh=True)
    for layer, (mixed, mlp) in enumerate(writes):
        first = recording.rows("attention_write", layer)
        near(recording.rows("mixer_write", layer) if first is None else first, mixed)
        near(recording.rows("mlp_write", layer), mlp)
        near(streams[layer] + mixed + mlp, streams[layer + 1])
        near(recording.rows("stream", layer + 1), streams[layer + 1])


@pytest.mark.parametrize("family", ADDED)
def test_a_write_doubled_is_refused(family):
    model = model_of(family)
    layers = list(find(model).layers)
    layers[1] = replace(layers[1], scales=dict.fromkeys(WRITES, 2.0))
    verdicts = verify(recorder_for(model, layers=tuple(layers)))
    assert verdicts("writes", 1).status == "refused"
    assert verdicts("writes", 0).status == "verified"


@pytest.mark.parametrize(
    "edit", ["zero mlp 1", "scale mlp 1 0.25", "mean mlp 1", "patch mlp 1 from B"]
)
def test_an_edit_of_the_mlp_is_of_the_experts_and_of_the_mlp_beside_them(edit):
    family = "granitemoeshared"
    plain = model_of(family)
    layer = plain.model.layers[1]
    sums = {}
    for ids in (IDS, OTHER):
        caught = []
        hooks = [
            getattr(layer, name).register_forward_hook(
                lambda _, __, output, caught=caught: caught.append(output[0].clone())
            )
            for name in ("block_sparse_moe", "shared_mlp")
        ]
        with torch.no_grad():
            plain(input_ids=torch.tensor([ids]), use_cache=False)
        for hook in hooks:
            hook.remove()
        sums[tuple(ids)] = sum(caught)
    own = sums[tuple(IDS)]
    becomes = {
        "zero mlp 1": torch.zeros_like(own),
        "scale mlp 1 0.25": own / 4,
        "mean mlp 1": own.mean(0, keepdim=True).expand_as(own),
        "patch mlp 1 from B": sums[tuple(OTHER)],
    }[edit]
    layer.block_sparse_moe.register_forward_hook(lambda *_: becomes[None])
    layer.shared_mlp.register_forward_hook(lambda *_: torch.zeros_like(becomes)[None])
    with torch.no_grad():
        expected = plain(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
    model = model_of(family)
    scope = Scope(LoadedModel("", family, model, None, find(model), model.device, model.dtype))
    edited = scope.record(IDS, edits=[edit], versus_prompt=OTHER)
    near(tensors.logits(edited, 0, len(IDS)), expected)
    near(edited.rows("mlp_write", 1), becomes * layer.residual_multiplier)
