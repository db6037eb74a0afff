"""Direct effects, promoted tokens, ablation and gradient × activation, against plain passes."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.learned.dictionaries.place import Place
from llmscope.record.features.active import applied, features_of
from llmscope.record.features.effects import effects_on_token
from tests.families import epsilon_of, small_model
from tests.lenses.asked import options_for
from tests.record.features.made import HOOKS, IDS, by_default, dictionary, plain, run
from tests.thinned import thinned

KINDS = ("resid_pre", "resid_post", "attn_out", "mlp_out", "z", "mlp_act")
TARGET, VERSUS = 7, 30


def scope_of(model):
    return llmscope.wrap(model, unverified=True)


def near(found, own, bound=1e-4):
    found, own = torch.as_tensor(np.asarray(found)), torch.as_tensor(np.asarray(own))
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= bound * max(1.0, float(own.abs().max()))


def look(scope, own, mode, **more):
    return scope.look(
        *("features",),
        recording=scope.record(IDS),
        features=[own],
        layer=own.header.reads.layer,
        **options_for("features", mode=mode, target=TARGET, versus=VERSUS),
        **more,
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_direct_effect_after_the_last_layer_is_the_logits_own(family):
    model = small_model(family)
    last = len(model.get_submodule(HOOKS[family][0])) - 1
    _, x = run(model, family, Place(last, "resid_post"))
    own = dictionary("resid_post", last, x.shape[-1])
    figure = look(scope_of(model), own, "token", top_k=50)
    features, _ = plain(own, x)
    row = x[-1].double()
    norm = model.transformer.ln_f if family == "gpt2" else model.model.norm
    centre = 1.0 if family == "gpt2" else 0.0
    size = ((row - centre * row.mean()).square().mean() + epsilon_of(norm)).sqrt()
    direction = (model.lm_head.weight[TARGET] - model.lm_head.weight[VERSUS]).double()
    for feature, effect in zip(figure.extra["ids"], figure.extra["direct"], strict=True):
        part = features[-1, feature].double() * own.decoder[feature].double()
        normed = (part - centre * part.mean()) / size * norm.weight.double()
        assert effect == pytest.approx(float(normed @ direction), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", ["attn_out", "mlp_out", "z", "mlp_act"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.few(3)
def test_direct_effects_add_up_to_what_attribution_gives_the_part(family, kind):
    model = small_model(family)
    scope = scope_of(model)
    _, x = run(model, family, Place(1, kind))
    own = dictionary(kind, 1, x.shape[-1])
    recording = scope.record(IDS)
    figure = look(scope, own, "direct", top_k=100)
    # What the part writes is linear in the tensor: put what features write in its place.
    from llmscope.record.analysis.logit_direction import logit_direction_of
    from llmscope.record.features.effects import reader_of

    read = logit_direction_of(recording, len(IDS) - 1, TARGET, VERSUS)
    reader = reader_of(recording, Place(1, kind), len(IDS) - 1, read)
    whole = scope.look(
        "attribution", recording=recording, mode="layers", target=TARGET, versus=VERSUS
    )
    name = "attention" if kind in ("attn_out", "z") else "MLP"
    column = [str(one).casefold() for one in whole.axes[1].labels].index(name.casefold())
    part = float(whole.values[whole.axes[0].labels.index("1"), column])
    biases = float(part - reader @ x[-1].double())
    if kind in ("attn_out", "mlp_out"):
        assert biases == pytest.approx(0, abs=1e-4)
    features, made = plain(own, x)
    total = float(reader @ (made[-1] - own.bias).double())
    assert figure.extra["total"] == pytest.approx(total, rel=1e-4, abs=1e-5)
    assert len(figure.values) == int((features[-1] > 0).sum())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_promoted_tokens_are_those_of_the_decoder_row(family):
    model = small_model(family)
    scope = scope_of(model)
    own = dictionary("resid_post", 1, scope.loaded_model.anatomy.width)
    figure = look(scope, own, "tokens", feature=3, top_k=4)
    norm = model.transformer.ln_f if family == "gpt2" else model.model.norm
    row = own.decoder[3].double()
    row = (row - row.mean() if family == "gpt2" else row) * norm.weight.double()
    logits = model.lm_head.weight.double() @ row
    logits = logits - logits.mean()
    best = logits.topk(4)
    near(figure.values[:4], best.values.float().detach(), 1e-5)
    assert list(figure.extra["ids"][:4]) == best.indices.tolist()
    assert figure.values[-1] == pytest.approx(float(logits.min()), rel=1e-5)
    recording = scope.record(IDS)
    near(effects_on_token(recording, own, int(best.indices[0]))[3], best.values[0].float().detach())


@pytest.mark.parametrize(
    ("family", "kind"), thinned([(one, kind) for kind in KINDS for one in HOOKS], by_default)
)
@pytest.mark.few(6)
def test_taking_a_feature_away_is_a_hook_that_subtracts_what_it_writes(family, kind):
    if kind == "mlp_act" and HOOKS[family][-1] is None:
        pytest.skip("the neurons of experts are not one row")
    model = small_model(family)
    place = Place(1, kind)
    base, x = run(model, family, place)
    own = dictionary(kind, 1, x.shape[-1])
    scope = scope_of(model)
    features, _ = plain(own, x)
    delta, kl = look(scope, own, "ablation", top_k=3), look(scope, own, "ablation-kl", top_k=3)
    assert len(delta.values) == 3
    for at, feature in enumerate(delta.extra["ids"]):

        def without(tensor, feature=feature):
            return tensor - features[:, feature, None] * own.decoder[feature]

        logits, _ = run(model, family, place, without)
        answer = (logits - base)[-1]
        assert delta.values[at] == pytest.approx(float(answer[TARGET] - answer[VERSUS]), abs=2e-5)
        p, q = base[-1].log_softmax(-1), logits[-1].log_softmax(-1)
        assert kl.values[at] == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.few(5)
def test_gradient_times_activation_is_the_slope_of_taking_a_feature_away(family, kind):
    model = small_model(family).double()
    place = Place(1, kind)
    _, x = run(model, family, place)
    own = dictionary(kind, 1, x.shape[-1])
    figure = look(scope_of(model), own, "gradient", top_k=4)
    features, made = plain(own, x)

    def answer(change):
        logits = run_double(model, family, place, change)
        return float(logits[-1, TARGET] - logits[-1, VERSUS])

    step = 5e-3  # the norms of Llama round to float32 also in a model of float64
    for at, feature in enumerate(figure.extra["ids"]):
        part = (features[:, feature, None] * own.decoder[feature]).double()
        slope = (
            answer(lambda t, d=part: t + step * d) - answer(lambda t, d=part: t - step * d)
        ) / (2 * step)
        assert figure.values[at] == pytest.approx(slope, rel=1e-3, abs=1e-5)
    whole = (made - own.bias).double()
    removed = answer(lambda t: t) - answer(lambda t: t - whole)
    assert figure.extra["removed"] == pytest.approx(removed, rel=1e-3, abs=1e-5)
    assert figure.extra["completeness_error"] == pytest.approx(
        figure.extra["total"] - removed, rel=1e-3, abs=1e-5
    )
    rest = x.double() - whole
    slope = (answer(lambda t: t + step * rest) - answer(lambda t: t - step * rest)) / (2 * step)
    assert figure.extra["not_reconstructed"] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def run_double(model, family, place, change):
    from tests.record.features.made import module_of

    module, before = module_of(model, family, place)
    if before:

        def enter(_, args, kwargs):
            if args:
                return (change(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

        handle = module.register_forward_pre_hook(enter, with_kwargs=True)
    else:

        def leave(_, args, output):
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            return change(output)

        handle = module.register_forward_hook(leave)
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0]
    handle.remove()
    return logits


def test_a_transcoder_reads_the_mlps_input_and_writes_its_output():
    model = small_model("llama")
    scope = scope_of(model)
    width = scope.loaded_model.anatomy.width
    seen = {}
    mlp = model.model.layers[1].mlp
    handle = mlp.register_forward_hook(
        lambda _, args, output: seen.update(x=args[0][0].clone(), y=output[0].clone())
    )
    with torch.no_grad():
        base = model(torch.tensor([IDS])).logits[0]
    handle.remove()
    own = dictionary("mlp_in", 1, width, writes=Place(1, "mlp_out"))
    recording = scope.record(IDS)
    way = applied(own, recording)
    features, made = plain(own, seen["x"])
    for row, one in enumerate(features_of(way, recording, range(len(IDS)))):
        assert one.ids.tolist() == features[row].nonzero()[:, 0].tolist()
    figure = look(scope, own, "fit")
    error = (seen["y"] - made)[1:].square().sum()
    spread = (seen["y"][1:] - seen["y"][1:].mean(0)).square().sum()
    assert figure.extra["fvu"] == pytest.approx(float(error / spread), rel=1e-4)
    kl = look(scope, own, "fit-kl")
    handle = mlp.register_forward_hook(
        lambda _, args, output: torch.cat([output[:, :1], made[None, 1:]], 1)
    )
    with torch.no_grad():
        spliced = model(torch.tensor([IDS])).logits[0]
    handle.remove()
    p, q = base.log_softmax(-1), spliced.log_softmax(-1)
    near(kl.values[0, 1:], (p.exp() * (p - q)).sum(-1)[1:])
