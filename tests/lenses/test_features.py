"""The lens `features`: its modes, and what its verdict says of dictionaries that do not fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs.examples.collect import Collection, collect
from llmscope.jobs.examples.request import sources_for
from llmscope.learned.dictionaries.catalog import headers_at, load_weights
from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
from llmscope.learned.dictionaries.place import Place
from llmscope.learned.examples.request import FeatureRequest
from llmscope.lenses import lens
from llmscope.lenses.features.chosen import Chosen, verdict_of
from llmscope.record.features.active import applied
from llmscope.record.features.fit import SpliceCost, fit_of, tokens_near
from tests.families import small_model
from tests.lenses.asked import options_for

TEXT = (
    "the cat says meow. the dog says woof. the capital of france is paris. the young of a cow is "
    "a calf. the young of a dog is a"
)
MODES = lens("features").modes


@pytest.fixture(scope="module")
def scope():
    return llmscope.load("builtin:town")


@pytest.fixture(scope="module")
def recording(scope):
    return scope.record(TEXT)


def shipped(scope, name="2-res"):
    (header,) = headers_at(f"town-features/{name}")
    return load_weights(header, scope.loaded_model)


def look(scope, recording, dictionary=None, mode="token", **more):
    given = {} if dictionary is None else {"features": [dictionary]}
    return scope.look("features", recording=recording, mode=mode, **{"layer": 2, **given, **more})


def test_the_built_in_model_comes_with_a_verified_dictionary_of_each_layer(scope, recording):
    for layer in range(recording.layers):
        figure = look(scope, recording, layer=layer, place="resid_post")
        assert figure.verdict.status == "verified", (layer, figure.verdict)
        assert figure.extra["layer"] == layer
        assert figure.extra["fvu"] < 0.5 * figure.extra["fvu_chance"]
        assert figure.extra["kl"] < 0.5 * figure.extra["kl_chance"]


@pytest.mark.parametrize("mode", [one for one in MODES if one not in ("find", "examples")])
def test_each_mode_gives_a_figure_that_json_can_hold(scope, recording, mode):
    figure = look(scope, recording, **options_for("features", mode=mode, top_k=5))
    assert figure.verdict.status == "verified"
    record = json.loads(json.dumps(figure.to_dict(), allow_nan=False))
    assert record["extra"]["place"] == "2.resid_post"
    assert record["extra"]["mode"] == mode
    if "feature" in [axis.name for axis in figure.axes]:
        ids = figure.extra["ids"]
        assert len(ids) <= 5
        values = figure.values if figure.values.ndim == 1 else figure.values[-1]
        if mode in ("token", "map", "new"):
            assert (np.diff(values) <= 0).all(), "the strongest come first"


def test_active_features_of_the_token_have_a_label_an_effect_and_promoted_tokens(scope, recording):
    figure = look(scope, recording, top_k=50)
    extra = figure.extra
    assert extra["active"] == len(extra["ids"]) == len(extra["direct"]) == len(extra["labels"])
    assert any(extra["labels"])
    assert all(len(tokens) >= 5 for tokens in extra["promotes"])
    direct = look(scope, recording, mode="direct", top_k=50)
    assert direct.extra["total"] == pytest.approx(sum(extra["direct"]), rel=1e-5)


def test_a_feature_is_found_by_its_label_and_by_the_token_that_it_promotes(scope, recording):
    named = look(scope, recording, mode="find", query="young", place="resid_post")
    assert named.extra["by"] == "label"
    assert all("young" in label for label in named.extra["labels"])
    token = look(scope, recording, mode="find", query=" puppy")
    assert token.extra["by"] == "promoted token" or "puppy" in token.extra["labels"][0]
    assert "nothing to find" in look(scope, recording, mode="find").verdict.reason


def test_what_is_new_is_like_no_active_feature_before(scope, recording):
    figure = look(scope, recording, mode="new", features=["town-features"], place="resid_post")
    assert "against stream after layer 1" in figure.title
    assert (figure.extra["cosine_before"] < 0.7).all()
    active = look(scope, recording, top_k=100, place="resid_post")
    assert set(figure.extra["ids"]) <= set(active.extra["ids"])
    first = look(scope, recording, mode="new", layer=0, place="resid_post")
    assert "no dictionary of a layer before 0" in first.verdict.reason


def shuffled(own):
    order = torch.randperm(len(own.decoder), generator=torch.Generator().manual_seed(0))
    return replace(own, decoder=own.decoder[order])


def turned(own):
    draw = torch.randn(own.decoder.shape[1], own.decoder.shape[1], generator=torch.manual_seed(0))
    return replace(own, decoder=own.decoder @ torch.linalg.qr(draw)[0])


def random(own):
    rows = torch.randn(own.decoder.shape, generator=torch.manual_seed(0))
    rows = rows / rows.norm(dim=-1, keepdim=True)
    return replace(own, decoder=rows, encoder=rows.T.contiguous())


@pytest.mark.parametrize("spoil", [shuffled, turned, random])
def test_a_dictionary_with_a_wrong_decoder_is_refused_with_its_figures(scope, recording, spoil):
    figure = look(scope, recording, spoil(shipped(scope)))
    assert figure.verdict.status == "refused"
    assert "no better than chance" in figure.verdict.reason
    assert f"FVU {figure.verdict.discrepancy:.2f}" in figure.verdict.reason
    assert not np.isfinite(figure.values).any()


def test_the_decoder_of_another_dictionary_is_refused(scope, recording):
    own, other = shipped(scope), shipped(scope, "4-res")
    figure = look(scope, recording, replace(own, decoder=other.decoder))
    assert figure.verdict.status == "refused"


@pytest.mark.parametrize("layer", [0, 1, 3, 4, 5])
def test_a_dictionary_of_another_layer_is_refused_or_partial(scope, recording, layer):
    own = shipped(scope)
    place = Place(layer, "resid_post")
    moved = replace(own, header=replace(own.header, reads=place, writes=place))
    figure = look(scope, recording, moved, layer=layer)
    assert figure.verdict.status in ("refused", "partial")
    assert "FVU" in figure.verdict.reason or "KL" in figure.verdict.reason
    if layer in (1, 3):
        assert "fits the stream after layer 2 better" in figure.verdict.reason
        assert f"FVU {figure.extra['fvu']:.2f}" in figure.title


def test_a_dictionary_of_a_model_from_another_seed_is_refused(scope):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    other = llmscope.wrap(AutoModelForCausalLM.from_config(scope.model.config), scope.tokenizer)
    figure = look(other, other.record(TEXT), shipped(scope))
    assert figure.verdict.status == "refused"


def test_a_refused_dictionary_is_shown_marked_to_who_asks_for_it():
    scope = llmscope.load("builtin:town", unverified=True)
    figure = look(scope, scope.record(TEXT), shuffled(shipped(scope)))
    assert figure.verdict.status == "unverified"
    assert np.isfinite(figure.values).all()
    assert "FVU" in figure.title


def test_what_was_trained_from_the_model_still_fits_and_says_what_it_was_trained_on():
    scope = llmscope.load("builtin:town-dpo")
    figure = look(scope, scope.record(TEXT), shipped(scope))
    assert figure.verdict.status in ("verified", "partial")
    assert any("trained on" in line for line in figure.extra["caption"])


def test_nan_in_what_it_reads_is_refused(scope, recording):
    own = shipped(scope)
    spoiled = replace(own, bias=own.bias * float("nan"))
    assert look(scope, recording, spoiled).verdict.status == "refused"


def test_figures_come_before_the_passes_that_measure_kl(scope):
    from llmscope.figure import Focus

    made = list(scope.figures("features", scope.record(TEXT + " puppy"), Focus(layer=2)))
    assert len(made) == 2
    assert made[0].extra["progress"] == (0, 1)
    assert made[0].extra["kl"] is None
    assert "progress" not in made[1].extra
    assert made[1].extra["kl"] > 0
    assert (made[0].values == made[1].values).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"features": ["no-such-folder"]}, "there is no dictionary no-such-folder"),
        ({"place": "z"}, "no dictionary is for 'z'"),
        ({"feature": 9999, "mode": "prompt"}, "feature 9999"),
    ],
)
def test_errors_are_one_line_and_say_what_there_is(scope, recording, options, reason):
    with pytest.raises(ScopeError) as error:
        look(scope, recording, **options)
    assert reason in error.value.message
    assert "\n" not in error.value.message
    assert error.value.hint


def test_without_a_dictionary_the_figure_says_how_to_give_one():
    scope = llmscope.load("builtin:sort")
    for mode in MODES:
        figure = scope.look("features", recording=scope.record("CABACB"), mode=mode)
        assert figure.verdict.status == "refused"
        assert figure.missing == "dictionary of features"
        assert "scope.features = [FOLDER|ORG/NAME:PATH]" in figure.verdict.reason


def test_in_an_edited_pass_the_features_are_those_of_the_edited_stream(scope):
    plain = scope.record(TEXT)
    edited = scope.record(TEXT, edits=["scale mlp 2 2"])
    before, after = (look(scope, one, top_k=20) for one in (plain, edited))
    assert list(before.extra["ids"]) != list(after.extra["ids"]) or not np.allclose(
        before.values, after.values
    )
    assert after.verdict.status != "refused"
    again = llmscope.load("builtin:town")
    fresh = look(again, again.record(TEXT, edits=["scale mlp 2 2"]), top_k=20)
    assert list(after.extra["ids"]) == list(fresh.extra["ids"])
    assert after.extra["kl"] == pytest.approx(fresh.extra["kl"], rel=1e-3)


def test_examples_beside_a_dictionary_are_found(scope, recording, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(Path(headers_at("town-features/2-res")[0].path), folder)
    figure = look(scope, recording, str(folder), mode="examples")
    assert figure.verdict.status == "refused"
    assert "llmscope examples" in figure.verdict.reason
    feature = int(look(scope, recording, str(folder)).extra["ids"][0])
    sources = sources_for(
        scope.loaded_model, dictionaries=(str(folder),), features=[FeatureRequest("", feature)]
    )
    lines = [(1, "the young of a dog is a puppy."), (2, "the young of a dog is a")]
    collect(scope, lines, sources, Collection(), folder / "examples")
    figure = look(scope, recording, str(folder), mode="examples", feature=feature)
    assert figure.verdict.status == "verified"
    assert figure.extra["count"] > 0
    other = look(scope, recording, str(folder), mode="examples", feature=feature + 1)
    assert other.verdict.status == "refused"


def test_an_edit_that_was_taken_back_leaves_no_trace_in_the_measurements(scope):
    def kl(text, edits=()):
        return look(scope, scope.record(text, edits=list(edits))).extra["kl"]

    before = kl(TEXT)
    assert kl(TEXT, ["zero head 0.1"]) != pytest.approx(before, rel=0.01)
    assert kl(TEXT) == pytest.approx(before, rel=1e-4)
    kl(TEXT, ["zero head 0.1"])
    longer = kl(TEXT + " puppy")
    fresh = llmscope.load("builtin:town")
    own = look(fresh, fresh.record(TEXT + " puppy")).extra["kl"]
    assert longer == pytest.approx(own, rel=1e-3)


@pytest.mark.parametrize("text", ["a dog", "a dog is", "dog dog dog dog dog"])
def test_few_different_tokens_are_partial_unless_both_measures_fail(scope, text):
    recording, own = scope.record(text), shipped(scope)
    assert look(scope, recording, own).verdict.status == "partial"
    spoiled = shuffled(own)
    spoiled = replace(spoiled, decoder=spoiled.decoder * 5)
    figure = look(scope, recording, spoiled)
    assert figure.verdict.status in ("partial", "refused")
    if text != "dog dog dog dog dog":
        assert figure.verdict.status == "refused"


def test_one_token_says_nothing_of_variance(scope):
    figure = look(scope, scope.record("a"))
    assert figure.verdict.status == "partial"
    assert "1 different token:" in figure.verdict.reason
    assert "nan" not in " ".join((figure.title, *figure.extra["caption"]))


def test_while_kl_is_measured_nothing_is_verified(scope):
    from llmscope.figure import Focus

    first, last = scope.figures("features", scope.record(TEXT + " kitten"), Focus(layer=2))
    assert (first.verdict.status, last.verdict.status) == ("partial", "verified")
    assert first.title == last.title


def test_of_several_dictionaries_at_a_layer_that_of_the_stream_is_taken(scope, recording):
    assert look(scope, recording, layer=3).extra["place"] == "3.resid_post"
    assert look(scope, recording, layer=3, place="mlp_in").extra["predicts"] == "3.mlp_out"


def test_labels_of_features_that_do_not_exist_are_left_out_and_new_ones_are_read(
    scope, recording, tmp_path
):
    folder = tmp_path / "own"
    shutil.copytree(Path(headers_at("town-features/2-res")[0].path), folder)
    lines = ['{"index": 99999, "description": "beasts"}', '{"index": 3, "description": "beast"}']
    (folder / "labels.jsonl").write_text("\n".join(lines))
    figure = look(scope, recording, str(folder), mode="find", query="beast")
    assert list(figure.extra["ids"]) == [3]
    with (folder / "labels.jsonl").open("w") as file:
        file.write('{"index": 4, "description": "a beast"}')
    figure = look(scope, recording, str(folder), mode="find", query="beast")
    assert list(figure.extra["ids"]) == [4]


def test_a_search_that_finds_nothing_says_what_labels_there_are(scope, recording, tmp_path):
    with pytest.raises(ScopeError, match=r"none of \d+ labels holds that, and 'xyzzy' is not"):
        look(scope, recording, mode="find", query="xyzzy")
    folder = tmp_path / "own"
    shutil.copytree(Path(headers_at("town-features/2-res")[0].path), folder)
    for path in folder.glob("*label*"):
        path.unlink()
    with pytest.raises(ScopeError, match="no labels are known: an export of Neuronpedia in the"):
        look(scope, recording, str(folder), mode="find", query="xyzzy")


def test_in_a_long_prompt_the_tokens_near_the_cursor_are_measured(scope, monkeypatch):
    from llmscope.record.features import fit

    monkeypatch.setattr(fit, "WINDOW", 8)
    recording = scope.record(TEXT)
    for position in (4, 20):
        figure = look(scope, recording, mode="fit-kl", position=position)
        known = np.flatnonzero(np.isfinite(figure.values[0]))
        assert len(known) == 8
        assert position in known


def test_a_dictionary_of_a_layer_far_off_is_told_with_that_layer():
    model = small_model("llama", num_hidden_layers=20)
    with torch.no_grad():  # each layer changes the stream a little, as in deep models
        for name, parameter in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter *= 0.03
    ids = [(7 + 37 * index) % 96 for index in range(40)]
    streams = []
    handle = model.model.layers[19].register_forward_hook(
        lambda _, args, output: streams.append(output[0].detach())
    )
    with torch.no_grad():
        model(torch.tensor([ids]))
    handle.remove()
    rows = streams[0][1:]
    _, _, axes = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    both = torch.cat([axes[:24], -axes[:24]])
    scope = llmscope.wrap(model)
    recording = scope.record(ids)
    verdicts = {}
    for layer in (8, 19):
        place = Place(layer, "resid_post")
        own = Dictionary(
            DictionaryHeader("", "", place, place, 48, 48, 48, "relu", subtracts=True),
            encoder=both.T.contiguous(),
            decoder=both,
            bias=rows.mean(0),
            encoder_bias=torch.zeros(48),
        )
        figure = scope.look(
            "features", recording=recording, features=[own], layer=layer, mode="fit"
        )
        verdicts[layer] = figure.verdict
        again = scope.look("features", recording=recording, features=[own], layer=layer, mode="fit")
        assert again.verdict == figure.verdict
    assert verdicts[19].status == "verified"
    assert verdicts[8].status == "partial"
    assert "it fits the stream after layer 19 better: FVU 0.06 there" in verdicts[8].reason


@pytest.mark.parametrize(("loss", "status"), [(1.53, "partial"), (0.9, "verified")])
def test_a_loss_that_rises_by_more_than_a_nat_is_no_verified_fit(scope, recording, loss, status):
    way = applied(shipped(scope), recording)
    rows = tokens_near(recording, len(recording) - 1)
    fit = fit_of(recording, way, rows)
    kl = np.full(len(rows), 0.3, dtype=np.float32)
    losses = np.full(len(rows), loss, dtype=np.float32)
    losses[-1] = np.nan
    chosen = Chosen(way, fit, SpliceCost(kl, losses), SpliceCost(10 * kl, 10 * losses))
    verdict = verdict_of(chosen)
    assert verdict.status == status
    assert ("raises the loss by 1.53 nats" in verdict.reason) == (status == "partial")
