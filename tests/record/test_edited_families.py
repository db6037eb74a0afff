"""Every family: an edited pass is right, or refused with a reason."""

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.record.derive import tensors
from llmscope.record.derive.post_norms import post_norms
from tests.families import FAMILIES, refused, small_model
from tests.record.by_hand import A, B
from tests.record.interventions.test_edited import near, scope_for

pytestmark = pytest.mark.slow


def stack_of(model):
    """The decoder's layers, found as the one list of three."""
    return next(
        child
        for module in model.modules()
        for child in module.children()
        if isinstance(child, torch.nn.ModuleList) and len(child) == 3
    )


def steered(family, at, vector, first):
    """Logits of a plain model with a vector added before a layer, from a token on."""
    model = small_model(family)

    def add(_, args, kwargs):
        hidden = (args[0] if args else kwargs["hidden_states"]).clone()
        hidden[..., first:, :] += vector
        return (
            ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})
        )

    stack_of(model)[at].register_forward_pre_hook(add, with_kwargs=True)
    with torch.no_grad():
        return model(input_ids=torch.tensor([A]), use_cache=False).logits[0].float()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_is_steered_and_patched_and_reuse_changes_no_number(family):
    scope, other = scope_for(small_model(family)), scope_for(small_model(family))
    row = small_model(family).get_output_embeddings().weight[17].detach()
    if len(row) != scope.loaded_model.anatomy.width:
        pytest.skip("its unembedding reads a projection")
    scope.record(A[:9], edits=["steer 0 token id:17 2 @4.."])
    for at, name in ((0, "embed"), (1, "0"), (2, "1")):
        recording = scope.record(A, edits=[f"steer {name} token id:17 2 @4.."])
        own = steered(family, at, 2 * row, 4)
        near(tensors.logits(recording, 0, len(A)), own, 2e-5)
    theirs = other.record(B, fresh=True)
    everything = scope.record(A, edits=["patch stream embed from B"], versus_prompt=B, fresh=True)
    assert torch.equal(everything.logits, theirs.logits)
    last = scope.record(A, edits=["patch stream -1 from B"], versus_prompt=B)
    assert torch.equal(last.rows("stream", 3), theirs.rows("stream", 3))
    own = other.record(A, fresh=True)
    unedited = scope.record(A)
    for layer in range(4):
        near(unedited.rows("stream", layer), own.rows("stream", layer))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_part_is_switched_off_or_refused(family):
    scope = scope_for(small_model(family))
    for part in ("head", "neuron", "attention", "mlp", "layer"):
        switch_off(scope, family, part)


def switch_off(scope, family, part):
    capability = {"head": "patterns", "neuron": "activations"}.get(part, "writes")
    index = ".1" if part in ("head", "neuron") else ""
    for layer in range(3):
        parts = scope.loaded_model.anatomy.layers[layer]
        lacks = (part == "attention" and parts.attention_write is None) or (
            part == "mlp" and parts.mlp_write is None
        )
        edit = f"zero {part} {layer}{index} @5.."
        mapped = part == "head" and parts.mapped is not None
        if mapped and scope.verdicts("maps", layer).status != "refused":
            # By hand in interventions/test_recurrent_heads.py.
            recording, unedited = scope.record(A, edits=[edit]), scope.record(A)
            streams = [each.rows("stream", layer + 1) for each in (recording, unedited)]
            assert torch.equal(*(rows[:5] for rows in streams))
            assert not torch.allclose(*(rows[5:] for rows in streams))
            continue
        if lacks or layer in refused(family, capability):
            with pytest.raises(ScopeError) as caught:
                scope.record(A, edits=[edit])
            assert caught.value.hint
            continue
        scope.record(A[:7], edits=[edit])
        recording = scope.record(A, edits=[edit])
        some = range(5, len(A))
        if part == "head":
            assert not tensors.head_outputs(recording, layer)[5:, 1].any()
            near(
                tensors.attention_output(recording, layer),
                recording.rows("attention_write", layer),
                2e-5,
            )
        elif part == "neuron":
            assert not tensors.activations(recording, layer)[5:, 1].any()
            near(tensors.mlp_output(recording, layer), recording.rows("mlp_write", layer), 2e-5)
        elif part == "layer":
            streams = [recording.rows("stream", at, some) for at in (layer, layer + 1)]
            # Norms that stand in the stream go on: what is off is what the layer adds.
            if post_norms(parts) is None:
                assert torch.equal(*streams)
            for name in ("attention_write", "mlp_write"):
                written = recording.rows(name, layer, some)
                assert written is None or not written.any()
        else:
            assert not recording.rows(f"{part}_write", layer, some).any()
        again = scope.record(A, edits=[edit], fresh=True)
        near(tensors.logits(recording, 0, len(A)), tensors.logits(again, 0, len(A)), 2e-5)
