"""Attention knockout against masks and recurrences written by hand on plain transformers."""

import inspect
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from llmscope.edits import parse
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.lenses.attention import describe_cursor
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.derive import tensors
from llmscope.record.derive.token_maps import token_map
from llmscope.scope.scope import Scope
from tests import all_families
from tests.families import small_model
from tests.record.by_hand import A
from tests.record.interventions.test_edited import holds, near, scope_for
from tests.recurrences import RULES, Caught, signature_of

SOFTMAX = {
    **dict.fromkeys(("llama", "qwen3", "gemma2", "gemma3_text", "mistral"), "self_attn"),
    **dict.fromkeys(("gpt_oss", "deepseek_v3", "cohere", "granite", "olmo2"), "self_attn"),
    "gpt2": "attn",
    "gpt_neox": "attention",
    "falcon_h1": "self_attn",
    "opt": "self_attn",
}
"""What each family calls its attention; windows are of 6 tokens."""
RECURRENT = (
    *("qwen3_next", "kimi_linear", "bamba", "mamba2", "mamba", "falcon_mamba", "lfm2", "rwkv"),
    *("nemotron_h", "olmo_hybrid", "zamba2", "jamba"),
)
CASES = [
    ("block head 1.2 @-1 from @11", [(2, 12, 11)]),
    ("block head 1.-1 @8..10 from @7..8", [(3, q, k) for q in (8, 9, 10) for k in (7, 8)]),
    ("block head 1.0 from @9", [(0, q, 9) for q in range(10, 13)]),
    ("block attention 1 from @7..9", [(None, q, k) for k in (7, 8, 9) for q in range(k + 1, 13)]),
    ("block attention 1 @-1 from @-1", [(None, 12, 12)]),
]
"""Edits, each with the cells that it empties: (head or all, query, key)."""


def layers_of(model):
    """The layers of a plain model, by the only list as long as their number."""
    count = model.config.num_hidden_layers
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    return lists[0]


def masked(family, layer, cells, ids=A, **changes):
    """Logits of a plain eager model whose mask has -inf at some cells of one layer."""
    model = small_model(family, **changes)
    model.set_attn_implementation("eager")
    attention = layers_of(model)[layer].get_submodule(SOFTMAX[family])
    heads = model.config.num_attention_heads

    def mask(_, args, kwargs):
        before = kwargs["attention_mask"]
        assert before.shape == (1, 1, len(ids), len(ids))
        after = before.expand(1, heads, -1, -1).clone()
        for head, query, key in cells:
            after[0, slice(None) if head is None else head, query, key] = -torch.inf
        return args, {**kwargs, "attention_mask": after}

    attention.register_forward_pre_hook(mask, with_kwargs=True)
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


@pytest.mark.few(8)
@pytest.mark.parametrize(("edit", "cells"), CASES)
@pytest.mark.parametrize("family", SOFTMAX)
def test_a_mask_by_hand_gives_the_same_logits(family, edit, cells):
    scope = scope_for(small_model(family))
    # Granite's head 2 hardly looks at token 11; that the mask matters, its other cases say.
    matters = (family, len(cells)) != ("granite", 1)
    recording = holds(scope, masked(family, 1, cells), edit, matters=matters)
    patterns = tensors.pattern(recording, 1)
    for head, query, key in cells:
        which = slice(None) if head is None else head
        assert not patterns[which, query, key].any()
    figure = scope.look("attention", recording=recording, layer=1, head=cells[0][0] or 0)
    assert figure.verdict.status == "verified"


def test_knockouts_of_one_layer_add_up_and_join_other_edits():
    scope = scope_for(small_model("llama"))
    cells = [(2, 12, 8), (2, 12, 9), *((0, q, 3) for q in range(4, 13))]
    edits = ("block head 1.2 @-1 from @8", "block head 1.2 @-1 from @9", "block head 1.0 from @3")
    holds(scope, masked("llama", 1, cells), *edits)
    without = scope.record(A, edits=["zero head 1.2"])
    both = scope.record(A, edits=["zero head 1.2", *edits[:2]])
    near(tensors.logits(both, 0, 13), tensors.logits(without, 0, 13))


@pytest.mark.parametrize(
    "edit",
    ["block head 1.2 @9 from @..9", "block head 1.2 @9 from @4..", "block head 1.2 @0 from @0"],
)
def test_a_row_does_not_lose_all_its_keys(edit):
    family = "mistral"  # token 9 sees 4 to 9
    scope = scope_for(small_model(family))
    with pytest.raises(ScopeError, match=r"head 2 would read nothing at token [09]"):
        scope.record(A, edits=[edit])
    with pytest.raises(ScopeError, match="would read nothing at token 9"):
        scope.record(A, edits=["block head 1.2 @9 from @..6", "block attention 1 @9 from @7..9"])
    holds(scope, masked(family, 1, [(2, 9, k) for k in range(9)]), "block head 1.2 @9 from @..8")


@contextmanager
def less_read(model, layer, cells):
    """Functions of a plain model's files that leave out cells of one layer, in float64."""
    layers = layers_of(model)
    running = []
    hooks = [
        layers[layer].register_forward_pre_hook(lambda *_: running.append(0)),
        layers[layer].register_forward_hook(lambda *_: running.clear()),
    ]
    alone = [name for name in RULES if name != "causal_conv1d_fn"]

    def leaving(name, function):
        signature = signature_of(function)

        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            if not running:
                return result
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            output = result[0] if isinstance(result, tuple) else result
            caught = Caught(name, dict(bound.arguments), output)
            weights, chosen = caught.map(), torch.zeros_like(caught.map())
            first, running[0] = running[0], running[0] + len(weights)
            for head, query, key in cells:
                inside = head is not None and 0 <= head - first < len(weights)
                which = slice(None) if head is None else slice(head - first, head - first + inside)
                chosen[which, query, key] = weights[which, query, key]
            read = torch.einsum("hts,shv->thv", chosen, caught.values)
            read = caught.after(read) - caught.after(torch.zeros_like(read))
            if output.dim() == 3:
                read = read[..., 0] if name == "rwkv_linear_attention" else read[..., 0].T
            output = (output.double() - read).to(output.dtype)
            return (output, *result[1:]) if isinstance(result, tuple) else output

        return call

    files = {type(module).__module__ for module in layers[layer].modules()}
    files = {file for file in files if file.startswith("transformers.models.")}
    found = [
        (file, name)
        for file in files
        for name in RULES
        if getattr(inspect.importlib.import_module(file), name, None) is not None
    ]
    if any(name in alone for _, name in found) and model.config.model_type != "lfm2":
        found = [(file, name) for file, name in found if name in alone]
    patches = [
        patch(f"{file}.{name}", leaving(name, getattr(inspect.importlib.import_module(file), name)))
        for file, name in found
    ]
    for started in patches:
        started.start()
    try:
        yield
    finally:
        for started in patches:
            started.stop()
        for hook in hooks:
            hook.remove()


def mapped_scope(family, **changes):
    model = all_families.small_model(family, **changes)
    loaded = LoadedModel("", family, model, None, find(model), model.device, torch.float32)
    layers = [at for at, part in enumerate(loaded.anatomy.layers) if part.mapped is not None]
    return Scope(loaded), layers


@pytest.mark.few(6)
@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("family", RECURRENT)
def test_a_recurrence_by_hand_gives_the_same_logits(family, case):
    edit, cells = CASES[case]
    scope, layers = mapped_scope(family)
    layer = layers[-1]
    heads = scope.loaded_model.anatomy.heads_at(layer)
    edit = edit.replace(" 1", f" {layer}", 1)
    if "-1 @8" in edit:
        cells = [(heads - 1, query, key) for _, query, key in cells]
    if "convolution" in scope.loaded_model.anatomy.layers[layer].mapped.rule.name:
        edit, cells = f"block attention {layer} from @10", [(None, q, 10) for q in (11, 12)]
    plain = all_families.small_model(family)
    with less_read(plain, layer, cells), torch.no_grad():
        expected = plain(input_ids=torch.tensor([A]), use_cache=False).logits[0].float()
    recording = holds(scope, expected, edit, matters=False)
    base = tensors.logits(recording.base, 0, len(A))
    assert not torch.equal(base, expected)
    head = cells[0][0] or 0
    shown = token_map(recording, layer, head, range(len(A)))
    assert all(shown[query, key] == 0 for _, query, key in cells)
    figure = scope.look("attention", recording=recording, layer=layer, head=head)
    assert figure.verdict.status == "verified"


@pytest.mark.parametrize("family", ["bloom", "gpt_neo", "openai-gpt"])
def test_where_a_mask_does_not_reach_it_is_refused(family):
    scope = scope_for(small_model(family))
    with pytest.raises(ScopeError, match="computes attention inside its module"):
        scope.record(A, edits=["block head 1.2 @-1 from @2"])


def test_what_has_neither_a_softmax_nor_a_map_is_refused_by_name():
    scope = scope_for(small_model("recurrent_gemma"))
    refused = [at for at in range(3) if scope.verdicts("patterns", at).status == "refused"]
    assert refused
    with pytest.raises(ScopeError, match=f"what tokens read in layer {refused[0]} is not known"):
        scope.record(A, edits=[f"block attention {refused[0]} from @2"])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ("block head 1.2 @3 from @5", "@3 comes after @5"),
        ("block head 1.2 from @-1", "no token comes after @-1"),
        ("block head 1.9 from @2", "there is no head 9"),
        ("block head 7.2 from @2", "there is no layer 7"),
        ("block head 1.2 from @40", "there is no token 40"),
    ],
)
def test_what_does_not_fit_is_refused(edit, reason):
    with pytest.raises(ScopeError, match=reason):
        scope_for(small_model("llama")).record(A, edits=[edit])


@pytest.mark.parametrize(
    "text",
    [
        *("block mlp 3 from @2", "block neuron 3.2 from @2", "block stream 3 from @2"),
        *("block head 3.1", "block head 3.1 from", "block head 3.1 @2 from 3", "block feature 2/3"),
        "block head 3.1 into mlp 4 from @2",
    ],
)
def test_what_is_no_knockout_is_not_read(text):
    with pytest.raises(ScopeError):
        parse(text)


def test_a_sweep_of_an_edited_pass_makes_the_knockout_in_each_of_its_passes():
    scope = scope_for(small_model("llama"))
    edit = "block head 0.1 from @3"
    table = scope.look("ablation", recording=scope.record(A, edits=[edit]), target=7)
    base = tensors.logits_after(scope.record(A, edits=[edit]), 12)
    values = {}
    for layer, head in ((0, 1), (1, 2), (2, 0)):
        alone = scope.record(A, edits=[edit, f"zero head {layer}.{head}"])
        values[layer, head] = float(tensors.logits_after(alone, 12)[7] - base[7])
    shown = table.values[:, : scope.loaded_model.anatomy.heads]
    for (layer, head), value in values.items():
        assert min(abs(shown[layer, head] - value), abs(shown[layer, head] + value)) < 1e-4


def test_typing_on_reuses_the_rows_before():
    scope, fresh = scope_for(small_model("llama")), scope_for(small_model("llama"))
    edit = ["block attention 1 @6.. from @2..3"]
    scope.record(A[:10], edits=edit)
    longer = scope.record(A, edits=edit)
    assert longer.reused == 10
    again = fresh.record(A, edits=edit, fresh=True)
    near(tensors.logits(longer, 6, 13), tensors.logits(again, 6, 13))
    last = scope.record(A, edits=["block attention 1 @-1 from @-3"])
    scope.record(A[:12], edits=["block attention 1 @-1 from @-3"])
    back = scope.record(A, edits=["block attention 1 @-1 from @-3"])
    near(tensors.logits(back, 12, 13), tensors.logits(last, 12, 13))


def test_a_backend_that_masks_its_attention_itself_is_refused():
    loaded = scope_for(small_model("llama")).loaded_model
    scope = Scope(replace(loaded, backend="llama.cpp"))
    with pytest.raises(ScopeError, match=r"llama\.cpp masks its attention itself"):
        scope.record(A, edits=["block head 1.2 from @2"])


def test_a_gradient_passes_a_masked_softmax_and_is_refused_by_a_map():
    scope, edit = scope_for(small_model("llama")), ["block attention 1 from @2"]
    saliency = scope.look("saliency", recording=scope.record(A, edits=edit), mode="gradient")
    plain = scope.look("saliency", recording=scope.record(A), mode="gradient")
    assert saliency.verdict.status != "refused"
    assert abs(saliency.values - plain.values).max() > 1e-4
    scope, layers = mapped_scope("mamba2")
    recording = scope.record(A, edits=[f"block attention {layers[0]} from @2"])
    refused = scope.look("saliency", recording=recording, mode="gradient").verdict
    assert refused.status == "refused"
    assert "no gradient passes what a map takes away" in refused.reason


def test_a_blocked_cell_is_told_from_one_that_is_0():
    scope = scope_for(small_model("llama"))
    recording = scope.record(
        A, edits=["block head 1.2 @-1 from @7..8", "block attention 1 from @4"]
    )
    rows = [[query, 4, 4] for query in range(5, 13)]
    figure = scope.look("attention", recording=recording, layer=1, head=2)
    assert figure.extra["blocked"] == [[12, 7, 8], *rows]
    mean = scope.look("attention", recording=recording, layer=1, mode="mean")
    assert mean.extra["blocked"] == rows
    for plain in (recording.base, recording):
        layer = 1 if plain is recording.base else 0
        other = scope.look("attention", recording=plain, layer=layer, head=2)
        assert "blocked" not in other.extra
    told = list(describe_cursor(figure, Focus(layer=1, head=2, position=12)))
    assert "and 1 more: blocked by an edit" in told[0]
    assert "blocked" in told[1]
    assert not any("blocked" in part for part in describe_cursor(figure, Focus(1, 2, position=3)))
