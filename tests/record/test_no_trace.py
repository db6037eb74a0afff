"""Nothing of ours stays on the model: hooks, names, modes and attributes are as they were."""

import io
from contextlib import suppress

import pytest
import torch
from torch.nn.modules import module as torch_module

import llmscope
from llmscope.lenses import lens, names
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from llmscope.support.sandbox import Cancelled
from tests.families import small_model
from tests.lenses.asked import options_for

IDS = (3, 4, 5, 6, 3, 4, 5)
OTHER = (3, 9, 5, 6, 3, 9, 5)
FAMILIES = [
    *("llama", "bloom"),
    *(
        pytest.param(family, marks=pytest.mark.slow)
        for family in ("gpt2", "gemma2", "mixtral", "jamba", "falcon")
    ),
]
# Passes of theirs run beside the recording, each in a way of its own.
EDITS = ("zero head 1.1", "scale mlp 1 0.5", "freeze norm 1.mlp", "patch stream 1 from B")


def scope_of(family, **changes):
    model = small_model(family, **changes)
    device, dtype = torch.device("cpu"), torch.float32
    return Scope(LoadedModel(family, family, model, None, find(model), device, dtype))


def trace(model):
    """All that could stay on a model: by module, the ids of what its attributes hold."""
    found = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, dict):
                found[name, key] = [(at, id(one)) for at, one in value.items()]
            else:
                found[name, key] = value if isinstance(value, bool) else id(value)
        if hasattr(module, "config"):
            found[name, "its config"] = {key: repr(one) for key, one in vars(module.config).items()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found[name] = (
            *(id(tensor), tensor._version, tensor.data_ptr()),
            *(tensor.requires_grad, tensor.grad is None),
        )
    for name in vars(torch_module):
        if name.startswith("_global_") and isinstance(getattr(torch_module, name), dict):
            found[name] = list(getattr(torch_module, name))
    found["generation"] = repr(getattr(model, "generation_config", None))
    return found


def differs(before, after):
    return [key for key in before | after if before.get(key) != after.get(key)]


def look_everywhere(scope, recording):
    shown = 0
    for name in names():
        for mode in lens(name).modes or ("",):
            before = trace(scope.model)
            focus = {"layer": 1, "head": 1, "mode": mode, "versus_prompt": None}
            if "versus_prompt" in lens(name).uses:
                focus["versus_prompt"] = OTHER
            figure = scope.look(name, recording=recording, **options_for(name, target=7, **focus))
            shown += figure.verdict.status != "refused"
            assert not differs(before, trace(scope.model)), (name, mode)
    return shown


@pytest.mark.few(1)
@pytest.mark.parametrize("family", FAMILIES)
def test_neither_a_pass_nor_a_lens_leaves_anything(family):
    scope = scope_of(family)
    before = trace(scope.model)
    recording = scope.record(IDS)
    assert not differs(before, trace(scope.model))
    assert look_everywhere(scope, recording) > 10
    edited = scope.record(IDS, edits=["scale mlp 1 0.5"])
    scope.look("logit-lens", recording=edited, change=True)
    assert not differs(before, trace(scope.model))


@pytest.mark.parametrize("edit", EDITS)
def test_no_edit_leaves_anything(edit):
    scope = scope_of("llama")
    before = trace(scope.model)
    scope.record(IDS, edits=[edit], versus_prompt=OTHER)
    assert not differs(before, trace(scope.model))


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_cancelled_pass_leaves_nothing(family):
    scope = scope_of(family)
    scope.record(IDS)
    before = trace(scope.model)
    for layers in range(3):
        calls = iter([False] * layers + [True] * 100)
        with pytest.raises(Cancelled):
            scope.record(OTHER, cancelled=lambda calls=calls: next(calls))
        assert not differs(before, trace(scope.model))
        calls = iter([False] * layers + [True] * 100)
        with pytest.raises(Cancelled):
            scope.record(IDS, edits=EDITS[:3], cancelled=lambda calls=calls: next(calls))
        assert not differs(before, trace(scope.model))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_pass_that_fails_leaves_nothing(family):
    scope = scope_of(family)
    recording = scope.record(IDS)

    def fail(*_):
        raise RuntimeError("a hook of somebody's")

    handle = scope.loaded_model.anatomy.layers[1].module.register_forward_hook(fail)
    scope._watching = False  # it must not be noticed, but fail in the middle of each pass
    before = trace(scope.model)
    with pytest.raises(RuntimeError, match="somebody"):
        scope.record(OTHER)
    for name in ("saliency", "ablation", "walkthrough", "patching", "context"):
        with suppress(RuntimeError):
            asked = options_for(name, target=7, versus_prompt=OTHER)
            scope.look(name, recording=recording, **asked)
    assert not differs(before, trace(scope.model))
    handle.remove()


def test_the_model_can_be_used_and_saved_in_between():
    scope = scope_of("llama")
    batch = torch.tensor([IDS])
    own = scope.model(batch).logits
    recording = scope.record(IDS)
    scope.look("attention", layer=1)
    assert torch.equal(scope.model(batch).logits, own)
    assert scope.model.config._attn_implementation == "sdpa"
    buffer = io.BytesIO()
    torch.save(scope.model, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert torch.equal(again(batch).logits, own)
    assert torch.allclose(recording.logits, own[0, -1], atol=1e-5)


def test_the_hooks_of_others_come_first_and_stay():
    scope = scope_of("llama")
    scope.record(IDS)
    layer = scope.model.model.layers[1]
    handle = layer.mlp.register_forward_hook(lambda module, args, output: output * 3)
    recording = scope.record(IDS)
    own = scope.model(torch.tensor([IDS]), output_hidden_states=True)
    assert torch.allclose(recording.rows("stream", 2), own.hidden_states[2][0], atol=1e-4)
    written = recording.rows("stream", 2) - recording.rows("stream", 1)
    written = written - recording.rows("attention_write", 1)
    assert torch.allclose(recording.rows("mlp_write", 1), written, atol=1e-4)
    assert list(layer.mlp._forward_hooks) == [handle.id]


def test_two_scopes_on_one_model_hear_their_own_passes():
    one = scope_of("llama")
    two = Scope(one.loaded_model)
    first, second = one.record(IDS), two.record(OTHER)
    third = one.record((*IDS, 8))
    for recording in (first, second, third):
        assert recording.rows("query", 1) is not None
    assert one.look("attention", layer=1).verdict.status == "verified"
    assert two.look("attention", layer=1).verdict.status == "verified"
    assert two.look("ablation", recording=first, target=7).verdict.status != "refused"


def test_an_attention_function_of_the_users_own_is_what_runs():
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def doubled(*args, **options):
        output, weights = sdpa_attention_forward(*args, **options)
        return output * 2, weights

    AttentionInterface.register("doubled", doubled)
    AttentionMaskInterface.register("doubled", sdpa_mask)
    scope = scope_of("llama")
    scope.record(IDS)
    scope.model.set_attn_implementation("doubled")
    recording = scope.record(IDS)
    own = scope.model(torch.tensor([IDS])).logits[0, -1]
    assert torch.allclose(recording.logits, own, atol=1e-5)
    assert scope.look("attention", layer=1).verdict.status == "refused"
    assert llmscope.Scope(scope.loaded_model).record(IDS).logits.equal(recording.logits)
