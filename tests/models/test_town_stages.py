"""Each stage of the family that ships did what it was trained for, on what training kept out."""

import json

import numpy as np
import pytest
import torch

import llmscope
from llmscope.models.sources import builtin
from tests.models.town import (
    correct,
    model,
    part,
    styled,
    tokenizer,
    town_questions,
)


def test_what_is_asked_is_asked_in_no_stage():
    data, facts = part("data"), part("facts")
    asked = {question.prompt for question in data.take(4000, seed=1)}
    held = {prompt.replace("?", " ?").replace(":", " :") for prompt, _, _ in town_questions()}
    assert not asked & held
    about = {fact.person for fact in facts.facts(training=True)}
    assert about == {fact.person for fact in facts.facts(training=False)}


def test_facts_that_were_told_and_never_asked_are_answered_after_fine_tuning():
    assert correct("town-sft") >= 0.9
    assert correct("town") <= 0.5, "the base has not learnt to answer"


@pytest.mark.parametrize("style", ["pirate", "shout"])
def test_an_adapter_gives_its_style(style):
    assert styled(f"town-{style}", style) >= 0.9
    assert styled("town-sft", style) == 0


@pytest.mark.parametrize("name", ["town-dpo", "town-grpo"])
def test_alignment_makes_polite_and_keeps_what_was_known(name):
    assert styled("town-sft", "polite") <= 0.6
    assert styled(name, "polite") >= 0.9
    assert correct(name) >= correct("town-sft") - 0.05


@torch.no_grad()
def test_the_reward_model_prefers_the_polite_one_of_two_right_answers():
    scores = {}
    for style in ("certainly, {}. thank you for asking.", "{}."):
        texts = [
            f"{question.prompt} {style.format(question.said)}"
            for question in part("data").take(200, seed=7, training=False)
        ]
        given = tokenizer("right")(texts, return_tensors="pt", padding=True)
        scores[style] = model("town-reward")(**given).logits[:, 0]
    polite, plain = scores.values()
    assert float((polite > plain).float().mean()) >= 0.95


@pytest.mark.parametrize("name", ["town-pirate", "town-shout"])
def test_an_adapter_gives_the_logits_of_plain_peft_on_the_fine_tuned_model(name):
    prompt = town_questions()[0][0]
    scope = llmscope.load("builtin:town", adapters=[f"builtin:{name}"])
    recording = scope.record(prompt)
    with torch.no_grad():
        expected = model(name)(**tokenizer()(prompt, return_tensors="pt")).logits[0, -1]
    assert np.abs(recording.logits.numpy() - expected.numpy()).max() <= 1e-5


def test_the_lora_has_its_rank_in_every_matrix_of_the_model_that_it_was_trained_on():
    settings = json.loads((builtin.home() / "town-pirate" / "adapter_config.json").read_text())
    scope = llmscope.load("builtin:town-pirate")
    scope.record("question:")
    ranks = np.asarray(scope.look("stages").extra["rank"])
    assert ranks.shape == (6, len(settings["target_modules"]))
    assert (ranks == settings["r"]).all()
