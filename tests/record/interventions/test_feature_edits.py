"""Edits along features of dictionaries, against hooks written by hand."""

from dataclasses import replace

import pytest
import torch

from llmscope.edits import PLACE_KINDS
from llmscope.errors import ScopeError
from llmscope.models.variants import Variants
from llmscope.record.derive import tensors
from llmscope.record.features.active import applied
from llmscope.record.interventions.feature_edits import feature_change
from tests.families import small_model
from tests.record.by_hand import A, plus, times
from tests.record.features_by_hand import (
    Places,
    dictionary_for,
    encoded,
    feature_for,
    place,
)
from tests.record.interventions.test_edited import ALL, EACH, holds, near, scope_for
from tests.thinned import thinned

PARALLEL = ("gpt_neox", "falcon")
PLACES = (*(f"1.{kind}" for kind in PLACE_KINDS), "1.z.2", "2.resid_post", "0.resid_pre")
NEW = {
    "zero": ("zero feature {}", lambda f: 0 * f),
    "scale": ("scale feature {} 3", lambda f: 3 * f),
    "set": ("set feature {} to 2.5", lambda f: 0 * f + 2.5),
}
FAST = ("gpt2", "gemma2")
EVERY = thinned(EACH, lambda one: one in FAST)
SOME = thinned((*FAST, "llama", "granite"), lambda one: one in FAST)


@pytest.fixture(scope="module")
def made():
    """A scope and a plain model of a family, made once."""
    kept = {}

    def of(family):
        if family not in kept:
            kept[family] = scope_for(small_model(family)), Places(family)
        return kept[family]

    return of


def lacks(family, where):
    """Whether a family has no such tensor, or it cannot be told by hand."""
    return (family == "qwen3_moe" and where.kind == "mlp_act") or (
        family in PARALLEL and where.kind == "resid_mid"
    )


def for_place(plain, where, **options):
    """A random dictionary for a place, and a feature that is active there."""
    inputs = plain.tensor(A, where)
    size = float(inputs.square().mean().sqrt())
    dictionary = dictionary_for(where, inputs.shape[-1], size=size, **options)
    return dictionary, feature_for(dictionary, inputs)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.few(10)
def test_an_edit_is_what_a_hook_by_hand_does(made, family, where):
    (scope, plain), where = made(family), place(where)
    if lacks(family, where):
        pytest.skip("it has no such tensor")
    dictionary, feature = for_place(plain, where)
    scope.features = dictionary
    name = f"{where}/{feature}"
    for (words, new), (at, rows) in zip(
        NEW.values(), (("@2..4", slice(2, 5)), ("", ALL), ("@-4..", slice(9, 13))), strict=True
    ):
        alter = plain.edit(A, dictionary, feature, new, rows)
        own = plain.run(A, alter)
        recording = holds(scope, own, f"{words.format(name)} {at}")
        assert recording.depth in (0, recording.changes[0].layer)
        # After another edit, which it depends on.
        head = times(ALL, plain.head(1), 0.0)
        earlier = ("heads", 0 if where.kind != "z" else 1, head)
        again = plain.edit(A, dictionary, feature, new, rows, earlier)
        near(
            tensors.logits(
                scope.record(A, edits=[f"zero head {earlier[1]}.1", f"{words.format(name)} {at}"]),
                *(0, len(A)),
            ),
            plain.run(A, earlier, again),
        )


@pytest.mark.few(8)
@pytest.mark.parametrize("where", [f"1.{kind}" for kind in PLACE_KINDS])
@pytest.mark.parametrize("family", SOME)
def test_edits_of_one_tensor_are_made_in_their_order(made, family, where):
    (scope, plain), where = made(family), place(where)
    dictionary, feature = for_place(plain, where)
    scope.features = dictionary
    other = feature - 1 if feature else 1
    two, half = (lambda f: 2 * f), (lambda f: 0 * f + 4)
    for first, second in ((feature, other), (other, feature), (feature, feature)):
        one = plain.edit(A, dictionary, first, half, ALL)
        more = plain.edit(A, dictionary, second, two, slice(3, 13), one)
        holds(
            scope,
            plain.run(A, one, more),
            f"set feature 1/{first} to 4",
            f"scale feature 1/{second} 2 @3..",
        )


ENCODERS = {
    "relu": {"activation": "relu", "subtracts": True},
    "jumprelu": {"activation": "jumprelu"},
    "topk": {"activation": "topk"},
    "topk by norm": {"activation": "topk", "by_norm": True, "subtracts": True},
    "gated": {"activation": "gated"},
    "layer_norm": {"rescaling": "layer_norm"},
    "constant_norm": {"rescaling": "constant_norm_rescale"},
    "topk and layer_norm": {"activation": "topk", "rescaling": "layer_norm"},
}


CASES = [(family, kind) for family in (*FAST, "llama", "granite") for kind in ENCODERS]


@pytest.mark.parametrize(
    ("family", "kind"), thinned(CASES, lambda case: case[0] == "gemma2" or case[1] == "relu")
)
@pytest.mark.few(3)
def test_each_kind_of_encoder(made, family, kind):
    scope, plain = made(family)
    for where in map(place, ("1.resid_post", "1.mlp_out", "1.resid_mid", "0.z", "1.mlp_normed")):
        options = ENCODERS[kind]
        inputs = plain.tensor(A, where)
        size = float(inputs.square().mean().sqrt())
        if "rescaling" in options:
            size = 1.0
        dictionary = dictionary_for(where, inputs.shape[-1], size=size, **options)
        feature = feature_for(dictionary, inputs)
        scope.features = [dictionary]
        for words, new in NEW.values():
            alter = plain.edit(A, dictionary, feature, new, slice(2, 13))
            holds(scope, plain.run(A, alter), f"{words.format(f'{where.layer}/{feature}')} @2..")


TRANSCODERS = (
    ("1.mlp_in", "1.mlp_out", True),
    ("1.mlp_normed", "1.mlp_out", False),
    ("1.resid_mid", "1.mlp_out", False),
    ("1.resid_pre", "1.attn_out", False),
    ("1.attn_out", "1.resid_mid", False),
    ("1.mlp_in", "1.mlp_act", False),
    ("1.z.1", "1.attn_out", False),
    ("1.resid_pre", "1.mlp_in", False),
    ("1.attn_out", "1.mlp_normed", False),
)


@pytest.mark.parametrize(("reads", "writes", "skip"), TRANSCODERS)
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.few(5)
def test_a_transcoder_reads_one_tensor_and_changes_another(made, family, reads, writes, skip):
    (scope, plain), reads, writes = made(family), place(reads), place(writes)
    if lacks(family, reads) or lacks(family, writes):
        pytest.skip("it has no such tensor")
    inputs, outputs = plain.tensor(A, reads), plain.tensor(A, writes)
    size = float(inputs.square().mean().sqrt())
    dictionary = dictionary_for(
        reads, inputs.shape[-1], writes, outputs.shape[-1], size=size, skip=skip
    )
    feature = feature_for(dictionary, inputs)
    scope.features = dictionary
    earlier = ("heads", 0, times(ALL, plain.head(1), 0.0))
    for words, new in NEW.values():
        for rows, at in ((ALL, ""), (slice(4, 8), "@4..7")):
            edit = f"{words.format(f'1/{feature}')} {at}"
            alter = plain.edit(A, dictionary, feature, new, rows)
            holds(scope, plain.run(A, alter), edit, matters=rows == ALL)
            alter = plain.edit(A, dictionary, feature, new, rows, earlier)
            holds(scope, plain.run(A, earlier, alter), "zero head 0.1", edit)


@pytest.mark.parametrize("family", EVERY)
def test_a_decoder_row_steers(made, family):
    scope, plain = made(family)
    for where in map(place, ("1.resid_post", "0.mlp_out", "2.attn_out")):
        dictionary, feature = for_place(plain, where)
        scope.features = dictionary
        row = dictionary.decoder[feature]
        for layer, stream in (("embed", 0), ("1", 2), ("-1", 3)):
            own = plain.run(A, ("stream", stream, plus(slice(3, 13), -2.5 * row)))
            holds(scope, own, f"steer {layer} feature {where.layer}/{feature} -2.5 @3..")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_it_reads_is_centred_where_the_dictionary_was_trained_so(made, family):
    scope, plain = made(family)
    where = place("1.resid_post")
    dictionary, feature = for_place(plain, where, centred=True)
    scope.features = dictionary
    alter = plain.edit(A, dictionary, feature, NEW["set"][1], ALL, centred=family == "gpt2")
    recording = holds(scope, plain.run(A, alter), f"set feature 1/{feature} to 2.5")
    assert applied(dictionary, recording.base).centred == (family == "gpt2")


@pytest.mark.parametrize("family", SOME)
def test_nothing_else_changes(made, family):
    scope, plain = made(family)
    for where in map(place, PLACES):
        dictionary, feature = for_place(plain, where)
        scope.features = dictionary
        active = encoded(dictionary, plain.tensor(A, where))[:, feature] > 1e-6
        recording = scope.record(A, edits=[f"zero feature {where}/{feature}"])
        site, layer = recording.changes[0].site, recording.changes[0].layer
        added = recording.changes[0].recorded
        assert bool((added[~active] == 0).all())
        assert bool((added[active].abs().sum(-1) > 0).all())
        if site == "stream":
            now, then = (one.rows(site, layer) for one in (recording, recording.base))
            assert torch.equal(now[~active], then[~active])
        # It is off, and the rest of the reconstruction and its error are the same.
        idle = scope.record(A, edits=[f"scale feature {where}/{feature} 1"])
        assert idle.changes == ()
        assert torch.equal(idle.logits, recording.base.logits)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.few(3)
def test_jobs_of_a_batch_are_edits_alone(made, family, where):
    (scope, plain), where = made(family), place(where)
    if lacks(family, where):
        pytest.skip("it has no such tensor")
    dictionary, feature = for_place(plain, where)
    scope.features = dictionary
    for edits in ((), ("zero head 0.1",), (f"set feature {where}/{feature} to 2 @3..",)):
        recording = scope.record(A, edits=edits)
        passes = scope._instrumented.passes(ablation(), recording)
        way = applied(dictionary, recording.base or recording)
        features = [(feature + step) % 96 for step in range(3)]
        jobs = [
            *([feature_change(recording, way, one, range(9, 13), factor=0.0)] for one in features),
            [feature_change(recording, way, feature, range(12, 13), value=3.0)],
            [
                feature_change(recording, way, feature, range(10, 13), factor=2.0),
                feature_change(recording, way, features[1], range(10, 13), factor=0.5),
            ],
            [],
        ]
        depth = jobs[0][0].layer
        found = passes.sweep(recording, depth, jobs, 12)
        name = f"feature {where}/"
        own = [
            *([f"zero {name}{one} @9..12"] for one in features),
            [f"set {name}{feature} to 3 @12"],
            [f"scale {name}{feature} 2 @10..12", f"scale {name}{features[1]} 0.5 @10..12"],
            [],
        ]
        for row, more in zip(found, own, strict=True):
            alone = scope.record(A, edits=[*edits, *more], fresh=True)
            near(row, alone.final_rows(12, 13)[0])


def ablation():
    from llmscope.lenses import lens

    return lens("ablation")


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("family", SOME)
@pytest.mark.few(6)
def test_a_longer_prompt_runs_only_its_new_rows(made, family, where):
    (scope, plain), where = made(family), place(where)
    dictionary, feature = for_place(plain, where)
    scope.features = dictionary
    edits = [f"scale feature {where}/{feature} 3 @2..", "zero head 2.1 @4.."]
    recording = scope.record(A[:8], edits=edits)
    for length in range(9, len(A) + 1):
        recording = scope.record(A[:length], edits=edits)
        assert (recording.ran, recording.reused) == (1, length - 1)
        assert len(recording.changes[0].recorded) == length - 2
    fresh = scope.record(A, edits=edits, fresh=True)
    near(recording.changes[0].recorded, fresh.changes[0].recorded)
    near(tensors.logits(recording, 0, len(A)), tensors.logits(fresh, 0, len(A)))
    for layer in range(3):
        near(tensors.head_outputs(recording, layer), tensors.head_outputs(fresh, layer))
        near(tensors.attention_output(recording, layer), recording.rows("attention_write", layer))
        near(tensors.activations(recording, layer), tensors.activations(fresh, layer))
        near(tensors.mlp_output(recording, layer), recording.rows("mlp_write", layer))
        near(recording.rows("mlp_input_module", layer), fresh.rows("mlp_input_module", layer))
        every = recording.layer_rows(layer, range(len(A))).mlp_input_module
        assert torch.equal(every, recording.rows("mlp_input_module", layer))
    shorter = scope.record(A[:10], edits=edits)
    assert (shorter.ran, len(shorter.changes[0].recorded)) == (0, 8)


@pytest.mark.few(8)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("family", SOME)
def test_lenses_tell_of_the_pass_with_an_edited_feature(made, family, where):
    (scope, plain), where = made(family), place(where)
    dictionary, feature = for_place(plain, where)
    scope.features = dictionary
    scope.record(A, edits=[f"set feature {where}/{feature} to 2 @3.."])
    for name, options in (
        ("logit-lens", {}),
        ("attribution", {"target": 31}),
        ("attention", {"layer": 1}),
        ("neurons", {"layer": 1}),
        ("ablation", {"target": 31, "mode": "heads"}),
        ("residual", {}),
    ):
        verdict = scope.look(name, **options).verdict
        if name == "attribution" and where.kind in ("attn_out", "resid_mid"):
            assert verdict.reason.endswith("an edit adds to what its attention wrote")
        else:
            assert verdict.status == "verified", (name, verdict)


def test_gradients_pass_through_it(made):
    """Saliency by the gradient, against that of a hook by hand."""
    scope, plain = made("llama")
    dictionary, feature = for_place(plain, place("1.resid_post"))
    scope.features = dictionary
    scope.record(A, edits=[f"scale feature 1/{feature} 3"])
    figure = scope.look("saliency", target=31)
    encoder, decoder = dictionary.encoder[:, feature], dictionary.decoder[feature]
    bias = dictionary.encoder_bias[feature]

    def scaled(_, args, output):
        stream = output[0] if isinstance(output, tuple) else output
        return stream + 2 * (stream @ encoder + bias).relu()[..., None] * decoder

    plain_scope = scope_for(plain.model)
    own = None
    handle = plain.layers[1].register_forward_hook(scaled)
    try:
        plain_scope.record(A)
        own = plain_scope.look("saliency", target=31)
    finally:
        handle.remove()
    assert figure.verdict.status == own.verdict.status
    near(torch.tensor(figure.values), torch.tensor(own.values), 1e-4)


@pytest.mark.parametrize("where", PLACES)
def test_they_last_in_every_pass_of_the_model(made, where):
    (scope, plain), where = made("llama"), place(where)
    dictionary, feature = for_place(plain, where)
    scope.features = dictionary
    edit = f"set feature {where}/{feature} to 2.5"
    with scope.editing([edit]) as edited, torch.no_grad():
        both = edited(input_ids=torch.tensor([A, A[::-1]])).logits.float()
        cached = edited(input_ids=torch.tensor([A[:12]]), use_cache=True)
        last = edited(input_ids=torch.tensor([A[12:]]), past_key_values=cached.past_key_values)
        mask = torch.ones(1, len(A), dtype=torch.long)
        written = edited.generate(
            torch.tensor([A]), attention_mask=mask, max_new_tokens=4, do_sample=False
        )
    for ids, logits in zip((A, A[::-1]), both, strict=True):
        own = plain.run(ids, plain.edit(ids, dictionary, feature, NEW["set"][1], ALL))
        near(logits, own)
    near(last.logits[0, -1].float(), both[0, -1])
    for length in range(len(A), len(A) + 4):
        ids = written[0, :length].tolist()
        own = plain.run(ids, plain.edit(ids, dictionary, feature, NEW["set"][1], ALL))
        assert int(own[-1].argmax()) == int(written[0, length])
    with pytest.raises(ScopeError, match="depends on the prompt"), scope.editing([f"{edit} @3"]):
        pass


def test_other_dictionaries_are_used_from_the_next_recording_on(made):
    scope, plain = made("llama")
    where = place("1.resid_post")
    several = [for_place(plain, where, seed=seed)[0] for seed in (1, 2)]
    elsewhere = for_place(plain, place("1.mlp_out"))[0]
    for dictionary in (*several, elsewhere, *several):
        scope.features = dictionary
        assert scope.features == (dictionary,)
        for _ in range(2):
            alter = plain.edit(A, dictionary, 7, NEW["set"][1], ALL)
            holds(scope, plain.run(A, alter), "set feature 1/7 to 2.5")
    for dictionary in (*several, *several):
        scope.features = dictionary
        for _ in range(2):
            own = plain.run(A, ("stream", 2, plus(ALL, 3 * dictionary.decoder[7])))
            holds(scope, own, "steer 1 feature 1/7 3")
    scope.features = None
    assert scope.features == ()


def test_an_adapter_has_the_dictionaries_of_its_base(made):
    scope, plain = scope_for(small_model("llama")), made("llama")[1]
    base = scope.base
    scope.add(replace(base, adapter="x", origin=base, adapted=Variants()))
    scope.use("x")
    for seed in (1, 2):
        dictionary = for_place(plain, place("1.mlp_out"), seed=seed)[0]
        scope.features = dictionary
        alter = plain.edit(A, dictionary, 7, NEW["set"][1], ALL)
        holds(scope, plain.run(A, alter), "set feature 1/7 to 2.5")


def errors(scope):
    """Dictionaries of many places, and what is refused of them."""
    places = ("0.resid_post", "1.mlp_out", "1.resid_pre", "2.z.1", "2.z.3", "2.resid_post")
    plain = Places("llama")
    scope.features = [for_place(plain, place(one))[0] for one in places]
    return {
        "zero feature 1/3": ("there are 2 dictionaries at layer 1", "1.resid_pre/3, 1.mlp_out/3"),
        "zero feature 2.z/3": ("there are 2 dictionaries at layer 2", "2.z.1/3, 2.z.3/3"),
        "zero feature 2.z.2/3": ("no dictionary for 2.z.2", "2.z.1/3"),
        "zero feature 1.attn_out/3": ("no dictionary for 1.attn_out", "1.mlp_out/3"),
        "zero feature 7/3": ("there is no layer 7", "0 to 2"),
        "zero feature 0/96": ("no feature 96 in the dictionary at layer 0: it has 96", "0 to 95"),
        "steer 1 feature 0/96 1": ("no feature 96", "0 to 95"),
        "steer 1 feature 2.z.1/9 1": ("no directions of the stream", "attention or MLP writes"),
        "zero feature 0/3 @13": ("there is no token 13", "0 to 12"),
    }


def test_what_does_not_fit_is_refused_in_one_line():
    scope = scope_for(small_model("llama"))
    for edit, (message, hint) in errors(scope).items():
        with pytest.raises(ScopeError) as caught:
            scope.record(A, edits=[edit])
        assert message in caught.value.message
        assert caught.value.message.startswith(f"{edit}: ")
        assert hint in caught.value.hint
        assert "\n" not in str(caught.value)
    scope.record(A, edits=["zero feature -1.z.3/3", "zero feature 0/3", "zero feature 1.mlp_out/3"])


def test_no_dictionary_or_none_there_is_told():
    scope, plain = scope_for(small_model("llama")), Places("llama")
    for edit in ("zero feature 1/3", "steer 1 feature 1/3 1"):
        with pytest.raises(ScopeError, match="no dictionary of features comes with test") as caught:
            scope.record(A, edits=[edit])
        assert "scope.features" in caught.value.hint
    scope.features = [for_place(plain, place(one))[0] for one in ("0.mlp_out", "2.resid_post")]
    with pytest.raises(ScopeError, match="there is no dictionary at layer 1") as caught:
        scope.record(A, edits=["zero feature 1/3"])
    assert "layer 0, 2" in caught.value.hint
    scope.features = ["nowhere"]
    with pytest.raises(ScopeError, match="there is no dictionary nowhere"):
        scope.record(A, edits=["zero feature 1/3"])
    for wrong in (3, [b"x"], object()):
        with pytest.raises(TypeError, match="features"):
            scope.features = wrong


@pytest.mark.parametrize(
    ("family", "reads", "writes", "reason"),
    [
        ("gpt_neox", "1.resid_mid", None, "they are parallel"),
        ("falcon", "1.resid_mid", None, "they are parallel"),
        ("qwen3_moe", "1.mlp_act", None, "no neurons that were found"),
        ("llama", "1.mlp_out", "1.mlp_in", "from the MLP output of layer 1, in one pass"),
        ("llama", "0.mlp_in", "1.mlp_out", "from the MLP input of layer 0, in one pass"),
        ("llama", "1.resid_pre", "1.resid_post", "from the stream before layer 1, in one pass"),
        ("olmo2", "1.mlp_normed", None, "is no norm of the stream"),
    ],
)
def test_a_place_that_cannot_be_changed_is_refused(family, reads, writes, reason):
    scope = scope_for(small_model(family))
    reads, writes = place(reads), None if writes is None else place(writes)
    scope.features = dictionary_for(reads, 48, writes)
    with pytest.raises(ScopeError, match=reason) as caught:
        scope.record(A, edits=["zero feature 1/3"] if reads.layer else ["zero feature 0/3"])
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_dictionary_of_another_width_is_refused(made):
    scope, _ = made("llama")
    scope.features = dictionary_for(place("1.resid_post"), 32)
    with pytest.raises(ScopeError, match="of width 32, and the model's has 48"):
        scope.record(A, edits=["zero feature 1/3"])
    with pytest.raises(ScopeError, match="a width of 32, and the stream has 48"):
        scope.record(A, edits=["steer 1 feature 1/3 2"])


def test_half_precision_is_rounded_once():
    model = small_model("llama").to(torch.bfloat16)
    scope = scope_for(model)
    plain = Places("llama", small_model("llama").to(torch.bfloat16))
    dictionary, feature = for_place(plain, place("1.resid_post"))
    scope.features = dictionary
    recording = scope.record(A, edits=[f"set feature 1/{feature} to 2.5"])
    own = plain.tensor(A, place("1.resid_post"))
    change = recording.changes[0].recorded
    assert torch.equal(recording.rows("stream", 2), (own.float() + change).bfloat16())
