"""Neurons of experts, beside plain models in whose weights a neuron's column was changed.

The reference never calls llmscope: what a neuron writes is the difference that its column of the
down projection makes in the plain model, and a neuron without that column is one that is zeroed.
"""

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.record.analysis.logit_direction import logit_direction_of
from llmscope.record.change_hooks import Change, attached
from llmscope.record.derive import row_stats, tensors
from tests.all_families import small_model
from tests.family_matrix import IDS, scope_of
from tests.record.interventions.test_edited import near

# family -> the layer, and where its experts and shared experts keep their down projections.
ROWS = "rows"  # [expert, neuron, width]
MIXTURES = {
    "qwen3_moe": (1, "mlp.experts.down_proj", ""),
    "mixtral": (1, "mlp.experts.down_proj", ""),
    "qwen2_moe": (1, "mlp.experts.down_proj", "mlp.shared_expert.down_proj"),
    "gpt_oss": (1, "mlp.experts.down_proj", ""),
    "deepseek_v3": (2, "mlp.experts.down_proj", "mlp.shared_experts.down_proj"),
    "llama4_text": (1, "feed_forward.experts.down_proj", "feed_forward.shared_expert.down_proj"),
    "dbrx": (1, "ffn.experts.mlp.w2", ""),
    "jetmoe": (1, "mlp.output_linear.weight", ""),
    "granitemoeshared": (1, "block_sparse_moe.experts.down_proj", "shared_mlp.output_linear"),
    "laguna": (1, "mlp.experts.down_proj", "mlp.shared_experts.down_proj"),
    "nemotron_h": (1, "mixer.experts.down_proj", "mixer.shared_experts.down_proj"),
    "cohere2_moe": (1, "mlp.experts.down_proj", "mlp.shared_experts.down_proj"),
    "olmoe": (1, "mlp.experts.down_proj", ""),
    "afmoe": (1, "mlp.experts.down_proj", "mlp.shared_experts.down_proj"),
}
TRANSPOSED = ("gpt_oss", "llama4_text")
FIRST = ("qwen3_moe", "qwen2_moe", "gpt_oss", "llama4_text")


def families(names=MIXTURES):
    return [pytest.param(name, marks=() if name in FIRST else pytest.mark.slow) for name in names]


def layer_of(model, at):
    """The decoder layer of a plain model."""
    stack = next(
        child
        for module in model.modules()
        for child in module.children()
        if isinstance(child, torch.nn.ModuleList) and len(child) == 3
    )
    return stack[at]


def reached(layer, path):
    for name in path.split("."):
        layer = getattr(layer, name)
    return layer


def turn_column(model, family, expert, index, factor):
    """Multiply one neuron's column of the down projection of a plain model."""
    at, routed, shared = MIXTURES[family]
    with torch.no_grad():
        if expert is None:
            reached(layer_of(model, at), shared).weight[:, index] *= factor
            return
        weight = reached(layer_of(model, at), routed)
        if family == "dbrx":
            weight.view(4, -1, weight.shape[-1])[expert, index] *= factor
        elif family in TRANSPOSED:
            weight[expert, index] *= factor
        else:
            weight[expert, :, index] *= factor


def plain_logits(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def written(model, family, module_of):
    """What the plain model's mixture adds to the stream. [row, width]"""
    caught = []

    def keep(_, args, output):
        first = output[0] if isinstance(output, tuple) else output
        caught.append(first.reshape(-1, first.shape[-1]).clone())

    hook = module_of(layer_of(model, MIXTURES[family][0])).register_forward_hook(keep)
    plain_logits(model)
    hook.remove()
    return caught[0]


def chosen_neurons(scope, family):
    """Two neurons by expert and index: the strongest at the last token, and a shared one."""
    at, _, shared = MIXTURES[family]
    neurons = scope.loaded_model.anatomy.layers[at].neurons
    strongest = int(tensors.activations(scope.latest, at)[-1][: neurons.routed].abs().argmax())
    expert, index = (int(part) for part in neurons.name(strongest).split("."))
    return [(expert, index), *([(None, 3)] if shared else [])]


def number_of(scope, family, expert, index):
    neurons = scope.loaded_model.anatomy.layers[MIXTURES[family][0]].neurons
    return neurons.routed + index if expert is None else expert * neurons.weights.width + index


@pytest.mark.parametrize("family", families())
def test_a_zeroed_or_scaled_neuron_is_one_with_another_column_in_the_weights(family):
    scope = scope_of(family)
    scope.record(IDS)
    at = MIXTURES[family][0]
    assert scope.verdicts("activations", at).status == "verified"
    for expert, index in chosen_neurons(scope, family):
        name = f"neuron {at}.{'shared' if expert is None else expert}.{index}"
        for edit, factor in ((f"zero {name}", 0.0), (f"scale {name} -3", -3.0)):
            changed = small_model(family)
            turn_column(changed, family, expert, index, factor)
            own = plain_logits(changed)
            assert not torch.allclose(own[-1], plain_logits(small_model(family))[-1], atol=1e-6)
            recording = scope.record(IDS, edits=[edit])
            near(recording.logits, own[-1], 2e-5)
            # The same in a model whose prompt grows letter by letter, and by its other name.
            flat = edit.replace(name, f"neuron {at}.{number_of(scope, family, expert, index)}")
            for stop in (8, 9, len(IDS)):
                grown = scope.record(IDS[:stop], edits=[flat])
            near(grown.logits, own[-1], 2e-5)


@pytest.mark.parametrize("family", families())
def test_an_activation_times_its_column_is_what_the_column_makes_in_the_plain_model(family):
    scope = scope_of(family)
    recording, at = scope.record(IDS), MIXTURES[family][0]
    paths = {module: name for name, module in scope.model.named_modules()}
    parts = scope.loaded_model.anatomy.layers[at]
    prefix = paths[parts.module] + "."
    modules = [parts.mlp_input_module, *([parts.mlp_parallel] if parts.mlp_parallel else [])]

    def sums(model):
        return sum(
            written(
                model,
                family,
                lambda layer, module=module: layer.get_submodule(
                    paths[module].removeprefix(prefix)
                ),
            )
            for module in modules
        )

    whole = sums(small_model(family))
    for expert, index in chosen_neurons(scope, family):
        changed = small_model(family)
        turn_column(changed, family, expert, index, 0.0)
        moved = whole - sums(changed)  # [row, width]
        neuron = number_of(scope, family, expert, index)
        column = parts.neurons.column(neuron).detach()
        own = moved @ column / (column @ column)
        found = tensors.activations(recording, at)[:, neuron]
        near(found, own, 2e-5)
        along = tensors.neuron_columns(recording, at, torch.tensor([neuron]))[:, 0]
        ran = torch.ones(len(IDS), dtype=torch.bool)
        if expert is not None:
            ran = (recording.rows("chosen", at) == expert).any(-1)
            assert ran.any()
        assert torch.equal(along.isnan(), ~ran)
        near(along[ran], own[ran], 2e-5)
        near(moved, own[:, None] * column, 2e-5)
    norms = tensors.activations(recording, at).norm(dim=-1)
    near(torch.tensor(row_stats.activity(recording)[at]), norms, 1e-5)


@pytest.mark.parametrize("family", families(("qwen3_moe", "qwen2_moe", "gpt_oss", "dbrx")))
def test_neurons_and_experts_sum_to_what_the_mixture_adds_to_the_logit(family):
    scope = scope_of(family)
    recording, at = scope.record(IDS), MIXTURES[family][0]
    last = len(IDS) - 1
    neurons = scope.look("attribution", mode="neurons", layer=at, position=last, top_k=10**6)
    experts = scope.look("attribution", mode="experts", layer=at, position=last)
    assert neurons.verdict.status == experts.verdict.status == "verified"
    whole = experts.extra["mlp"]
    for figure in (neurons, experts):
        rest = figure.extra.get("mlp_bias", 0.0)
        assert figure.values.sum() + rest == pytest.approx(whole, abs=2e-5)
    read = logit_direction_of(recording, last, experts.extra["target_id"], None)
    module = scope.loaded_model.anatomy.layers[at].mlp_input_module
    paths = {module: name for name, module in scope.model.named_modules()}
    prefix = paths[scope.loaded_model.anatomy.layers[at].module] + "."

    def mixed(model):
        return written(
            model,
            family,
            lambda layer: layer.get_submodule(paths[module].removeprefix(prefix)),
        )[last]

    before = mixed(small_model(family))
    for expert, value in zip(experts.extra["experts"], experts.values, strict=False):
        changed = small_model(family)
        width = scope.loaded_model.anatomy.layers[at].neurons.weights.width
        for index in range(width):
            turn_column(changed, family, expert, index, 0.0)
        if family == "gpt_oss":
            with torch.no_grad():
                reached(layer_of(changed, at), "mlp.experts").down_proj_bias[expert] = 0
        own = float(read.direction @ (before - mixed(changed)).double())
        assert value == pytest.approx(own, abs=2e-5)
    assert set(experts.extra["experts"]) == set(recording.rows("chosen", at)[last].tolist())


@pytest.mark.parametrize("family", families(("qwen3_moe", "qwen2_moe", "granitemoeshared")))
def test_mean_patch_and_a_tensor_of_ones_own_move_the_write_along_the_column(family):
    """By hand: (new - old activation) · column is added to the plain mixture's output."""
    scope, at = scope_of(family), MIXTURES[family][0]
    other = [17, 4, 9, 60, 33, 42, 8, 18, 91, 31, 4, 70, 50]
    theirs = tensors.activations(scope.record(other), at).clone()
    ours = tensors.activations(scope.record(IDS), at).clone()
    parts = scope.loaded_model.anatomy.layers[at]
    paths = {module: name for name, module in scope.model.named_modules()}
    module = paths[parts.mlp_input_module].removeprefix(paths[parts.module] + ".")
    for expert, index in chosen_neurons(scope, family):
        name = f"neuron {at}.{'shared' if expert is None else expert}.{index}"
        neuron = number_of(scope, family, expert, index)
        column = parts.neurons.column(neuron).detach()
        wanted = {
            f"mean {name}": (ours[:, neuron].mean().expand(len(IDS)), range(len(IDS))),
            f"patch {name} from B": (theirs[:, neuron], range(len(IDS))),
            f"patch {name} @3..5 from B": (theirs[:, neuron], range(3, 6)),
        }
        for edit, (new, rows) in wanted.items():
            plain = small_model(family)
            moved = torch.zeros(len(IDS), len(column))
            for row in rows:
                moved[row] = (new[row] - ours[row, neuron]) * column

            def add(_, args, output, moved=moved):
                if isinstance(output, tuple):
                    return (output[0] + moved.view_as(output[0]), *output[1:])
                return output + moved.view_as(output)

            layer_of(plain, at).get_submodule(module).register_forward_hook(add)
            recording = scope.record(IDS, edits=[edit], versus_prompt=other)
            near(recording.logits, plain_logits(plain)[-1], 2e-5)
        both = scope.record(IDS, edits=[f"zero {name}", f"scale {name} 3"])
        once = scope.record(IDS, edits=[f"zero {name}"], fresh=True)
        near(both.logits, once.logits, 1e-6)


def test_prompts_of_a_batch_have_neurons_of_their_own_changed():
    family, at = "qwen2_moe", 1
    model = small_model(family)
    anatomy = find(model)
    other = [17, 4, 9, 60, 33, 42, 8, 18, 91, 31, 4, 70, 50]
    jobs = [
        [Change("neurons", at, range(4, 13), slice(neuron, neuron + 1), factor=factor)]
        for neuron, factor in ((7, 5.0), (anatomy.layers[at].neurons.routed + 2, 0.0))
    ]
    common = Change("neurons", at, range(2, 13), slice(7, 8), factor=2.0)

    def run(prompts, changes, own):
        with torch.no_grad(), attached(anatomy, changes, jobs=own):
            return model(input_ids=torch.tensor(prompts), use_cache=False).logits

    together = run([IDS, other], [common], jobs)
    for ids, job, row in zip((IDS, other), jobs, together, strict=True):
        near(row, run([ids], [common, *job], ())[0], 1e-6)
    assert not torch.allclose(together[0], run([IDS], [common], ())[0], atol=1e-4)


def test_in_half_precision_the_identity_holds_and_a_zeroed_neuron_is_near():
    scope = scope_of("qwen3_moe")
    recording = scope.record(IDS)
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

    model = small_model("qwen3_moe").to(torch.bfloat16)
    half = Scope(LoadedModel("", "half", model, None, find(model), model.device, model.dtype))
    half.record(IDS)
    assert {verdict.status for verdict in half.verdicts.layers["activations"]} == {"verified"}
    neuron = int(tensors.activations(recording, 1)[-1].abs().argmax())
    own = small_model("qwen3_moe")
    turn_column(own, "qwen3_moe", neuron // 40, neuron % 40, 0.0)
    edited = half.record(IDS, edits=[f"zero neuron 1.{neuron}"])
    near(edited.logits.float(), plain_logits(own.to(torch.bfloat16))[-1].float(), 0.05)


def test_what_cannot_be_named_is_refused():
    scope = scope_of("qwen2_moe")
    scope.record(IDS)
    for edit, words in (
        ("zero neuron 1.4.0", "there is no expert 4"),
        ("zero neuron 1.3.40", "there is no neuron 40 in expert 3"),
        ("zero neuron 1.shared.40", "there is no neuron 40 of shared experts"),
        ("zero neuron 1.200", "there is no neuron 200 in layer 1"),
    ):
        with pytest.raises(ScopeError, match=words):
            scope.record(IDS, edits=[edit])
    dense = scope_of("llama")
    dense.record(IDS)
    with pytest.raises(ScopeError, match="no experts whose neurons were found"):
        dense.record(IDS, edits=["zero neuron 1.0.1"])
    refused = dense.look("attribution", mode="experts", layer=1)
    assert refused.verdict.status == "refused"
    inkling = scope_of("inkling_text")
    inkling.record(IDS)
    assert "InklingSharedExperts" in inkling.verdicts("activations", 0).reason


def test_experts_whose_weights_are_elsewhere_are_refused_with_that_reason():
    scope = scope_of("qwen3_moe")
    experts = scope.loaded_model.anatomy.layers[1].experts
    plain, forward = small_model("qwen3_moe"), experts.forward
    own = layer_of(plain, 1).mlp.experts
    experts.forward = lambda *args, **kwargs: own(*args, **kwargs)
    try:
        for name, weight in list(experts.named_parameters()):
            setattr(experts, name, torch.nn.Parameter(weight.detach().to("meta")))
        scope.record(IDS)
        assert "split over processes, or offloaded" in scope.verdicts("activations", 1).reason
        assert scope.verdicts("activations", 0).status == "verified"
        assert scope.verdicts("experts", 1).status == "verified"
        scope.look("mlp", mode="overview")
        with pytest.raises(ScopeError, match="split over processes"):
            scope.record(IDS, edits=["zero neuron 1.0.3"])
    finally:
        experts.forward = forward
