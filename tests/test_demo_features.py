"""The dictionaries of `demo.features`: how they are trained and written, and those that ship."""

import json

import pytest
import torch
from safetensors.torch import load_file

from demo.features.activations import Hook, capture
from demo.features.concepts import labels, sort_of
from demo.features.dictionary import Dictionary, quality, random_like, read, write
from demo.features.found import Half, matches
from demo.features.training import Settings, Site, train
from llmscope.models.sources import builtin

SHIPPED = sorted(file.parent for file in builtin.home().glob("town-features/*/cfg.json"))
HOOK, OUT = Hook(0, "mlp_in"), Hook(0, "mlp_out")
SHAPES = {"W_enc": (6, 12), "b_enc": (12,), "W_dec": (12, 6), "b_dec": (6,)}


def batches(count):
    """Sums of two of twelve random directions, far from zero."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(12, 6, generator=generator)
    for _ in range(count):
        chosen = torch.rand(256, 12, generator=generator).topk(2).indices
        x = directions[chosen].sum(1) + 5
        yield {HOOK: x, OUT: x @ directions.T[:, :6]}


@pytest.mark.few(1)
@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "jumprelu_transcoder"])
def test_the_loss_falls_and_the_folder_says_what_was_trained(tmp_path, architecture):
    site = Site(HOOK, OUT if "transcoder" in architecture else HOOK)
    plan = {site: Settings(architecture, 12, 2, rate=1e-2)}
    made, losses = train(plan, batches(150), 150, seed=1)
    again, _ = train(plan, batches(150), 150, seed=1)
    one = made[site]
    assert torch.equal(one.w_dec, again[site].w_dec)
    assert losses[site][-1] < losses[site][0] / 3

    held = next(batches(1))
    measured = quality(one, held[site.source], held[site.target])
    assert measured.fvu < 0.4
    assert measured.l0 == pytest.approx(2, abs=0.7)
    write(one, tmp_path, {"hook_name": site.source.name}, measured.frequency)
    weights = load_file(tmp_path / "sae_weights.safetensors")
    threshold = {} if architecture == "topk" else {"threshold": (12,)}
    assert {name: tuple(value.shape) for name, value in weights.items()} == SHAPES | threshold
    assert load_file(tmp_path / "sparsity.safetensors")["sparsity"].shape == (12,)
    found, config = read(tmp_path)
    assert config["architecture"] == architecture
    assert config["metadata"]["hook_name"] == "blocks.0.mlp.hook_in"
    assert torch.equal(found.encode(held[site.source]), one.encode(held[site.source]))


@pytest.mark.parametrize("architecture", ["jumprelu", "jumprelu_transcoder"])
def test_a_random_dictionary_has_the_same_size_and_sparsity(architecture):
    held = next(batches(1))
    x, y = held[HOOK], held[HOOK if architecture == "jumprelu" else OUT]
    nothing = torch.zeros(12)
    one = Dictionary(
        architecture, torch.zeros(6, 12), nothing, torch.zeros(12, 6), torch.zeros(6), nothing
    )
    chance = random_like(one, x, y, 3.0, torch.Generator().manual_seed(2))
    measured = quality(chance, x, y)
    assert measured.l0 == pytest.approx(3, abs=0.1)
    assert 0.1 < measured.fvu <= 1.001  # the scale is the best one, so never worse than the mean
    assert torch.allclose(chance.w_dec.norm(dim=-1), torch.ones(12))


def test_the_detector_of_a_concept_is_found_and_measured_apart():
    generator = torch.Generator().manual_seed(3)
    halves = []
    for _ in range(2):
        values = torch.rand(1000, 5, generator=generator)
        held = torch.arange(0, 1000, 20)
        values[held, 3] += 2
        halves.append(Half(values, {("kind", "seen"): held, ("kind", "rare"): held[:3]}))
    by_concept, by_detector = matches(*halves)
    assert list(by_concept) == [("kind", "seen")]
    match = by_concept["kind", "seen"]
    assert (match.index, match.precision, match.recall, match.count) == (3, 1.0, 1.0, 50)
    assert by_detector[3][1] == match
    assert by_detector[0][1].f1 < 0.3


def concepts(text):
    return labels(text.split())


def test_concepts_know_senses_and_what_is_asked():
    text = "the bank raised the interest rate to two percent and the loan cost more money ."
    found = concepts(text)
    assert sort_of(text.split()) == "money"
    assert found["sense", "bank, of money"] == [1]
    assert found["word", "the"] == [0, 3, 10]
    found = concepts("cow -> calf , dog -> puppy , cat -> kitten .")
    assert found["asked", "asks for young"] == [5, 9]
    found = concepts("the pet of ben is a lion . he likes cheese .")
    assert found["next", "pet comes next"] == [5]
    assert found["pronoun", "he for ben"] == [8]
    assert found["about", "about ben"][0] == 4


def test_what_ships_is_small():
    assert len(SHIPPED) == 7
    assert sum(file.stat().st_size for path in SHIPPED for file in path.iterdir()) < 5_000_000


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_what_ships_is_whole(folder):
    one, config = read(folder)
    about = config["metadata"]
    size, width = config["d_sae"], config["d_in"]
    assert config["architecture"] in ("topk", "jumprelu", "jumprelu_transcoder")
    assert one.w_enc.shape == (width, size)
    assert one.w_dec.shape == (size, config.get("d_out", width))
    assert torch.allclose(one.w_dec.norm(dim=-1), torch.ones(size), atol=1e-3)
    assert (one.threshold is None) == (config["architecture"] == "topk")
    frequency = load_file(folder / "sparsity.safetensors")["sparsity"]
    assert int((frequency < -9).sum()) == about["held_out"]["dead"] < size / 10
    lines = (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == about["held_out"]["labelled"]
    assert {record["layer"] for record in records} == {folder.name}
    assert all(0 <= int(record["index"]) < size for record in records)


@torch.no_grad()
def test_what_ships_rebuilds_the_stream_of_a_new_text():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    home = builtin.home() / "town"
    model = AutoModelForCausalLM.from_pretrained(home)
    text = (
        "Anna lives in mill street. She has a cat. The bank paid interest at a rate of two percent."
    )
    ids = AutoTokenizer.from_pretrained(home)(text, return_tensors="pt")["input_ids"]
    for folder in SHIPPED:
        one, config = read(folder)
        layer, part = folder.name.split("-")
        here = Hook(int(layer), "resid_post" if part == "res" else "mlp_in")
        there = here if part == "res" else Hook(int(layer), "mlp_out")
        assert config["metadata"]["hook_name"] == here.name
        # The first token is special: none was trained on.
        found = capture(model, ids, {here, there}, torch.arange(ids.shape[1])[None] > 0)
        measured = quality(one, found[here], found[there])
        assert measured.fvu < 0.5
        assert measured.l0 < 40
