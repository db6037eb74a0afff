"""Features, reconstruction, FVU, L0 and the cost of splicing, against hooks on the plain model."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.learned.dictionaries.place import Place
from llmscope.record.features.active import Misfit, applied, counted, features_of
from llmscope.record.features.chance import chance_reconstruction
from tests.families import small_model
from tests.record.features.made import (
    HOOKS,
    IDS,
    between,
    by_default,
    complete,
    dictionary,
    plain,
    run,
)
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("hooks_watch")

KINDS = ("resid_pre", "resid_post", "attn_out", "mlp_out", "z", "mlp_act")


def cases():
    return thinned(
        [
            (family, kind)
            for family, hooks in HOOKS.items()
            for kind in KINDS
            if not (kind == "mlp_act" and hooks[-1] is None)
        ],
        by_default,
    )


def near(found, own, bound=1e-5):
    found, own = torch.as_tensor(found), torch.as_tensor(own)
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= bound * max(1.0, float(own.abs().max()))


@pytest.mark.parametrize(("family", "kind"), cases())
@pytest.mark.few(3)
def test_features_and_fit_are_those_of_hooks_by_hand(family, kind):
    model = small_model(family)
    scope = llmscope.wrap(model)
    place = Place(1, kind)
    _, x = run(model, family, place)
    own = dictionary(kind, 1, x.shape[-1])
    recording = scope.record(IDS)
    features, made = plain(own, x)
    active = features_of(applied(own, recording), recording, range(len(IDS)))
    dense = torch.zeros_like(features)
    for row, one in enumerate(active):
        dense[row, one.ids] = one.values
    near(dense, features)
    figure = scope.look("features", recording=recording, features=[own], layer=1, mode="fit")
    rows = torch.arange(1, len(IDS))
    error = (x.float()[rows] - made[rows]).square().sum(-1)
    spread = (x.float()[rows] - x.float()[rows].mean(0)).square().sum(-1)
    fvu = float(error.sum() / spread.sum())
    if figure.verdict.status == "refused":  # random weights seldom do better than chance
        assert figure.verdict.discrepancy == pytest.approx(fvu, rel=1e-4)
        scope = llmscope.wrap(model, unverified=True)
        figure = scope.look(
            "features", recording=scope.record(IDS), features=[own], layer=1, mode="fit"
        )
        assert figure.verdict.status == "unverified"
    assert figure.extra["fvu"] == pytest.approx(fvu, rel=1e-4)
    assert figure.extra["l0"] == pytest.approx(float((features[rows] > 0).sum(-1).float().mean()))
    near(figure.values[0, 1:], (error / spread).numpy(), 1e-4)
    assert np.isnan(figure.values[:, 0]).all()


@pytest.mark.parametrize(("family", "kind"), cases())
@pytest.mark.few(4)
def test_the_cost_of_splicing_is_that_of_hooks_by_hand(family, kind):
    model = small_model(family)
    scope = llmscope.wrap(model, unverified=True)
    place = Place(1, kind)
    base, x = run(model, family, place)
    own = complete(kind, 1, x.shape[-1], threshold=between(x))
    figure = scope.look(
        "features", recording=scope.record(IDS), features=[own], layer=1, mode="fit-kl"
    )

    def splice(tensor):
        made = plain(own, tensor)[1]
        return torch.cat([tensor[:1].float(), made[1:]])

    spliced, _ = run(model, family, place, splice)
    p, q = base.log_softmax(-1), spliced.log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)[1:]
    near(figure.values[0, 1:], kl, 1e-4)
    following = torch.tensor(IDS[2:])
    loss = (p - q)[1:-1].gather(-1, following[:, None])[:, 0]
    near(figure.extra["loss_by_token"][:-1], loss, 1e-4)
    assert figure.extra["kl"] == pytest.approx(float(kl.mean()), abs=1e-5)
    assert figure.extra["loss"] == pytest.approx(float(loss.mean()), abs=1e-5)


def test_centred_streams_are_read_centred_and_spliced_with_their_mean():
    model = small_model("gpt2")
    scope = llmscope.wrap(model, unverified=True)
    place = Place(1, "resid_post")
    _, x = run(model, "gpt2", place)
    own = dictionary("resid_post", 1, x.shape[-1], centred=True)
    recording = scope.record(IDS)
    features, _ = plain(own, x, centred=True)
    way = applied(own, recording)
    assert way.centred
    active = features_of(way, recording, range(len(IDS)))
    near(
        torch.stack([torch.zeros(40).index_put((one.ids,), one.values) for one in active]), features
    )
    figure = scope.look("features", recording=recording, features=[own], layer=1, mode="fit-kl")
    base, _ = run(model, "gpt2")
    spliced, _ = run(
        model, "gpt2", place, lambda t: torch.cat([t[:1], plain(own, t, centred=True)[1][1:]])
    )
    p, q = base.log_softmax(-1), spliced.log_softmax(-1)
    near(figure.values[0, 1:], (p.exp() * (p - q)).sum(-1)[1:], 1e-4)


@pytest.mark.parametrize("shifted", [False, True])
def test_unknown_centring_is_decided_by_the_better_reconstruction(shifted):
    model = small_model("gpt2")
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    _, x = run(model, "gpt2", Place(1, "resid_post"))
    own = complete("resid_post", 1, x.shape[-1])
    bias = torch.full_like(own.bias, float(x[1:].mean())) if shifted else torch.zeros_like(own.bias)
    own = complete("resid_post", 1, x.shape[-1], threshold=0.0, centred=None)
    object.__setattr__(own, "bias", -bias * 3)
    raw = plain(own, x)[1] - x.float()
    mean = x.float() - x.float().mean(-1, keepdim=True)
    centred = plain(own, mean)[1] - mean
    assert applied(own, recording).centred is bool(centred[1:].norm() < raw[1:].norm())


def test_models_without_a_mean_to_take_away_are_never_centred():
    scope = llmscope.wrap(small_model("llama"))
    recording = scope.record(IDS)
    width = scope.loaded_model.anatomy.width
    assert not applied(dictionary("resid_post", 1, width, centred=True), recording).centred


def test_the_stream_within_a_layer_is_read_and_spliced():
    model = small_model("llama")
    scope = llmscope.wrap(model, unverified=True)
    block = model.model.layers[1]
    seen = {}
    handle = block.post_attention_layernorm.register_forward_pre_hook(
        lambda _, args: seen.update(x=args[0][0].clone())
    )
    with torch.no_grad():
        base = model(torch.tensor([IDS])).logits[0]
    handle.remove()
    x = seen["x"]
    own = complete("resid_mid", 1, x.shape[-1], threshold=between(x))
    recording = scope.record(IDS)
    near(applied(own, recording).inputs(recording, range(len(IDS))), x)
    figure = scope.look("features", recording=recording, features=[own], layer=1, mode="fit-kl")
    difference = plain(own, x)[1] - x
    difference[0] = 0
    handle = block.self_attn.register_forward_hook(
        lambda _, args, output: (output[0] + difference, *output[1:])
    )
    with torch.no_grad():
        spliced = model(torch.tensor([IDS])).logits[0]
    handle.remove()
    p, q = base.log_softmax(-1), spliced.log_softmax(-1)
    near(figure.values[0, 1:], (p.exp() * (p - q)).sum(-1)[1:], 1e-4)


def test_parallel_layers_have_no_stream_within():
    scope = llmscope.wrap(small_model("gpt_neox"))
    recording = scope.record(IDS)
    own = dictionary("resid_mid", 1, scope.loaded_model.anatomy.width)
    if scope.loaded_model.module.config.use_parallel_residual:
        with pytest.raises(Misfit, match="parallel"):
            applied(own, recording)


@pytest.mark.slow
def test_typed_letters_cost_their_rows_alone_and_equal_a_fresh_look():
    model = small_model("llama")
    scope = llmscope.wrap(model, unverified=True)
    width = scope.loaded_model.anatomy.width
    own = complete("resid_post", 1, width, threshold=0.5)

    def look(one, ids, mode):
        return one.look("features", recording=one.record(ids), features=[own], layer=1, mode=mode)

    for length in (5, 6, 7, 9, 8, 12):
        ids = IDS[:length]
        if length == 9:
            ids[6] = 44  # an edit in the middle
        for mode in ("fit", "fit-kl", "token"):
            live = look(scope, ids, mode)
            fresh = look(llmscope.wrap(small_model("llama"), unverified=True), ids, mode)
            near(np.nan_to_num(live.values), np.nan_to_num(fresh.values), 1e-4)
            assert live.extra["kl"] == pytest.approx(fresh.extra["kl"], rel=1e-3, abs=1e-6)


def kl_figure(scope, own, ids):
    return scope.look(
        "features", recording=scope.record(ids), features=[own], layer=1, mode="fit-kl"
    )


def test_a_typed_letter_runs_both_reconstructions_in_one_pass_of_its_row():
    model, ran = small_model("llama"), []
    model.model.layers[2].register_forward_hook(
        lambda _, args, output: ran.append(tuple(args[0].shape[:2]))
    )
    scope = llmscope.wrap(model, unverified=True)
    own = complete("resid_post", 1, scope.loaded_model.anatomy.width, threshold=0.5)
    for length in (8, 9):  # the first letter measures what can be reused
        kl_figure(scope, own, IDS[:length])
    scope.record(IDS[:10])
    ran.clear()
    kl_figure(scope, own, IDS[:10])
    assert ran == [(2, 1)]
    ran.clear()
    kl_figure(scope, own, IDS[:9])  # a letter is taken back
    assert ran == []


class Mixing(torch.nn.Module):
    """Adds to each prompt of a batch what the first one has."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden, *args, **kwargs):
        found = self.inner(hidden, *args, **kwargs)
        return found + (found[:1] - found if len(found) > 1 else 0) * 0.1


def test_a_model_that_mixes_the_prompts_of_a_batch_runs_each_reconstruction_alone():
    mixed = small_model("llama")
    mixed.model.layers[2].mlp = Mixing(mixed.model.layers[2].mlp)
    mixing, plainly = (
        llmscope.wrap(model, unverified=True) for model in (mixed, small_model("llama"))
    )
    own = complete("resid_post", 1, plainly.loaded_model.anatomy.width, threshold=0.5)
    for length in (8, 9, 12):
        found, wanted = (kl_figure(scope, own, IDS[:length]) for scope in (mixing, plainly))
        near(np.nan_to_num(found.values), np.nan_to_num(wanted.values), 1e-4)
        for name in ("kl", "kl_chance", "loss", "loss_chance"):
            assert found.extra[name] == pytest.approx(wanted.extra[name], rel=1e-3, abs=1e-6)


def test_chance_uses_as_many_rows_and_scales_them_best():
    own = dictionary("resid_post", 1, 24, features=60)
    aim = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))
    made = chance_reconstruction(own, aim, [0, 1, 2, 5, 20])
    near(made[0], own.bias)
    # The best single row of a turned dictionary: try all, by hand.
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(24, generator=generator)
    signs = torch.randint(0, 2, (24,), generator=generator) * 2.0 - 1.0
    turned = ((aim - own.bias) * signs)[:, order]
    unit = own.decoder / own.decoder.norm(dim=-1, keepdim=True)
    best = (turned[1] @ unit.T).max()
    left = turned[1].square().sum() - best**2
    near((aim[1] - made[1]).square().sum(), left, 1e-4)
    errors = (aim - made).square().sum(-1) / (aim - own.bias).square().sum(-1)
    assert float(errors[3]) < 1
    assert float(errors.max()) <= 1 + 1e-6


def test_special_tokens_and_the_first_do_not_count():
    scope = llmscope.load("builtin:town")
    recording = scope.record("a dog")
    assert recording.prompt.special[0]
    assert counted(recording) == list(range(1, len(recording)))


@pytest.mark.parametrize(
    ("kind", "layer", "width", "reason"),
    [
        ("resid_post", 9, 32, "there is no layer 9"),
        ("resid_post", 1, 33, "of width 33"),
        ("mlp_act", 1, 3, "of width 3"),
    ],
)
def test_a_dictionary_of_another_model_is_refused(kind, layer, width, reason):
    scope = llmscope.wrap(small_model("llama"))
    own = dictionary(kind, layer, width)
    figure = scope.look("features", recording=scope.record(IDS), features=[own])
    assert figure.verdict.status == "refused"
    assert reason in figure.verdict.reason
