"""Examples and statistics against a plain computation with the model's own modules."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llmscope.errors import ScopeError
from llmscope.jobs.examples.collect import Collection, collect
from llmscope.jobs.examples.collector import Sizes
from llmscope.learned.examples.folder import read_examples, read_index
from llmscope.learned.examples.request import FeatureRequest
from llmscope.learned.examples.unit import feature, head, neuron
from llmscope.record.derive import batching
from tests.jobs.examples.folders import FEATURES, write_dictionary
from tests.learned.texts import TEXTS

LINES = list(enumerate(TEXTS[:12], 1))
SIZES = Sizes(top=6, bottom=4, random=5, before=3, after=2)
HOW = Collection(sizes=SIZES, sizes_of_all=SIZES, length=40, name="texts.txt")
NEAR = 2e-5


class Plain:
    """Activations of one unit at all tokens, prompt by prompt, computed without llmscope."""

    def __init__(self, town, activations, *, active=lambda value: True):
        self.pieces, self.values, self.flat = {}, {}, []
        tokens = town.loaded_model.tokens
        for line, text in LINES:
            encoded = tokens.encode(text)
            ids, special = encoded.ids[:40], encoded.special[:40]
            self.pieces[line] = encoded.pieces[:40]
            self.values[line] = own = activations(torch.tensor([ids])).tolist()
            counted = [at for at in range(1, len(ids)) if not special[at]]
            self.flat += [(own[at], line, at) for at in counted]
        self.tokens = len(self.flat)
        self.flat = [one for one in self.flat if active(one[0])]

    def best(self, sign, count):
        by_line = {}
        for value, line, _ in self.flat:
            by_line[line] = max(by_line.get(line, -math.inf), sign * value)
        return [sign * one for one in sorted(by_line.values(), reverse=True)[:count]]

    def check(self, found):
        assert found.tokens == self.tokens
        assert found.active == len(self.flat)
        values = np.array([value for value, *_ in self.flat])
        assert found.mean == pytest.approx(values.mean(), rel=1e-5)
        assert found.highest == pytest.approx(values.max(), abs=NEAR)
        assert found.lowest == pytest.approx(values.min(), abs=NEAR)
        for part, sign, size in (("top", 1, SIZES.top), ("bottom", -1, SIZES.bottom)):
            some = getattr(found, part)
            assert [one.activation for one in some] == pytest.approx(
                self.best(sign, size), abs=NEAR
            )
            assert len({one.line for one in some}) == len(some)
        assert len(found.random) == min(SIZES.random, len(self.flat))
        assert len({(one.line, one.position) for one in found.random}) == len(found.random)
        places = {(line, at) for _, line, at in self.flat}
        for one in (*found.top, *found.bottom, *found.random):
            assert (one.line, one.position) in places
            window = slice(max(0, one.position - SIZES.before), one.position + SIZES.after + 1)
            assert one.tokens == tuple(self.pieces[one.line][window])
            assert one.activations == pytest.approx(self.values[one.line][window], abs=NEAR)
            assert one.activation == one.activations[one.peak]
            assert one.position - one.peak == window.start
        assert sum(one.count for one in found.histogram) == found.active
        for one in found.histogram:
            inside = ((values >= one.low - NEAR) & (values < one.high + NEAR)).sum()
            surely = ((values >= one.low + NEAR) & (values < one.high - NEAR)).sum()
            assert surely <= one.count <= inside


def caught(town, layer, part):
    """Return what a module of the model reads, for a prompt. [token, input]"""
    module = town.model.model.layers[layer].get_submodule(part)

    def run(ids):
        kept = []
        hook = module.register_forward_pre_hook(lambda _, args: kept.append(args[0][0]))
        with torch.no_grad():
            town.model(ids)
        hook.remove()
        return kept[0]

    return run, module.weight.detach()


def test_features(town, sources, dictionary, tmp_path):
    made = sources(features=[FeatureRequest("2", index) for index in (7, 3)])
    index = collect(town, LINES, made, HOW, tmp_path)
    weights = load_file(f"{dictionary}/sae_weights.safetensors")

    def activations(at):
        def run(ids):
            with torch.no_grad():
                stream = town.model(ids, output_hidden_states=True).hidden_states[3][0]
            return (stream @ weights["W_enc"][:, at] + weights["b_enc"][at]).relu()

        return run

    for at in (3, 7):
        found = read_examples(tmp_path, feature("2.resid_post", at))
        plain = Plain(town, activations(at), active=bool)
        assert 0.01 < found.density < 0.9
        plain.check(found)
        assert index.tokens == plain.tokens
    assert read_examples(tmp_path, feature("2.resid_post", 4)) is None
    assert read_index(tmp_path) == index
    assert feature("2.resid_post", 3) in index
    assert feature("2.resid_post", 4) not in index


def test_neurons(town, sources, tmp_path):
    collect(town, LINES, sources(neurons={1: (5, 120)}), HOW, tmp_path)
    run, _ = caught(town, 1, "mlp.down_proj")
    for at in (5, 120):
        plain = Plain(town, lambda ids, at=at: run(ids)[:, at])
        found = read_examples(tmp_path, neuron(1, at))
        assert found.lowest < 0 < found.highest
        assert found.density == 1
        plain.check(found)


def test_heads(town, sources, tmp_path):
    collect(town, LINES, sources(heads={3: (1, 2)}), HOW, tmp_path)
    run, weight = caught(town, 3, "self_attn.o_proj")
    width = weight.shape[1] // town.loaded_model.anatomy.heads
    for at in (1, 2):
        own = slice(at * width, (at + 1) * width)
        plain = Plain(town, lambda ids, own=own: (run(ids)[:, own] @ weight[:, own].T).norm(dim=-1))
        plain.check(read_examples(tmp_path, head(3, at)))


def test_all_features_are_what_each_alone_is(town, sources, tmp_path):
    every = sources(features=[FeatureRequest("", None)])
    index = collect(town, LINES, every, HOW, tmp_path / "all")
    assert [(one.indices, one.count) for one in index.groups] == [(None, FEATURES)]
    few = sources(features=[FeatureRequest("2.resid_post", at) for at in (0, 5, FEATURES - 1)])
    mixed = [*few, *sources(neurons={2: (1,)}, heads={0: (0,)})]
    collect(town, LINES, mixed, HOW, tmp_path / "few")
    for at in (0, 5, FEATURES - 1):
        unit = feature("2.resid_post", at)
        one, other = (read_examples(tmp_path / name, unit) for name in ("all", "few"))
        assert one.active == other.active
        # The encoder's product is of another shape, so the last digits may differ.
        assert [(e.line, e.position) for e in one.random] == [
            (e.line, e.position) for e in other.random
        ]
        assert [e.activation for e in one.top] == pytest.approx(
            [e.activation for e in other.top], abs=NEAR
        )
    alone = sources(neurons={2: (1,)})
    collect(town, LINES, alone, HOW, tmp_path / "alone")
    assert read_examples(tmp_path / "alone", neuron(2, 1)) == read_examples(
        tmp_path / "few", neuron(2, 1)
    )


@pytest.mark.parametrize(
    "hook", ["blocks.1.hook_mlp_out", "blocks.1.hook_attn_out", "blocks.1.attn.hook_z"]
)
def test_other_places_are_read_as_the_lens_reads_them(town, tmp_path, hook):
    from llmscope.jobs.examples.request import sources_for
    from llmscope.record.features.active import applied, counted, features_of

    folder = write_dictionary(tmp_path / "d", hook)
    made = sources_for(
        town.loaded_model, dictionaries=(str(folder),), features=[FeatureRequest("1", None)]
    )
    collect(town, LINES[:10], made, HOW, tmp_path / "out")
    active = np.zeros(FEATURES, dtype=int)
    for _, text in LINES[:10]:
        recording = town.record(list(town.encode(text).ids[:40]))
        rows = counted(recording)
        for one in features_of(applied(made[0].dictionary, recording), recording, rows):
            active[one.ids] += 1
    place = made[0].place
    found = [read_examples(tmp_path / "out", feature(place, at)) for at in range(FEATURES)]
    assert [one.active for one in found] == active.tolist()


def test_every_token_may_count(town, sources, tmp_path):
    how = Collection(sizes=SIZES, length=40, every_token=True)
    index = collect(town, LINES[:5], sources(neurons={0: (0,)}), how, tmp_path)
    assert index.tokens == sum(min(40, len(town.encode(text))) for _, text in LINES[:5])


def test_it_stops_after_some_prompts_and_passes_over_empty_ones(town, sources, tmp_path):
    lines = [(1, ""), (2, "anna"), (3, "anna has"), (4, "a cat"), (9, "a dog")]
    how = Collection(sizes=SIZES, prompts=3)
    index = collect(town, lines, sources(neurons={0: (0,)}), how, tmp_path)
    assert index.prompts == 3
    found = read_examples(tmp_path, neuron(0, 0))
    assert {one.line for one in found.top} == {2, 3, 4}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"neurons": {9: (0,)}}, "there is no layer 9: the model has 6"),
        ({"neurons": {0: (0, 99999)}}, "there is no neuron 0.99999: the layer has"),
        ({"heads": {0: (4,)}}, "there is no head 0.4: the layer has 4"),
        ({"features": [FeatureRequest("", 999)]}, "there is no feature 999"),
        ({"features": [FeatureRequest("3", 1)]}, "no dictionary is for 3; there are 2.resid_post"),
    ],
)
def test_missing_units_are_told(town, sources, tmp_path, asked, said):
    with pytest.raises(ScopeError, match=said):
        collect(town, LINES, sources(**asked), HOW, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_dictionaries_of_a_layer_are_told_apart_by_place(town, tmp_path):
    from llmscope.jobs.examples.request import sources_for

    write_dictionary(tmp_path / "d" / "one")
    write_dictionary(tmp_path / "d" / "two", "blocks.2.hook_mlp_out")
    given = (str(tmp_path / "d"),)
    with pytest.raises(ScopeError, match=r"2/5 may be of several .*2.mlp_out, 2.resid_post"):
        sources_for(town.loaded_model, dictionaries=given, features=[FeatureRequest("2", 5)])
    own = [FeatureRequest("2.mlp_out", 5)]
    (one,) = sources_for(town.loaded_model, dictionaries=given, features=own)
    assert one.place == "2.mlp_out"
    every = [FeatureRequest("", None)]
    assert len(sources_for(town.loaded_model, dictionaries=given, features=every)) == 2
    twice = (str(tmp_path / "d" / "one"), str(tmp_path / "d" / "one"))
    both = sources_for(town.loaded_model, dictionaries=twice, features=every)
    with pytest.raises(ScopeError, match=r"two dictionaries are for 2\.resid_post"):
        collect(town, LINES, both, HOW, tmp_path / "out")


def test_a_dictionary_of_another_model_is_told(town, tmp_path):
    from llmscope.jobs.examples.request import sources_for

    folder = write_dictionary(tmp_path / "d", "blocks.70.hook_resid_post")
    made = sources_for(
        town.loaded_model, dictionaries=(str(folder),), features=[FeatureRequest("", 0)]
    )
    with pytest.raises(ScopeError, match=r"does not fit the model: .* there is no layer 70"):
        collect(town, LINES, made, HOW, tmp_path / "out")


def test_a_corpus_without_a_token_that_counts_is_told(town, sources, tmp_path):
    with pytest.raises(ScopeError, match="no token of any prompt counts"):
        collect(town, [(1, "")], sources(neurons={0: (0,)}), HOW, tmp_path / "out")


def test_numbers_that_are_not_finite_are_told(town, sources, tmp_path, monkeypatch):
    made = sources(neurons={0: (0,)})
    whole = type(made[0])._whole
    monkeypatch.setattr(type(made[0]), "_whole", lambda self, one: whole(self, one) * math.inf)
    with pytest.raises(ScopeError, match=r"line \d+: an activation is NaN or infinite"):
        collect(town, LINES, made, HOW, tmp_path / "out")


def test_prompts_that_cannot_run_together_run_alone(town, sources, tmp_path, monkeypatch):
    collect(town, LINES, sources(heads={3: (1,)}), HOW, tmp_path / "together")
    monkeypatch.setattr(batching, "why_alone", lambda _: "it cannot")
    collect(town, LINES, sources(heads={3: (1,)}), HOW, tmp_path / "alone")
    one, other = (read_examples(tmp_path / name, head(3, 1)) for name in ("together", "alone"))
    assert [e.activation for e in one.top] == pytest.approx(
        [e.activation for e in other.top], abs=NEAR
    )
    assert [(e.line, e.position) for e in one.random] == [
        (e.line, e.position) for e in other.random
    ]


@pytest.mark.parametrize("measured", [False, True])
def test_heads_of_a_projection_with_a_bias(tmp_path, monkeypatch, measured):
    from transformers import GPT2Config, GPT2LMHeadModel

    import llmscope
    from llmscope.jobs.examples import sources as places
    from llmscope.jobs.examples.request import sources_for

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=30, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    )
    project = model.transformer.h[1].attn.c_proj
    torch.nn.init.normal_(project.bias)
    if measured:
        monkeypatch.setattr(places, "Conv1D", None)
    lines = [(line, " ".join(str(line * at % 29) for at in range(1, 20))) for line in range(1, 9)]
    with llmscope.wrap(model) as scope:
        collect(scope, lines, sources_for(scope.loaded_model, heads={1: (1,)}), HOW, tmp_path)
    found = read_examples(tmp_path, head(1, 1))
    kept = []
    project.register_forward_pre_hook(lambda _, args: kept.append(args[0][0, :, 8:]))
    for one in found.top:
        ids = [int(token) for token in lines[one.line - 1][1].split()]
        model.eval()(torch.tensor([ids]))
        norm = (kept[-1][one.position] @ project.weight[8:]).norm()
        assert one.activation == pytest.approx(norm.item(), rel=1e-4)
        assert one.tokens[one.peak] == str(ids[one.position])
