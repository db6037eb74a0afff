"""Ten questions with known answers, asked as an agent asks them: by tools alone.

What is right comes from transformers, not from llmscope.
"""

import xml.etree.ElementTree as ET

import pytest
import torch

import llmscope
from tests.agents.truth import (
    ANIMALS,
    continued,
    layer_ranks,
    loaded,
    logits,
    probability,
    token,
    without_head,
)

pytestmark = pytest.mark.xdist_group("agents")

NEAR = 1e-3
"""Relative; answers have four digits."""


def test_what_comes_after_the_examples(town):
    found = town.call("look", lens="next-token", prompt=ANIMALS)
    first = found.rows[0]
    assert first["token"] == "·calf"
    assert float(first["p"]) == pytest.approx(probability(ANIMALS, " calf"), rel=NEAR)
    assert found.line("verdict:").startswith("verified")
    assert "It does not establish why" in found.line("establishes:")
    assert "probability" in found.line("unit:")


def test_in_which_layer_it_is_first_the_likeliest(town):
    town.call("look", lens="next-token", prompt=ANIMALS)
    given = {"mode": "target", "target": " calf", "position": -1, "order": "place"}
    rows = town.call("look", lens="logit-lens", **given).rows
    ranks = {row["layer"]: int(row["rank_target"]) for row in rows}
    truth = layer_ranks(ANIMALS, " calf")
    assert list(ranks) == ["embed", *map(str, range(6))]
    assert [ranks[str(layer)] for layer in range(6)] == truth
    assert min(layer for layer in range(6) if ranks[str(layer)] == 1) == truth.index(1)


def test_which_head_moves_the_answer_most(town):
    rows = town.call(
        "look", lens="ablation", prompt=ANIMALS, target=" calf", order="largest", rows=3
    ).rows
    own, calf = logits(ANIMALS)[-1], token(" calf")
    effects = {
        (layer, head): float(without_head(ANIMALS, layer, head)[calf] - own[calf])
        for layer in range(6)
        for head in range(4)
    }
    strongest = max(effects, key=lambda place: abs(effects[place]))
    assert (int(rows[0]["layer"]), int(rows[0]["head"])) == strongest
    assert float(rows[0]["effect"]) == pytest.approx(effects[strongest], rel=NEAR)


def test_what_an_edit_does_to_the_probability(town):
    found = town.call("edit", edits=["zero head 1.0"], prompt=ANIMALS)
    edited = without_head(ANIMALS, 1, 0).softmax(-1)
    before = logits(ANIMALS)[-1].softmax(-1)
    kl = float((before * (before.log() - edited.log())).sum())
    said = found.line("KL(unedited ‖ edited)").removesuffix(" nats")
    assert float(said) == pytest.approx(kl, rel=NEAR)
    (row,) = [one for one in found.rows if one["token"] == "·calf"]
    assert float(row["unedited"]) == pytest.approx(float(before[token(" calf")]), rel=NEAR)
    assert float(row["edited"]) == pytest.approx(float(edited[token(" calf")]), rel=NEAR)
    looked = town.call("look", lens="next-token", target=" calf")
    assert "zero head 1.0" in looked.line("model:")
    assert town.call("edit", edits=[]).text == "no edits are in force"
    assert float(town.call("look", lens="next-token").rows[0]["p"]) == pytest.approx(
        probability(ANIMALS, " calf"), rel=NEAR
    )


def test_which_adapter_speaks_as_a_pirate(town):
    asked = "question: where does Anna live? answer:"
    names = town.call("open").line("adapter in use: base; others:").split(", ")
    assert {"town-pirate", "town-shout"} <= set(names)
    said = {}
    for name in names:
        town.call("open", adapter=name)
        said[name] = town.call("generate", prompt=asked, tokens=12).line("tokens:")
    town.call("open", adapter="base")
    assert [name for name, text in said.items() if "·arr" in text.split()] == ["town-pirate"]
    with llmscope.load("builtin:town-pirate") as scope, torch.no_grad():
        given = torch.tensor([scope.encode(asked).ids])
        made = scope.model.generate(input_ids=given, max_new_tokens=12, do_sample=False)
    ids = made[0, given.shape[1] :].tolist()
    words = [scope.tokenizer.decode([one]) for one in ids if one != scope.tokenizer.eos_token_id]
    assert [one.strip("·") for one in said["town-pirate"].split()] == [one.strip() for one in words]


def test_what_sorting_gives(agent):
    agent.call("open", model="builtin:sort")
    given = "CBACAB"
    made, tokenizer = continued(given, 6, "sort")
    found = agent.call("generate", prompt=given, tokens=6)
    assert found.line("generated 6 tokens:") == "".join(sorted(given)) == tokenizer.decode(made)


def test_which_token_surprised_it_most(town):
    text = "the cat sleeps in the barn and the dog sees a puppy"
    rows = town.call("look", lens="tokens", prompt=text, order="largest", rows=1).rows
    scores = logits(text)
    following = loaded("town")[1](text)["input_ids"][1:]
    bits = [
        -float(scores[at].log_softmax(-1)[one]) / float(torch.log(torch.tensor(2.0)))
        for at, one in enumerate(following)
    ]
    most = max(range(len(bits)), key=bits.__getitem__)
    assert int(rows[0]["position"]) == most + 1
    assert float(rows[0]["surprisal"]) == pytest.approx(bits[most], rel=NEAR)


def test_how_far_two_prompts_are_apart(town):
    other = ANIMALS.replace("puppy", "barn").replace("kitten", "basket")
    found = town.call("compare", prompt=ANIMALS, versus_prompt=other)
    p, q = (logits(text)[-1].log_softmax(-1) for text in (ANIMALS, other))
    said = found.line("KL(A ‖ B)").split(" nats, KL(B ‖ A) ")
    assert float(said[0]) == pytest.approx(float((p.exp() * (p - q)).sum()), rel=NEAR)
    assert float(said[1].split()[0]) == pytest.approx(float((q.exp() * (q - p)).sum()), rel=NEAR)
    (row,) = [one for one in found.rows if one["token"] == "·calf"]
    assert float(row["B"]) == pytest.approx(probability(other, " calf"), rel=NEAR)


def test_the_mean_probability_over_a_file_of_prompts(town):
    prompts = [
        ANIMALS,
        "dog -> puppy, cat -> kitten, cow ->",
        "dog -> puppy, cow ->",
        "the cat sleeps in the",
    ]
    (town.work / "prompts.txt").write_text("\n".join(prompts))
    found = town.call("many_prompts", lens="next-token", file="prompts.txt", target=" calf")
    (row,) = [
        one for one in found.rows if one["column"].startswith("p_target") and one["by"] == "all"
    ]
    truth = sum(probability(text, " calf") for text in prompts) / len(prompts)
    assert float(row["mean"]) == pytest.approx(truth, rel=NEAR)
    assert row["n prompts"] == "4"
    low, high = map(float, row["95 % interval"].split(" to "))
    assert low < truth < high
    tables = found.line("tables:").partition(" (")[0]
    assert (town.folder / tables / "next-token").is_dir()


def test_a_picture_of_what_was_seen(town):
    town.call("look", lens="attention", layer=4, head=0, prompt=ANIMALS)
    found = town.call("export", path="pictures/attention.svg")
    path = town.folder / "pictures" / "attention.svg"
    assert found.line("file:") == str(path)
    picture = ET.parse(path)
    assert picture.getroot().tag.endswith("svg")
    assert "puppy" in "".join(picture.getroot().itertext())


def test_generation_is_that_of_transformers(town):
    made, tokenizer = continued("the cat sleeps", 8)
    found = town.call("generate", prompt="the cat sleeps", tokens=8)
    stop = tokenizer.eos_token_id
    wanted = made[: made.index(stop)] if stop in made else made
    assert int(found.text.split("generated ")[1].split()[0]) == len(wanted)
    shown = [one.strip("·") for one in found.line("tokens:").split()]
    assert shown == [tokenizer.decode([one]).strip() for one in wanted]
