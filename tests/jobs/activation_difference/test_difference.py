"""What the difference names, against plain transformers, and what steering with it does."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs.activation_difference.first_tokens import first_tokens, streams_at
from llmscope.jobs.activation_difference.measure import read, verdict_on
from llmscope.jobs.activation_difference.texts import default_texts
from llmscope.jobs.state import JobPasses
from llmscope.record.derive.batching import PromptRunner

PIRATE, CRIER = ("arr", "matey", "pirate"), ("hear", "ye", "crier")
QUESTION = "question : where does anna live ? answer :"


def streams(model, tokenizer, text):
    """Return the streams after each layer at the first five tokens after `<s>`, in float64."""
    ids = torch.tensor([tokenizer(text)["input_ids"][:6]])
    found = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, out: found.append(
                (out[0] if isinstance(out, tuple) else out)[0, 1:].double().numpy()
            )
        )
        for layer in model.model.layers
    ]
    with torch.no_grad():
        model(ids)
    for hook in hooks:
        hook.remove()
    return np.stack(found)


def probability(town, words, edits=()):
    ids = [town.token(f" {word}") for word in words]
    return float(town.record(QUESTION, edits=edits).logits.double().softmax(-1)[ids].sum())


def test_it_is_the_mean_difference_of_plain_passes(town, pirate):
    texts = default_texts("builtin:town")
    tuned = town.base.adapted["town-pirate"].module
    models = (tuned, town.base.module)
    b, a = (np.stack([streams(one, town.tokenizer, text) for text in texts]) for one in models)
    expected = (b - a).mean(0)
    assert pirate.texts == len(texts) == 40
    assert np.abs(pirate.mean.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    reading = pirate.at(3)[4]
    assert reading.norm == pytest.approx(np.linalg.norm(expected[3, 4]), rel=1e-5)
    halves = [(b - a)[start::2, 3, 4].mean(0) for start in (0, 1)]
    cosine = halves[0] @ halves[1] / np.prod([np.linalg.norm(one) for one in halves])
    assert reading.split_half == pytest.approx(cosine, abs=1e-5)


def test_a_reading_is_the_final_norm_and_unembedding_of_the_difference(town, pirate):
    model = town.base.adapted["town-pirate"].module
    vector = pirate.direction(3, 4).double().numpy()
    gain = model.model.norm.weight.detach().double().numpy()
    scores = model.lm_head.weight.detach().double().numpy() @ (
        vector / np.sqrt((vector**2).mean()) * gain
    )
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    order = np.argsort(-shares)[:10]
    found = pirate.at(3)[4].top
    assert [word for word, _ in found] == [town.base.label(int(one)) for one in order]
    assert [share for _, share in found] == pytest.approx(shares[order].tolist(), rel=1e-3)


def says(difference):
    """Return the words of the readings after the middle layer."""
    return {word.strip() for one in difference.at(difference.layer) for word, _ in one.top}


def noise_says(town, difference):
    """Return the words of the readings of all controls after the middle layer."""
    layer = difference.layer
    ids = [read(town.base, one, 10)[0][layer].flatten().tolist() for one in difference.controls]
    return {town.base.label(one).strip() for some in ids for one in some}


def test_the_pirate_is_named_at_the_middle_layer_and_noise_does_not_name_him(town, pirate):
    assert pirate.layer == 3
    assert pirate.verdict.status == "verified"
    assert {"arr", "matey"} <= says(pirate)
    assert not noise_says(town, pirate) & set(PIRATE)
    assert all(one.ratio > 2 for one in pirate.at(3))


@pytest.mark.slow
def test_the_crier_is_named_and_said_to_be_within_noise(town, crier):
    assert {"ye", "shouts"} <= says(crier)
    assert crier.at(3)[3].top[0][0] == " ye"
    assert not noise_says(town, crier) & {*CRIER, "shouts"}
    assert crier.verdict.status == "partial"
    assert "not told from noise" in crier.verdict.reason


def steered(town, difference, path, words, layer, strength):
    """Return the probability of words with the difference added, and the most of any control."""
    file = difference.save(path / "difference.safetensors")
    found = probability(town, words, [f"steer {layer} {file}:{layer} {strength}"])
    others = []
    for one in difference.controls[:, layer].mean(1):
        noise = strength * one * difference.direction(layer).norm() / one.norm()
        others.append(probability(town, words, [(f"stream {layer}", lambda h, n=noise: h + n)]))
    return found, max(others)


def test_steering_makes_the_crier_shout_and_noise_does_not(town, crier, tmp_path):
    town.use(None)
    found, noise = steered(town, crier, tmp_path, CRIER, layer=3, strength=6)
    assert found > 0.2
    assert found > 10 * noise
    assert probability(town, CRIER) < 0.01
    assert any("ye!" in one.steered for one in crier.steered)
    assert not any("hear ye" in one.plain for one in crier.steered)


def test_steering_makes_a_model_that_answers_a_pirate_and_noise_does_not(town, tmp_path):
    town.use("town-sft")
    try:
        found, noise = steered(
            *(town, town.activation_difference("town-pirate"), tmp_path, PIRATE),
            layer=4,
            strength=8,
        )
        plain = probability(town, PIRATE)
    finally:
        town.use(None)
    assert found > 0.1
    assert plain < 0.001
    assert noise < found / 10


def test_steering_a_model_that_does_not_answer_is_within_noise(town, pirate, tmp_path):
    """The documentation says so."""
    town.use(None)
    found, noise = steered(town, pirate, tmp_path, PIRATE, layer=3, strength=4)
    assert probability(town, PIRATE) < found < noise


def test_two_scopes_give_what_an_adapter_gives(town, pirate):
    with llmscope.load("builtin:town-pirate", device="cpu", dtype="float32") as other:
        town.use(None)
        found = town.activation_difference(other)
    assert torch.allclose(found.mean, pirate.mean, atol=1e-5)
    assert (found.a, found.b) == ("town", "town-pirate")


def test_a_learned_lens_passes_its_linear_part_first(town, pirate):
    found = town.activation_difference("town-pirate", translator="jacobian", top_k=3)
    from llmscope.learned.lenses.catalog import lens_for

    lens = lens_for("jacobian", town.base)
    mapped = lens.maps[4].weight.double() @ pirate.direction(3, 4).double()
    readout = town.base.anatomy.require_readout()
    scores = readout((mapped / mapped.pow(2).mean().sqrt()).float())
    assert [word for word, _ in found.at(3)[4].top] == [
        town.base.label(int(one)) for one in scores.topk(3).indices
    ]


def test_a_model_does_not_differ_from_itself(town):
    with llmscope.load("builtin:town", device="cpu", dtype="float32") as same:
        found = town.activation_difference(same)
    assert found.verdict.status == "refused"
    assert found.verdict.reason == "the models do not differ after layer 3"
    assert found.figure().verdict.status == "refused"


def test_what_depends_on_the_texts_is_refused_however_large_the_first_token_is():
    drawn = torch.Generator().manual_seed(2)
    noise = torch.randn((20, 1, 5, 32), generator=drawn)
    common = torch.randn((1, 1, 5, 32), generator=drawn)
    sink = torch.tensor([1000.0, 1, 1, 1, 1])[:, None]
    found = verdict_on(noise * sink, None, (), 0)
    assert found.status == "refused"
    assert "not the same in all texts" in found.reason
    assert verdict_on((noise + common) * sink, None, (), 0).status == "verified"
    controls = torch.randn((5, 1, 5, 32), generator=drawn)
    assert verdict_on((noise + 9 * common) * sink, controls * sink, (), 0).status == "verified"
    sink_alone = torch.where(sink > 1, noise * 0 + 1000 * common, noise)
    assert verdict_on(sink_alone, None, (), 0).status == "refused"


def test_the_figure_holds_what_was_read(pirate, crier):
    figure = pirate.figure()
    assert [axis.name for axis in figure.axes] == ["layer", "position"]
    assert figure.values[3, 4] == np.float32(pirate.at(3)[4].top[0][1])
    assert figure.extra["names"][figure.extra["ids"][3, 4]] == pirate.at(3)[4].top[0][0]
    assert json.dumps(figure.to_dict())
    assert "‹ matey›" in "\n".join(figure.extra["caption"])
    assert crier.figure().extra["cell_marks"][3] == ["doubtful"] * 5


def test_the_file_holds_each_layer_and_token(pirate, tmp_path):
    from safetensors.torch import load_file

    found = load_file(pirate.save(tmp_path / "new" / "difference.safetensors"))
    assert len(found) == 6 * (1 + 5)
    assert torch.equal(found["3.4"], pirate.mean[3, 4])
    assert torch.equal(found["3"], pirate.mean[3].mean(0))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"texts": ["anna lives"] * 9}, ScopeError, "0 texts have 5 tokens that count"),
        ({"texts": "anna"}, TypeError, "texts must be a list"),
        ({"layer": 6}, ValueError, "layer"),
        ({"translator": "nothing.safetensors"}, ScopeError, "nothing.safetensors"),
    ],
)
def test_what_is_refused(town, given, error, said):
    with pytest.raises(error, match=said):
        town.activation_difference("town-pirate", **given)


def test_models_of_other_sizes_are_refused(town):
    sort = llmscope.load("builtin:sort", device="cpu")
    with pytest.raises(ScopeError, match="town and sort have no activation difference"):
        town.activation_difference(sort)
    with pytest.raises(TypeError, match="other must be a Scope"):
        town.activation_difference(3)


def test_neither_special_tokens_nor_the_first_one_count(town):
    texts = ["anna lives in mill street ."] * 4
    first, *_ = first_tokens(town.base, texts, 5)
    assert (first.start, len(first.ids)) == (1, 6)
    bare = replace(town.base, tokens=None)
    first, *_ = first_tokens(bare, ["9 10 11 12"] * 4, 3)
    assert (first.start, first.ids) == (1, (9, 10, 11, 12))
    with pytest.raises(ScopeError, match="0 texts have 4 tokens that count"):
        first_tokens(bare, ["9 10 11 12"] * 4, 4)


def test_a_hook_on_a_token_from_the_end_sees_the_whole_texts(town):
    """Run alone, the first tokens would end where the hook's token is."""
    model = copy.deepcopy(town.model)

    def hook(_module, _args, output):
        output[:, -1] += 1.0

    model.model.layers[1].mlp.register_forward_hook(hook)
    scope = llmscope.wrap(model, town.tokenizer)
    texts = [f"anna lives in the {word} house . tom likes milk" for word in ("red", "blue") * 2]
    with scope.unchanged():
        found = streams_at(
            scope._instrumented, first_tokens(scope.loaded_model, texts, 5), 5, JobPasses(None)
        )
    for at, text in enumerate(texts):
        whole = torch.stack(streams_of(model, scope, text))
        assert torch.allclose(found[at], whole[:, :5], atol=1e-5)


def streams_of(model, scope, text):
    """Return the streams after each layer at all tokens after `<s>`. [row, width] each"""
    seen = []
    handles = [
        layer.register_forward_hook(
            lambda _, __, out: seen.append((out[0] if isinstance(out, tuple) else out)[0, 1:])
        )
        for layer in model.model.layers
    ]
    with torch.no_grad():
        model(torch.tensor([scope.encode(text).ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


def test_a_stopped_measurement_goes_on_to_the_same_numbers(town, pirate, tmp_path, monkeypatch):
    path, stages = tmp_path / ".difference", []

    def stop(stage):
        stages.append(stage)
        if stage == "control 3 of 5":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        town.activation_difference("town-pirate", progress=stop, checkpoint=path)
    ran, run = [], PromptRunner.__call__

    def counted(runner, prompts):
        ran.append(len(prompts))
        return run(runner, prompts)

    monkeypatch.setattr(PromptRunner, "__call__", counted)
    again = town.activation_difference("town-pirate", checkpoint=path)
    assert ran == [16, 16, 8] * 3  # of three controls
    assert again.to_dict() == pirate.to_dict()
    assert torch.equal(again.mean, pirate.mean)
    with pytest.raises(ScopeError, match=r"was begun with other options \(tokens: 5 there, 4 here"):
        town.activation_difference("town-pirate", tokens=4, checkpoint=path)
