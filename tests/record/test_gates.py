"""What stands between heads and the output projection, against plain transformers by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.analysis.attribution import attribute
from llmscope.record.analysis.logit_direction import logit_direction_of
from llmscope.record.change_hooks import Change, attached
from llmscope.record.derive import tensors
from llmscope.record.derive.patterns import value_lengths
from llmscope.record.derive.verify import pattern_verdict, verify
from llmscope.record.interventions.compile import head_columns
from llmscope.record.walkthrough.walkthrough import steps
from llmscope.scope.scope import Scope
from tests.all_families import small_model as any_model
from tests.record.conftest import prompt_of, recorder_for

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]  # longer than the windows of 6
HEADS = 4


def gate_of(family, attention, normed):
    """The gate, written out. [row, input]"""
    width = attention.head_dim
    if family.startswith("qwen3"):
        both = attention.q_proj(normed).view(len(normed), HEADS, 2 * width)
        return torch.sigmoid(both[..., width:].reshape(len(normed), -1))
    if family == "afmoe":
        return torch.sigmoid(attention.gate_proj(normed))
    if family == "laguna":
        gate = nn.functional.softplus(attention.g_proj(normed))
    else:  # lfm3
        gate = torch.sigmoid(attention.g_proj(normed))
    return gate if gate.shape[1] > HEADS else gate.repeat_interleave(width, dim=1)


def small_model(family):
    changes = {"num_attention_heads_per_layer": [HEADS] * 3} if family == "laguna" else {}
    return any_model(family, **changes)


GATED = ("afmoe", "laguna", "lfm3", "qwen3_next", "qwen3_5_text")


def scope_of(model):
    return Scope(LoadedModel("", "", model, None, find(model), model.device, model.dtype))


def by_hand(family, alter=None):
    """Each attention layer of a plain model: what goes in and out, pattern and values.

    Layer -> (module, its input [row, width], its output [row, width], pattern [head, query, key]).
    """
    model = small_model(family)
    model.set_attn_implementation("eager")
    found, hooks = {}, []
    for index, layer in enumerate(model.model.layers):
        attention = getattr(layer, "self_attn", None)
        if attention is None:
            continue

        def keep(module, args, kwargs, output, index=index):
            given = args[0] if args else kwargs["hidden_states"]
            found[index] = (module, given[0], output[0][0], output[1][0])

        hooks.append(attention.register_forward_hook(keep, with_kwargs=True))
    with torch.no_grad():
        model(input_ids=torch.tensor([IDS]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return model, found


def near(found, own):
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= 1e-5 * float(own.abs().max())


@pytest.mark.parametrize("family", [*GATED, "bitnet"])
@torch.no_grad()
def test_heads_with_their_gate_give_what_attention_wrote(family):
    recorder = recorder_for(small_model(family))
    verdicts = verify(recorder)
    recording = recorder.record(prompt_of(IDS), fresh=True)
    _, found = by_hand(family)
    assert found
    for layer, (attention, normed, wrote, pattern) in found.items():
        assert verdicts("patterns", layer).status == verdicts("heads", layer).status == "verified"
        near(tensors.pattern(recording, layer), pattern)
        values = attention.v_proj(normed).view(len(IDS), -1, attention.head_dim).transpose(0, 1)
        values = values.repeat_interleave(HEADS // len(values), dim=0)
        mixed = (pattern @ values).transpose(0, 1)  # [row, head, head width]
        if family == "bitnet":
            near(tensors.head_outputs(recording, layer), mixed)
            joined = attention.attn_sub_norm(mixed.flatten(1))
        else:
            gate = gate_of(family, attention, normed)
            joined = mixed.flatten(1) * gate
            near(tensors.head_outputs(recording, layer).flatten(1), joined)
            head = values[2] * gate.view(len(IDS), HEADS, -1)[:, None, 2]  # [query, key, dim]
            lengths = (head @ attention.o_proj.weight[:, 32:48].T).norm(dim=-1)
            near(value_lengths(recording, layer, 2, range(len(IDS))), lengths)
        near(joined @ attention.o_proj.weight.T, wrote)
        parts = recording.model.anatomy.layers[layer]
        near(parts.projected(tensors.head_outputs(recording, layer).flatten(1)), wrote)


@pytest.mark.parametrize("family", ["afmoe", "qwen3_next", "bitnet"])
def test_a_head_that_is_zeroed_is_as_if_its_columns_were(family):
    """The edit `zero head` against a plain model whose own hook takes the head out by hand."""
    plain, found = by_hand(family)
    layer = max(found)
    attention = found[layer][0]
    place = attention.attn_sub_norm if family == "bitnet" else attention.o_proj

    def without(_, args):
        rows = args[0].clone()
        rows[..., attention.head_dim : 2 * attention.head_dim] = 0
        return (rows, *args[1:])

    place.register_forward_pre_hook(without)
    with torch.no_grad():
        own = plain(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    scope = scope_of(small_model(family))
    edited = scope.record(IDS, edits=[f"zero head {layer}.1"])
    near(tensors.logits_after(edited, len(IDS) - 1), own)
    # What is derived of the edited pass has the head at zero, and the others with their gate.
    heads = tensors.head_outputs(edited, layer)
    assert not heads[:, 1].any()
    near(tensors.attention_output(edited, layer), edited.rows("attention_write", layer))


@pytest.mark.parametrize("family", ["afmoe", "qwen3_next", "bitnet"])
def test_scaled_heads_are_derived_with_their_gate_once(family):
    scope = scope_of(small_model(family))
    layer = max(i for i, part in enumerate(scope.loaded_model.anatomy.layers) if part.attention)
    edited = scope.record(IDS, edits=[f"scale head {layer}.1 3"])
    near(tensors.attention_output(edited, layer), edited.rows("attention_write", layer))


@pytest.mark.parametrize("family", [*GATED, "bitnet"])
def test_attribution_by_heads_adds_up_to_what_attention_wrote(family):
    recorder = recorder_for(small_model(family))
    verify(recorder)
    recording = recorder.record(prompt_of(IDS), fresh=True)
    position = len(IDS) - 1
    parts = attribute(recording, position, logit_direction_of(recording, position, 7, None))
    shown = [i for i, part in enumerate(recording.model.anatomy.layers) if part.attention]
    assert not parts.whole
    for layer in shown:
        total = parts.heads[layer].sum() + parts.head_bias[layer]
        assert total == pytest.approx(parts.attention[layer], rel=1e-4, abs=1e-5)


def test_differential_attention_shows_patterns_and_refuses_heads():
    scope = scope_of(small_model("diffllama"))
    recording = scope.record(IDS)
    _, found = by_hand("diffllama")
    for layer, (*_, pattern) in found.items():
        assert scope.verdicts("patterns", layer).status == "verified"
        near(tensors.pattern(recording, layer), pattern)
        heads = scope.verdicts("heads", layer)
        assert heads.status == "refused"
        assert "cannot be told by heads" in heads.reason
    figure = scope.look("attention", layer=1, mode="value-weighted")
    assert figure.verdict.status == "refused"
    assert "cannot be told by heads" in figure.verdict.reason
    assert scope.look("attention", layer=1).verdict.status == "verified"
    assert scope.look("ablation", mode="heads").verdict.status == "refused"
    with pytest.raises(ScopeError, match="cannot be told by heads"):
        scope.record(IDS, edits=["zero head 1.0"])
    position = len(IDS) - 1
    told = attribute(recording, position, logit_direction_of(recording, position, 7, None))
    assert set(told.whole) == {0, 1, 2}


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        ("bitnet", {"heads_norm": None}),
        ("bitnet", {"heads_norm": nn.Identity()}),
        ("afmoe", {"attention_write": None}),
        ("laguna", {"heads_norm": nn.LayerNorm(64)}),
    ],
)
def test_a_wrong_belief_is_refused(family, wrong):
    model = small_model(family)
    layers = list(find(model).layers)
    if wrong == {"attention_write": None}:
        wrong = {"attention_write": layers[1].attention}  # not the norm that follows it
    layers[1] = replace(layers[1], **wrong)
    verdicts = verify(recorder_for(model, layers=tuple(layers)))
    capability = "writes" if family == "afmoe" else "heads"
    assert verdicts(capability, 1).status == "refused"
    assert verdicts(capability, 2).status == "verified"


def test_a_gate_that_depends_on_what_the_heads_bring_is_no_gate():
    """A hidden norm in front of the projection: each number is multiplied, but by what they are."""
    model = small_model("llama")
    model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(
        lambda _, args: (nn.functional.rms_norm(args[0], args[0].shape[-1:]),), prepend=True
    )
    verdicts = verify(recorder_for(model))
    assert verdicts("heads", 1).status == "refused"
    assert verdicts("heads", 0).status == "verified"


@pytest.mark.parametrize("family", ["laguna", "bitnet"])
def test_another_layers_projection_is_refused(family):
    model = small_model(family)
    layers = list(find(model).layers)
    layers[1] = replace(layers[1], attention_out=layers[0].attention_out)
    verdicts = verify(recorder_for(model, layers=tuple(layers)))
    assert verdicts("heads", 1).status == "refused"
    assert verdicts("heads", 0).status == "verified"


def test_changes_of_a_gated_head_are_columns_of_the_projection():
    recorder = recorder_for(small_model("laguna"))
    verify(recorder)
    recording = recorder.record(prompt_of(IDS))
    columns = head_columns(recording, 1, 2)
    assert (columns.start, columns.stop) == (32, 48)
    change = Change("heads", 1, range(len(IDS)), columns, factor=0.0)
    caught = []
    out = recording.model.anatomy.layers[1].attention_out
    with torch.no_grad(), attached(recording.model.anatomy, [change]):
        out.register_forward_pre_hook(lambda _, args: caught.append(args[0][0].clone()))
        recording.model.module(input_ids=torch.tensor([IDS]), use_cache=False)
    assert not caught[0][:, 32:48].any()
    near(caught[0][:, :32], tensors.head_outputs(recording, 1).flatten(1)[:, :32])


@pytest.mark.parametrize("family", ["afmoe", "laguna", "bitnet"])
def test_the_walkthrough_goes_through_the_gate(family):
    scope = scope_of(small_model(family))
    recording = scope.record(IDS)
    passed = "norm of the heads" if family == "bitnet" else "gate"
    made = steps(recording, len(IDS) - 1, 1, scope._instrumented.recorder.run)
    names = [step.name for step in made]
    assert names.index("mixed values") + 1 == names.index(passed)
    assert names.index(passed) + 1 == names.index("output projection")
    for step in made[names.index("mixed values") : names.index("output projection") + 1]:
        assert step.agreement is not None
        assert step.agreement <= 1e-5, step.name


def test_the_walkthrough_of_differential_attention_says_why_it_stops():
    scope = scope_of(small_model("diffllama"))
    recording = scope.record(IDS)
    made = steps(recording, len(IDS) - 1, 1, scope._instrumented.recorder.run)
    (closed,) = [step for step in made if step.name == "rest of layer 1"]
    assert "cannot be told by heads" in closed.reason


@pytest.mark.parametrize("family", [*GATED, "bitnet", "diffllama"])
def test_verdicts_hold_in_half_precision(family):
    verdicts = verify(recorder_for(small_model(family).to(torch.bfloat16)))
    assert verdicts("patterns").status != "refused"
    expected = "refused" if family == "diffllama" else verdicts("patterns").status
    assert verdicts("heads").status == expected


@pytest.mark.parametrize("family", ["afmoe", "laguna", "bitnet", "diffllama"])
def test_a_prompt_that_is_typed_keeps_the_gates_of_its_first_rows(family):
    recorder = recorder_for(small_model(family))
    verify(recorder)
    recorder.record(prompt_of(IDS[:6]))
    typed = recorder.record(prompt_of(IDS))
    assert typed.reused == 6
    whole = recorder.record(prompt_of(IDS), fresh=True)
    for layer in range(3):
        assert pattern_verdict(typed, layer).status == "verified"
        if family != "diffllama":
            near(tensors.head_outputs(typed, layer), tensors.head_outputs(whole, layer))
