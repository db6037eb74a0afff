"""The steps of the walk: each against plain eager transformers with hooks by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import llmscope
from llmscope.record.derive.verify import verify
from llmscope.record.walkthrough import steps
from llmscope.record.walkthrough.step import STATISTICS
from tests.families import FAMILIES, small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.record.walked import HEADS, Truth, off

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2]  # longer than the windows of 6
BOUND = 1e-5


def recorded(model, ids=IDS):
    recorder = recorder_for(model)
    verify(recorder)  # the recorder learns from it what it need not keep
    return recorder, recorder.record(prompt_of(ids), fresh=True)


def walked(family, layer, position=-1, ids=IDS, **changes):
    recorder, recording = recorded(small_model(family, **changes), ids)
    return steps(recording, position % len(ids), layer, recorder.run)


def hold(found, truth, layer, layers):
    """Each step against the truth under its name; gives the names that had one."""
    again = {}
    for step in found:
        if step.name == "tokens":
            continue
        if step.name.startswith("layer"):
            own = truth.values["before" if step.part == "beginning" else "after"]
        else:
            own = truth.values[step.name]
            if isinstance(own, list):
                again[step.name] = again.get(step.name, -1) + 1
                own = own[again[step.name]]
        assert off(step.value, own, step.axes) <= BOUND, step.name
        assert not step.reason, step.name
        assert step.agreement is not None, step.name
        assert step.agreement <= BOUND, step.name
        for source in step.inputs:
            assert source < found.index(step)


@pytest.mark.few(6)
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("family", HEADS)
def test_each_step_is_what_plain_transformers_gives(family, layer):
    truth = Truth(family, small_model(family), IDS, layer, -1)
    found = walked(family, layer)
    hold(found, truth, layer, 3)
    names = {step.name for step in found}
    left_out = {"before", "after"} | ({"residual add"} - names)
    assert set(truth.values) - names == left_out


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_so_is_each_step_of_the_model_that_sorts(layer):
    scope = llmscope.load("builtin:sort")
    recording = scope.record("CABACB")
    truth = Truth("gpt2", scope.model, list(recording.prompt.ids), layer, -1, heads=(3, 3))
    scope.model.set_attn_implementation("sdpa")
    found = steps(recording, 5, layer, scope.recorder.run)
    hold(found, truth, layer, 3)
    assert [step.name for step in found if step.layer == layer] == [
        *("attention norm", "query", "key", "value", "scores", "pattern", "mixed values"),
        *("output projection", "residual add"),
        *("MLP norm", "up projection", "activation", "down projection", "residual add"),
    ]
    assert scope.loaded_model.label(int(found[-1].value[0])) == "A"


@pytest.mark.parametrize("family", HEADS)
def test_the_model_computes_as_before_once_it_was_watched(family):
    recorder, recording = recorded(small_model(family))
    before = recorder.run([IDS]).logits
    name = recorder.model.module.config._attn_implementation
    steps(recording, 3, 1, recorder.run)
    assert recorder.model.module.config._attn_implementation == name
    assert torch.equal(recorder.run([IDS]).logits, before)
    again = recorder.record(prompt_of(IDS), fresh=True)
    assert again.settings[1] is not None
    hooks = hooks_of(recorder.model.module)
    steps(again, 3, 2, recorder.run)
    assert hooks == hooks_of(recorder.model.module)


def hooks_of(model):
    kinds = [(one._forward_hooks, one._forward_pre_hooks) for one in model.modules()]
    return sum(len(hooks) for pair in kinds for hooks in pair)


def test_a_pass_that_ends_in_the_middle_of_attention_leaves_nothing_behind():
    class Gone(Exception):
        pass

    recorder, recording = recorded(small_model("gpt2"))
    module = recorder.model.anatomy.layers[1].attention_out

    def leave(*_):
        raise Gone

    hook = module.register_forward_hook(leave)
    with pytest.raises(Gone):
        steps(recording, 3, 1, recorder.run)
    hook.remove()
    assert not torch.overrides._get_current_function_mode_stack()
    assert not any(step.reason for step in steps(recording, 3, 1, recorder.run))


# Faults that are planted in the model: what it gives is then not what its parameters say.


def doubled(_, args, output):
    return output * 2


@pytest.mark.parametrize("family", HEADS)
@pytest.mark.parametrize(
    ("module", "name"),
    [("read", "attention norm"), ("out", "output projection"), ("down", "down projection")],
)
@pytest.mark.few(3)
def test_a_doubled_part_is_refused_at_that_very_step(family, module, name):
    model = small_model(family)
    recorder, recording = recorded(model)
    truth = Truth(family, small_model(family), IDS, 1, -1)
    place = f"{truth.places['layers']}.1.{truth.places[module]}"
    model.get_submodule(place).register_forward_hook(doubled)
    recording = recorder.record(prompt_of(IDS), fresh=True)
    found = steps(recording, len(IDS) - 1, 1, recorder.run)
    (refused,) = [step for step in found if step.reason]
    assert refused.name == name
    assert "differs from the model's own by" in refused.reason
    if name != "attention norm":  # of a norm that is none the form that comes nearest is tried
        assert refused.agreement == pytest.approx(0.5, abs=1e-5)
    else:  # it shows the model's own, from which the walk goes on
        assert off(refused.value, 2 * truth.values[name], refused.axes) <= BOUND
    seen = Truth(family, model, IDS, 1, -1).values["next token"]
    assert found[-1].value.tolist() == seen.tolist()


def test_projections_that_were_swapped_are_refused():
    model = small_model("llama", num_key_value_heads=4)
    block = model.model.layers[1].self_attn
    recorder, _ = recorded(model)
    block.q_proj.register_forward_hook(lambda _, args, output: args[0] @ block.k_proj.weight.T)
    found = steps(recorder.record(prompt_of(IDS), fresh=True), 4, 1, recorder.run)
    assert [step.name for step in found if step.reason] == ["query"]


def test_halves_of_a_fused_projection_that_were_swapped_are_refused():
    model = small_model("gpt2")
    recorder, _ = recorded(model)

    def swap(_, args, output):
        q, k, v = output.chunk(3, dim=-1)
        return torch.cat([k, q, v], dim=-1)

    model.transformer.h[0].attn.c_attn.register_forward_hook(swap)
    found = steps(recorder.record(prompt_of(IDS), fresh=True), 4, 0, recorder.run)
    assert [step.name for step in found if step.reason] == ["query", "key"]


def test_what_is_added_twice_is_refused_where_it_is_added():
    model = small_model("llama")
    recorder, _ = recorded(model)
    model.model.layers[2].mlp.register_forward_hook(doubled)
    found = steps(recorder.record(prompt_of(IDS), fresh=True), 4, 2, recorder.run)
    assert [step.name for step in found if step.reason] == ["residual add"]


def test_a_recording_that_is_not_of_this_model_is_told_from_the_pass():
    model = small_model("llama")
    recorder, recording = recorded(model)
    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight.mul_(2)
    found = steps(recording, 4, 2, recorder.run)
    (refused,) = [step for step in found if step.reason]
    assert (refused.name, refused.part) == ("residual add", "mlp")
    assert "differs from the one in the recording" in refused.reason


# Numbers that are told of a step.


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_at_any_focus_each_step_holds_and_tells_its_row(data):
    family = data.draw(st.sampled_from(sorted(HEADS)))
    layer = data.draw(st.integers(0, 2))
    position = data.draw(st.integers(0, len(IDS) - 1))
    head = data.draw(st.integers(0, 3))
    found = walked(family, layer, position)
    assert not any(step.reason for step in found)
    with torch.no_grad():
        logits = small_model(family)(input_ids=torch.tensor([IDS])).logits[0, position]
    assert found[-1].value[0] == int(logits.argmax())
    for step in found:
        values, axis = step.here(position, head, 4)
        own = step.value
        if step.axes == ("head", "query", "key"):
            own = own[head, position]
        elif step.axes == ("head", "position", "dimension"):
            own = own[head * len(own) // 4, position]
        elif step.axes == ("position", "head", "dimension"):
            own = own[position, head]
        elif step.axes[0] == "position":
            own = own[position]
        np.testing.assert_array_equal(values, own.reshape(-1))
        assert axis in (*step.axes, "position")


def test_statistics_are_numpys():
    for step in walked("llama", 1):
        if step.name in ("tokens", "next token"):
            assert np.isnan(step.statistics()).all()
            continue
        seen = step.value[~np.isnan(step.value)].astype(np.float64)
        expected = [seen.mean(), seen.std(), seen.min(), seen.max(), np.sqrt((seen**2).sum())]
        np.testing.assert_allclose(step.statistics(), expected, rtol=1e-5, atol=1e-7)
        assert len(expected) == len(STATISTICS)


def test_every_parameter_of_the_model_that_sorts_belongs_to_a_step():
    scope = llmscope.load("builtin:sort")
    recording = scope.record("CABACB")
    marks = {name: torch.zeros_like(one) for name, one in scope.model.named_parameters()}
    for layer in range(3):
        for step in steps(recording, 5, layer, scope.recorder.run):
            for weight in step.weights:
                mark = marks[weight.name]
                everything = torch.arange(mark.shape[weight.axis or 0])
                chosen = everything if weight.chosen is None else weight.chosen
                mark.index_fill_(weight.axis or 0, chosen, 1)
                own = scope.model.get_parameter(weight.name).detach()
                expected = own.index_select(weight.axis or 0, chosen).numpy()
                np.testing.assert_array_equal(weight.values(), expected)
                assert weight.shape == expected.shape
    assert sum(int(mark.sum()) for mark in marks.values()) == 85584


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_the_position_moves_without_another_pass(family):
    recorder, recording = recorded(small_model(family))
    passes = []

    def run(*args, **options):
        passes.append(args)
        return recorder.run(*args, **options)

    with torch.no_grad():
        own = small_model(family)(input_ids=torch.tensor([IDS])).logits[0].double()
    for position in (10, 0, 4, 4, 9):
        found = steps(recording, position, 1, run)
        (logits, *capped) = [step for step in found if step.name in ("logits", "softcap")]
        last = (capped or [logits])[0]
        assert off(last.value, own[position].numpy(), last.axes) <= BOUND
        shares = own[position].softmax(-1).numpy()
        assert off(found[-2].value, shares, ("token",)) <= BOUND
        assert bool(capped) == (family == "gemma2")
        assert not any(step.reason for step in found)
    assert len(passes) == 1
    steps(recording, 9, 2, run)
    assert len(passes) == 2


def test_a_large_matrix_is_widened_piece_by_piece(monkeypatch):
    whole = walked("gpt2", 1)
    monkeypatch.setattr("llmscope.record.walkthrough.arithmetic.CELLS", 500)
    for one, other in zip(whole, walked("gpt2", 1), strict=True):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-6, atol=1e-9)


def test_a_large_vocabulary_keeps_only_the_logits_that_are_asked_for(monkeypatch):
    monkeypatch.setattr("llmscope.record.walkthrough.tracer.ALL", 0)
    recorder, recording = recorded(small_model("llama"))
    with torch.no_grad():
        own = small_model("llama")(input_ids=torch.tensor([IDS])).logits[0].double()
    for position in (10, 3, 7):
        found = steps(recording, position, 1, recorder.run)
        shares = own[position].softmax(-1).numpy()
        assert off(found[-2].value, shares, ("token",)) <= BOUND


def test_an_adapters_projections_are_run_by_their_modules():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(small_model("llama"), config).eval()
    recorder, recording = recorded(model.base_model.model)
    found = steps(recording, 4, 1, recorder.run)
    assert not any(step.reason for step in found)
    by = {step.name: step.by for step in found if step.layer == 1}
    assert (by["query"], by["key"]) == ("module", "arithmetic")
    assert by["down projection"] == "module"
    query = next(step for step in found if step.name == "query")
    names = [weight.name.split(".", 4)[-1] for weight in query.weights]
    assert "q_proj.lora_A.default.weight" in names


def test_a_long_prompt_shows_the_queries_around_the_focus(monkeypatch):
    truth = Truth("llama", small_model("llama"), IDS, 1, 6)
    monkeypatch.setattr("llmscope.record.walkthrough.walkthrough.ROOM", 4 * len(IDS) * 3)
    found = walked("llama", 1, position=6)
    first = found[[step.name for step in found].index("scores")]
    assert (first.start, first.shape) == (5, (4, 3, len(IDS)))
    again = {"residual add": iter(truth.values["residual add"])}
    for step in found:
        assert not step.reason
        own = truth.values.get(step.name)
        own = next(again["residual add"]) if isinstance(own, list) else own
        if step.start and own is not None:
            own = own[:, 5:8] if step.axes[0] == "head" else own[5:8]
            assert off(step.value, own, step.axes) <= BOUND, step.name
    assert found[-1].value.tolist() == truth.values["next token"].tolist()


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "family", ["mixtral", "gpt_neox", "gemma3_text", "jamba", "bamba", "bloom", "mamba", "opt"]
)
def test_so_does_any_architecture(family, monkeypatch):
    whole = walked(family, 1, position=6)
    monkeypatch.setattr("llmscope.record.walkthrough.walkthrough.ROOM", 4 * len(IDS) * 3)
    found = walked(family, 1, position=6)
    assert [step.name for step in found] == [step.name for step in whole]
    for step, other in zip(found, whole, strict=True):
        assert not step.reason, (step.name, step.reason)
        if step.shape != other.shape:
            row = next(i for i, axis in enumerate(step.axes) if axis in ("position", "query"))
            own = other.value.take(range(5, 8), row)
            assert step.start == 5
            assert off(step.value, own, step.axes) <= BOUND, step.name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt2", "llama", "mixtral"])
def test_in_half_precision_they_agree_within_a_few_roundings(family, dtype):
    recorder, recording = recorded(small_model(family).to(dtype))
    for step in steps(recording, 4, 1, recorder.run):
        assert not step.reason
        assert step.agreement is None or step.agreement <= 4 * torch.finfo(dtype).eps


# What cannot be taken apart, and is refused alone, in the middle layer of a family.
REFUSED = {
    "openai-gpt": {"layer 0", "layer 2", "residual add"},  # its norms stand in the stream
    "deepseek_v3": {"query", "key", "value"},
    "rwkv": {"layer 0"},
    # Its multipliers scale what the attention reads, its keys and its gate.
    "falcon_h1": {"attention input", "key", "activations"},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.few(6)
def test_any_architecture_holds_or_is_refused_step_by_step(family):
    found = walked(family, 1)
    assert {step.name for step in found if step.reason} == REFUSED.get(family, set())
    assert found[-1].name == "next token"
    with torch.no_grad():
        logits = small_model(family)(input_ids=torch.tensor([IDS])).logits[0, -1]
    assert found[-1].value[0] == int(logits.argmax())
    for step in found:
        assert step.reason or step.agreement is None or step.agreement <= BOUND
        assert step.sentence.endswith(".")
        assert len(step.gist) <= 18
        assert len(step.axes) == step.value.ndim


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("mixtral", ["router", "choice", "experts"]),
        ("mamba", ["state space"]),
        ("recurrent_gemma", ["recurrent"]),
    ],
)
def test_what_is_opaque_is_one_step_that_says_so(family, names):
    found = walked(family, 1)
    some = [step for step in found if step.name in names]
    assert [step.name for step in some] == names
    assert some[-1].by == "module"
    assert "own module" in some[-1].sentence


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3_text", "gpt_neox", "mixtral"])
def test_what_a_step_says_is_short(family):
    for step in walked(family, 1):
        assert len(step.sentence) <= 150, step.name
