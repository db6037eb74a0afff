"""Dictionaries for a module that their config names, against forward hooks on that module.

Families that norm what a module returns before it is added, or multiply it, are the ones that tell
the output of the module and what is written to the stream apart.
"""

from dataclasses import replace

import pytest
import torch

import llmscope
from llmscope.edits import PLACE_KINDS
from llmscope.learned.dictionaries.place import Place
from llmscope.record.analysis.logit_direction import logit_direction_of
from llmscope.record.features.active import Misfit, applied, features_of
from llmscope.record.features.effects import reader_of
from llmscope.record.features.places import tensor_at
from llmscope.record.interventions.feature_edits import places_changed
from llmscope.record.sites import NoPlace
from tests import all_families, families
from tests.lenses.asked import options_for
from tests.record.features.made import IDS, between, complete, dictionary, first, plain

TARGET, VERSUS = 7, 30
CASES = [
    (family, module)
    for family in ("gemma2", "granite", "olmo2", "glm4", "gemma3_text", "flex_olmo")
    for module in ("self_attn", "mlp", "self_attn.o_proj")
]
"""Families and the modules of a layer, whose output something behind them changes."""


def small_model(family):
    """A small random model of a family, whose published multipliers are not 1."""
    return (families if family in families.FAMILIES else all_families).small_model(family)


def named(module, layer=1):
    """The place of a module's output."""
    return Place.parse(f"model.layers.{layer}.{module}.output")


def run(model, module, change=None, layer=1):
    """The logits of a plain pass, and the output of a module, which `change` may replace."""
    outputs = []

    def leave(_, args, output):
        tensor = first(output)
        outputs.append(tensor[0].detach().clone())
        if change is None:
            return None
        changed = change(tensor[0])[None].to(tensor.dtype)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = model.model.layers[layer].get_submodule(module).register_forward_hook(leave)
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0]
    handle.remove()
    return logits, outputs[0]


def at(place, own):
    """A dictionary, but for another place."""
    return replace(own, header=replace(own.header, reads=place, writes=place))


def dictionary_for(module, x):
    """A random dictionary for the output of a module, whose features are of its size."""
    own, size = dictionary("mlp_out", 1, x.shape[-1]), float(x.abs().max())
    return at(named(module), replace(own, encoder=own.encoder / size, decoder=own.decoder * size))


def look(scope, own, mode, **more):
    return scope.look(
        *("features",),
        recording=scope.record(IDS),
        features=[own],
        layer=1,
        **options_for("features", mode=mode, target=TARGET, versus=VERSUS),
        **more,
    )


def near(found, own, bound=1e-4):
    found, own = torch.as_tensor(found).double(), torch.as_tensor(own).double()
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= bound * max(1e-3, float(own.abs().max()))


@pytest.mark.parametrize(("family", "module"), CASES)
@pytest.mark.few(3)
def test_features_are_read_from_the_output_of_the_named_module(family, module):
    model = small_model(family)
    _, x = run(model, module)
    scope = llmscope.wrap(model, unverified=True)
    recording = scope.record(IDS)
    near(tensor_at(recording, named(module), range(len(IDS))), x)
    own = dictionary_for(module, x)
    features, made = plain(own, x)
    dense = torch.zeros_like(features)
    for row, one in enumerate(features_of(applied(own, recording), recording, range(len(IDS)))):
        dense[row, one.ids] = one.values
    near(dense, features)
    figure = look(scope, own, "fit")
    error = (x - made)[1:].square().sum()
    spread = (x[1:] - x[1:].mean(0)).square().sum()
    assert figure.extra["fvu"] == pytest.approx(float(error / spread), rel=1e-3)
    assert f"{module} as it returns, before a norm or factor behind it" in figure.extra["caption"]


@pytest.mark.parametrize(("family", "module"), CASES)
@pytest.mark.few(3)
def test_a_reconstruction_is_spliced_in_as_the_output_of_the_named_module(family, module):
    model = small_model(family)
    base, x = run(model, module)
    own = at(named(module), complete("mlp_out", 1, x.shape[-1], threshold=between(x)))
    figure = look(llmscope.wrap(model, unverified=True), own, "fit-kl")
    spliced, _ = run(model, module, lambda t: torch.cat([t[:1], plain(own, t)[1][1:]]))
    p, q = base.log_softmax(-1), spliced.log_softmax(-1)
    near(figure.values[0, 1:], (p.exp() * (p - q)).sum(-1)[1:], 1e-3)


@pytest.mark.parametrize(("family", "module"), CASES)
@pytest.mark.few(3)
def test_an_edit_changes_the_output_of_the_named_module(family, module):
    model = small_model(family)
    _, x = run(model, module)
    own = dictionary_for(module, x)
    features, _ = plain(own, x)
    scope = llmscope.wrap(model, unverified=True)
    scope.features = own
    feature = int((features > 0).sum(0).argmax())
    kind = named(module).kind

    def without(tensor):
        return tensor - features[:, feature, None] * own.decoder[feature]

    expected, _ = run(model, module, without)
    for fresh in (False, True):
        recording = scope.record(IDS, edits=[f"zero feature 1.{kind}/{feature}"], fresh=fresh)
        near(recording.logits, expected[-1])
    near(tensor_at(recording, named(module), range(len(IDS))), without(x))
    figure = look(scope, own, "ablation", top_k=3)
    base, _ = run(model, module)
    for index, value in zip(figure.extra["ids"], figure.values, strict=True):
        logits, _ = run(
            model, module, lambda t, at=index: t - features[:, at, None] * own.decoder[at]
        )
        moved = (logits - base)[-1]
        assert value == pytest.approx(float(moved[TARGET] - moved[VERSUS]), abs=5e-5)


@pytest.mark.parametrize(("family", "module"), CASES)
@pytest.mark.few(3)
def test_gradients_and_direct_effects_are_by_the_output_of_the_named_module(family, module):
    model = small_model(family)
    _, x = run(model, module)
    own = dictionary_for(module, x)
    features, _ = plain(own, x)
    caught = []
    leaf_at = model.model.layers[1].get_submodule(module)

    def keep(_, args, output):
        leaf = first(output).detach().requires_grad_()
        caught.append(leaf)
        return (leaf, *output[1:]) if isinstance(output, tuple) else leaf

    handle = leaf_at.register_forward_hook(keep)
    logits = model(torch.tensor([IDS])).logits[0, -1]
    (gradient,) = torch.autograd.grad(logits[TARGET] - logits[VERSUS], caught[0])
    handle.remove()
    scope = llmscope.wrap(model, unverified=True)
    figure = look(scope, own, "gradient", top_k=4)
    each = (features * (gradient[0] @ own.decoder.T)).sum(0)
    for feature, value in zip(figure.extra["ids"], figure.values, strict=True):
        assert value == pytest.approx(float(each[feature]), rel=2e-3, abs=1e-5)
    # What the whole output adds directly is what attribution gives the part.
    figure = look(scope, own, "token", top_k=50)
    recording = scope.record(IDS)
    read = logit_direction_of(recording, len(IDS) - 1, TARGET, VERSUS)
    reader = reader_of(recording, named(module), len(IDS) - 1, read)
    for feature, value in zip(figure.extra["ids"], figure.extra["direct"], strict=True):
        effect = float(features[-1, feature] * (reader.float() @ own.decoder[feature]))
        assert value == pytest.approx(effect, rel=1e-3, abs=1e-6)
    parts = scope.look(
        "attribution", recording=recording, mode="layers", target=TARGET, versus=VERSUS
    )
    name = "attention" if named(module).kind == "attn_out" else "mlp"
    column = [str(one).casefold() for one in parts.axes[1].labels].index(name)
    share = float(parts.values[parts.axes[0].labels.index("1"), column])
    assert float(reader @ x[-1].double()) == pytest.approx(share, rel=1e-3, abs=1e-5)


READ = (
    *("llama", "gpt2", "gpt_neox", "gemma2", "olmo2", "granite", "glm4", "bloom", "mpt", "falcon"),
    *("mixtral", "opt", "gemma3_text", "phi", "rwkv", "exaone4", "flex_olmo", "minicpm3"),
    *("gemma4_text", "lfm3", "dory", "beam", "bitnet", "hyperclovax", "kolibri1", "afmoe"),
    *("gemma3n_text", "olmo_hybrid", "minimax", "longcat_flash"),
)


@pytest.mark.parametrize("family", READ)
@pytest.mark.few(4)
def test_each_module_that_a_name_means_is_read_as_its_hook_sees_it_or_refused(family):
    model = small_model(family)
    scope = llmscope.wrap(model, unverified=True)
    recording = scope.record(IDS)
    names = {id(module): name for name, module in model.named_modules()}
    handles, outputs = [], {}

    def keep(name, tensor):
        outputs[name] = first(tensor).detach().clone()

    def enter(_, args, kwargs, name):
        keep(name, args[0] if args else kwargs["hidden_states"])

    for layer in scope.loaded_model.anatomy.layers:
        prefix = names[id(layer.module)]
        for path, module in layer.module.named_modules():
            for end in ("input", "output"):
                name = ".".join(filter(None, (prefix, path, end)))
                try:
                    Place.parse(name)
                except ValueError:
                    continue
                handles.append(
                    module.register_forward_pre_hook(
                        lambda m, a, k, name=name: enter(m, a, k, name), with_kwargs=True
                    )
                    if end == "input"
                    else module.register_forward_hook(
                        lambda _, __, output, name=name: keep(name, output)
                    )
                )
    with torch.no_grad():
        model(torch.tensor([IDS]))
    for handle in handles:
        handle.remove()
    assert outputs
    read = 0
    for name, tensor in outputs.items():
        place = Place.parse(name)
        assert place.kind in PLACE_KINDS
        header = at(place, dictionary(place.kind, place.layer, tensor.shape[-1])).header
        needed = places_changed(scope.loaded_model, header)
        if any(scope.verdicts(*identity).status == "refused" for identity in needed):
            continue
        try:
            found = tensor_at(recording, place, range(len(IDS)))
        except NoPlace:
            continue
        near(found, tensor.reshape(found.shape), 2e-4)
        read += 1
    assert read


@pytest.mark.parametrize(
    ("family", "name", "reason"),
    [
        ("bloom", "transformer.h.1.mlp", "mlp of layer 1 returns is not what it writes"),
        ("bloom", "transformer.h.1.self_attention", "self_attention of layer 1 returns"),
        ("mpt", "transformer.blocks.1.ffn", "ffn of layer 1 returns is not what it writes"),
    ],
)
def test_a_module_that_adds_the_stream_itself_is_refused_by_its_name(family, name, reason):
    scope = llmscope.wrap(small_model(family))
    place = Place.parse(name)
    own = at(place, dictionary(place.kind, 1, scope.loaded_model.anatomy.width))
    with pytest.raises(Misfit, match=reason):
        applied(own, scope.record(IDS))
    figure = scope.look(
        "features", recording=scope.record(IDS), features=[own], layer=1, mode="fit"
    )
    assert figure.verdict.status == "refused"
    assert reason in figure.verdict.reason


def test_a_direction_that_a_norm_changes_first_steers_nothing():
    model = small_model("gemma2")
    _, x = run(model, "mlp")
    scope = llmscope.wrap(model)
    scope.features = dictionary_for("mlp", x)
    with pytest.raises(llmscope.ScopeError, match="no directions of the stream"):
        scope.record(IDS, edits=["steer 1 feature 1/3 2"])
