"""Edits of heads of layers without attention, against the layer's own function changed by hand."""

import importlib
from contextlib import contextmanager

import pytest
import torch

from llmscope.errors import ScopeError
from tests.all_families import small_model
from tests.record.derive.test_token_maps import mapped_layers, scope_of

IDS = (5, 17, 3, 88, 41, 17, 60, 9, 33, 72)
FUNCTIONS = {  # family -> the function of its file, and the dimension of the heads in what it gives
    "qwen3_next": ("torch_chunk_gated_delta_rule", 2),
    "kimi_linear": ("chunk_kimi_delta_attention", 2),
    "mamba2": ("mamba2_chunk_scan", 2),
    "jamba": ("mamba_selective_scan", 1),
    "rwkv": ("rwkv_linear_attention", 2),
    "lfm2": ("causal_conv1d_fn", 1),
}


@contextmanager
def changed_by_hand(monkeypatch, family, model, layer, alter):
    """Within, what the function gives in the layer's turn among those that call it is altered."""
    name, dim = FUNCTIONS[family]
    file = importlib.import_module(type(model).__module__)
    function, turn = getattr(file, name), iter(range(99))

    def changed(*args, **kwargs):
        result = function(*args, **kwargs)
        output = result[0] if isinstance(result, tuple) else result
        if next(turn) == layer:
            output = alter(output.movedim(dim, 0).clone()).movedim(0, dim)
        return (output, *result[1:]) if isinstance(result, tuple) else output

    with monkeypatch.context() as patch:
        patch.setattr(file, name, changed)
        yield


def alter_head(head, factor=0.0):
    def alter(heads):  # [head, …]
        heads[head] *= factor
        return heads

    return alter


@pytest.mark.parametrize("family", FUNCTIONS)
@pytest.mark.parametrize(("edit", "factor"), [("zero", 0.0), ("scale", -1.5)])
@pytest.mark.few(6)
def test_a_head_is_switched_off_or_scaled(family, edit, factor, monkeypatch):
    scope, model = scope_of(family), small_model(family)
    layers = mapped_layers(scope)
    for turn, layer in enumerate(layers):
        text = f"{edit} head {layer}.3" + (f" {factor}" if edit == "scale" else "")
        found = scope.record(IDS, edits=[text])
        with (
            changed_by_hand(monkeypatch, family, model, turn, alter_head(3, factor)),
            torch.no_grad(),
        ):
            own = model(torch.tensor([IDS]), use_cache=False).logits[0, -1]
        plain = scope.record(IDS).logits
        assert float((found.logits - own).abs().max()) <= 1e-5 * float(own.abs().max())
        assert float((plain - own).abs().max()) > 1e-5 * float(own.abs().max())


def test_a_head_of_some_tokens_is_set_to_its_mean_or_to_that_of_prompt_b(monkeypatch):
    scope, model = scope_of("qwen3_next"), small_model("qwen3_next")
    layer = mapped_layers(scope)[0]
    heads = []

    def look(output):  # [head, prompt, row, width]
        heads.append(output[1, 0].clone())
        return output

    for ids in (IDS, IDS[::-1]):
        with changed_by_hand(monkeypatch, "qwen3_next", model, 0, look), torch.no_grad():
            model(torch.tensor([ids]), use_cache=False)

    def put(rows, values):
        def alter(output):
            output[1, 0, rows] = values
            return output

        return alter

    for text, alter in (
        (f"mean head {layer}.1", put(slice(None), heads[0].mean(0))),
        (f"patch head {layer}.1 @2..4 from B", put(slice(2, 5), heads[1][2:5])),
    ):
        found = scope.record(IDS, edits=[text], versus_prompt=IDS[::-1])
        with changed_by_hand(monkeypatch, "qwen3_next", model, 0, alter), torch.no_grad():
            own = model(torch.tensor([IDS]), use_cache=False).logits[0, -1]
        assert float((found.logits - own).abs().max()) <= 1e-5 * float(own.abs().max())


def test_an_edit_stands_on_a_recording_that_went_on_from_a_state():
    scope, fresh = scope_of("qwen3_next"), scope_of("qwen3_next")
    scope.prepare_reuse()
    for length in range(5, len(IDS) + 1):
        recording = scope.record(IDS[:length])
    assert recording.reused == len(IDS) - 1
    edits = ["zero head 2.1"]
    typed, alone = (s.record(IDS, edits=edits) for s in (scope, fresh))
    assert torch.allclose(typed.logits, alone.logits, atol=1e-5 * float(alone.logits.abs().max()))
    for layer in mapped_layers(scope):
        maps = [
            s.look("attention", recording=r, layer=layer, head=1).values
            for s, r in ((scope, typed), (fresh, alone))
        ]
        assert abs(maps[0] - maps[1])[~(maps[1] != maps[1])].max() < 1e-6


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ("zero head 0.99", "there is no head 99 in layer 0"),
        ("zero head 0.1 into mlp 1", "what a head of layer 0 writes by itself is not known"),
    ],
)
def test_what_does_not_apply_is_refused(edit, reason):
    scope = scope_of("qwen3_next")
    with pytest.raises(ScopeError, match=reason):
        scope.record(IDS, edits=[edit])


def test_the_lens_ablates_heads_of_memory_as_the_edit_does():
    scope = scope_of("qwen3_next")
    plain = scope.record(IDS)
    figure = scope.look("ablation", recording=plain)
    assert figure.verdict.status == "verified"
    target = figure.extra["target_id"]
    for layer, head in ((0, 0), (2, 3)):
        edited = scope.record(IDS, edits=[f"zero head {layer}.{head}"])
        change = float(edited.logits[target] - plain.logits[target])
        assert figure.values[layer, head] == pytest.approx(change, abs=1e-4)
