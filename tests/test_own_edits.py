"""Tensors and functions of one's own in a pass, against hooks by hand; generation under edits."""

import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.record.derive.tensors import logits_after
from tests.families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30]
LAYER = 1
FAMILIES = {
    "llama": ("model.layers", "self_attn", "mlp", "self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("transformer.h", "attn", "mlp", "attn.c_proj", "mlp.c_proj"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp", "attention.dense", "mlp.dense_4h_to_h"),
    "gemma2": (
        *("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
        *("self_attn.o_proj", "mlp.down_proj"),
    ),
}
PLACES = ("stream", "attention", "mlp", "head", "neuron")


@pytest.fixture(params=FAMILIES)
def model(request):
    made = small_model(request.param)
    made.paths = FAMILIES[request.param]
    return made


def words(place):
    return f"{place} {LAYER}.2" if place in ("head", "neuron") else f"{place} {LAYER}"


def by_hand(model, place, change, rows=slice(None)):
    """Put a hook on the model that changes a place of each pass; return its handle."""
    layers, attention, mlp, out, down = model.paths
    layer = model.get_submodule(layers)[LAYER]
    if place in ("head", "neuron"):
        module = layer.get_submodule(out if place == "head" else down)
        heads = model.config.num_attention_heads
        weight = module.weight
        inputs = weight.shape[0] if type(module).__name__ == "Conv1D" else weight.shape[1]
        width = inputs // heads if place == "head" else 1
        columns = slice(2 * width, 3 * width)

        def before(_, args):
            altered = args[0].clone()
            for one in altered:
                one[rows, columns] = change(one[rows, columns])
            return (altered, *args[1:])

        return module.register_forward_pre_hook(before)
    path = {"attention": attention, "mlp": mlp}.get(place)
    module = layer if path is None else layer.get_submodule(path)

    def after(_, args, output):
        whole = output[0] if isinstance(output, tuple) else output
        altered = whole.clone()
        for one in altered:
            one[rows] = change(one[rows])
        return (altered, *output[1:]) if isinstance(output, tuple) else altered

    return module.register_forward_hook(after)


def own_logits(model, place, change, rows=slice(None)):
    handle = by_hand(model, place, change, rows)
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0]
    handle.remove()
    return logits


def near(found, own):
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= 1e-4 * float(own.abs().max())


def backwards(values):
    """A function to which every row matters."""
    return values.flip(0) * 1.5 + values.mean()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("where", "rows"), [("", slice(None)), (" @3..6", slice(3, 7))])
@pytest.mark.few(7)
def test_a_function_does_what_hooks_by_hand_do(model, place, where, rows):
    scope = llmscope.wrap(model)
    recording = scope.record(IDS, edits=[(words(place) + where, backwards)])
    own = own_logits(model, place, backwards, rows)
    near(logits_after(recording, len(IDS) - 1), own[-1])
    recording = scope.record(IDS, edits=[(words(place) + where, backwards)])
    near(recording.cache()["logits"], own)
    assert scope.look("logit-lens").verdict.status == "verified"
    verdict = scope.look("attribution").verdict
    if place == "attention" and not where:  # as for `mean attention 1`
        assert verdict.reason.startswith("attention of layer 1 is one part")
    else:
        assert verdict.status == "verified"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.few(5)
def test_a_tensor_takes_its_place(model, place):
    scope = llmscope.wrap(model)
    width = {"neuron": 1, "head": scope.record(IDS).cache()["layers.1.z"].shape[-1]}.get(place)
    width = width or model.config.hidden_size
    for values in (torch.randn(width), torch.randn(3, width), torch.randn(width).numpy(), 0.25):
        recording = scope.record(IDS, edits=[(f"{words(place)} @2..4", values)])
        given = torch.as_tensor(values)
        own = own_logits(model, place, lambda old, given=given: given.expand_as(old), slice(2, 5))
        near(recording.cache()["logits"], own)


def test_what_a_function_closes_over_is_read_each_time():
    model = small_model("llama")
    scope = llmscope.wrap(model)
    factor = 2.0

    def scaled(values):
        return values * factor

    first = scope.record(IDS, edits=[("mlp 1", scaled)]).cache()["logits"]
    factor = 0.0
    second = scope.record(IDS, edits=[("mlp 1", scaled)]).cache()["logits"]
    zeroed = scope.record(IDS, edits=["zero mlp 1"]).cache()["logits"]
    near(second, zeroed)
    assert float((first - second).abs().max()) > 1e-3
    vector = torch.ones(model.config.hidden_size)
    one = scope.record(IDS, edits=[("stream 0", vector)]).cache()["logits"]
    vector.mul_(-2)
    other = scope.record(IDS, edits=[("stream 0", vector)]).cache()["logits"]
    assert float((one - other).abs().max()) > 1e-3
    letter = scope.record([*IDS, 7], edits=[("mlp 1", backwards)])
    fresh = scope.record([*IDS, 7], edits=[("mlp 1", backwards)], fresh=True)
    near(letter.cache()["logits"], fresh.cache()["logits"])


def test_a_lens_that_runs_the_prompt_again_is_refused_for_a_function_alone():
    scope = llmscope.wrap(small_model("llama"))
    scope.record(IDS, edits=[("mlp 1", backwards)])
    assert scope.look("ablation").verdict.reason.startswith("it runs the prompt again")
    scope.record(IDS, edits=[("mlp 1", 0.0)])
    found = scope.look("ablation")
    scope.record(IDS, edits=["zero mlp 1"])
    near(torch.tensor(found.values), torch.tensor(scope.look("ablation").values))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("nowhere 1", 0.0), "edits[0]: 'nowhere 1' is no place of a pass"),
        (("layer 1", 0.0), "edits[0]: a layer has several writes"),
        (("mlp 9", 0.0), "there is no layer 9"),
        (("mlp 1", torch.zeros(7)), "which does not fit"),
        (("mlp 1 @2..4", torch.zeros(2, 64)), "which does not fit"),
        (("mlp 1", "zero"), "which does not fit"),
        (("mlp 1", lambda old: old[:, :3]), "it returned a tensor of (10, 3)"),
        (("mlp 1", lambda old: 3), "it returned 3"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_stays_hooked(edit, said):
    model = small_model("llama")
    scope = llmscope.wrap(model)
    scope.record(IDS)
    with pytest.raises(ScopeError) as caught:
        scope.record(IDS, edits=[edit])
    assert said in caught.value.message
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_an_error_of_a_function_is_the_callers_own_and_nothing_stays_hooked():
    model = small_model("llama")
    scope = llmscope.wrap(model)

    def broken(values):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        scope.record(IDS, edits=[("mlp 1", broken)])
    with pytest.raises(KeyError, match="mine"), scope.editing([("mlp 1", broken)]):
        model(torch.tensor([IDS]))
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
    assert scope.record(IDS).edits == ()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.few(4)
def test_generation_under_edits_is_that_under_hooks_by_hand(model, place, sampled):
    scope = llmscope.wrap(model)
    options = {"max_new_tokens": 12, "do_sample": sampled, "pad_token_id": 0, "eos_token_id": None}
    prompts = torch.tensor([IDS, IDS[::-1]])

    def moved(values):
        return values * -1.5 + 0.3

    def generate():
        torch.manual_seed(3)
        return model.generate(prompts, **options)

    plain = generate()
    with scope.editing([(words(place), moved)]) as edited:
        assert edited is model
        found = generate()
    handle = by_hand(model, place, moved)
    own = generate()
    handle.remove()
    assert torch.equal(found, own)
    assert not torch.equal(found, plain) or place == "neuron"
    assert torch.equal(generate(), plain)


def test_edits_of_the_grammar_hold_in_generation():
    model = small_model("llama")
    model.paths = FAMILIES["llama"]
    scope = llmscope.wrap(model)
    ids = torch.tensor([IDS])
    with scope.editing(["zero mlp 1", "scale head 1.2 3"]), torch.no_grad():
        found = model(ids).logits
    handles = [
        by_hand(model, "mlp", lambda old: old * 0),
        by_hand(model, "head", lambda old: old * 3),
    ]
    with torch.no_grad():
        own = model(ids).logits
    for handle in handles:
        handle.remove()
    near(found, own)
    near(scope.record(IDS, edits=["zero mlp 1", "scale head 1.2 3"]).cache()["logits"], own[0])


@pytest.mark.parametrize(
    "edit", ["zero mlp 1 @3", "mean mlp 1", "freeze norm 1.mlp", ("mlp 1", torch.zeros(2, 64))]
)
def test_edits_of_one_prompt_are_refused_in_generation(edit):
    scope = llmscope.wrap(small_model("llama"))
    with pytest.raises(ScopeError), scope.editing([edit]):
        raise AssertionError("it was entered")


def test_a_function_gets_one_prompt_of_a_batch_at_a_time():
    model = small_model("llama")
    scope, shapes = llmscope.wrap(model), []

    def centred(values):
        shapes.append(tuple(values.shape))
        return values - values.mean(0)

    batch = torch.tensor([IDS, IDS[::-1]])
    with scope.editing([("mlp 1", centred)]), torch.no_grad():
        both = model(batch).logits
        alone = model(batch[1:]).logits
    assert shapes == [(len(IDS), model.config.hidden_size)] * 3
    near(both[1:], alone)


@pytest.mark.slow
def test_a_model_compiled_in_place_runs_the_edits():
    model = small_model("llama")
    model.compile(backend="eager")
    ids = torch.tensor([IDS])
    with torch.no_grad():
        plain = model(ids).logits
        with llmscope.wrap(model).editing(["zero mlp 1"]) as edited:
            found = edited(ids).logits
        assert torch.equal(model(ids).logits, plain)
    fresh = llmscope.wrap(small_model("llama"))
    near(found[0], fresh.record(IDS, edits=["zero mlp 1"]).cache()["logits"])
