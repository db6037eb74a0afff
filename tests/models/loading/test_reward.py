"""Reward models against AutoModelForSequenceClassification, a beginning of the text at a time."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import llmscope
from llmscope.errors import ScopeError
from tests.families import small_config
from tests.models.loading.test_adapters import IDS, LLAMA, make_adapter, make_base
from tests.models.vocabularies import byte_level

OTHER = (3, 41, 5, 9, 70, 71)


def make_reward(folder, family="llama", labels=1, padding=None, **changes):
    """A random reward model whose weights matter."""
    config = small_config(family, num_labels=labels, pad_token_id=padding, **changes)
    torch.manual_seed(5)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def plain_scores(folder, ids):
    """What transformers says of each beginning, run on its own."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return np.array(
            [float(model(torch.tensor([ids[: at + 1]])).logits) for at in range(len(ids))]
        )


def look(scope, ids=IDS, **focus):
    return scope.look("stages", recording=scope.record(ids), mode="score", **focus)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_each_beginning_has_the_score_that_transformers_gives_it(tmp_path, family):
    base = make_base(tmp_path / "base", family)
    reward = make_reward(tmp_path / "reward", family)
    scope = llmscope.load(str(base), reward=str(reward))
    figure = look(scope)
    wanted = plain_scores(reward, IDS)
    assert np.ptp(wanted) > 0.01
    assert figure.values == pytest.approx(wanted, abs=1e-5)
    assert figure.extra["score"] == pytest.approx(wanted[-1], abs=1e-5)
    assert figure.extra["end"] == len(IDS) - 1
    assert f"{wanted[-1]:+.3g}"[:5] in figure.extra["caption"][0]


def test_the_margin_is_that_of_the_two_ends(tmp_path):
    base, reward = make_base(tmp_path / "base"), make_reward(tmp_path / "reward")
    scope = llmscope.load(str(base), reward=str(reward))
    figure = look(scope, versus_prompt=OTHER)
    ours, theirs = (plain_scores(reward, ids)[-1] for ids in (IDS, OTHER))
    assert figure.extra["versus_score"] == pytest.approx(theirs, abs=1e-5)
    assert figure.extra["margin"] == pytest.approx(ours - theirs, abs=1e-5)


def test_padding_at_the_end_is_not_what_is_judged(tmp_path):
    """As transformers has it, whose last token is the last that is no padding."""
    base, reward = make_base(tmp_path / "base"), make_reward(tmp_path / "reward", padding=77)
    scope = llmscope.load(str(base), reward=str(reward))
    ids = (*IDS[:6], 77, 77)
    figure = look(scope, ids)
    assert figure.extra["end"] == 5
    model = AutoModelForSequenceClassification.from_pretrained(reward).eval()
    with torch.no_grad():
        wanted = float(model(torch.tensor([ids])).logits)
    assert figure.extra["score"] == pytest.approx(wanted, abs=1e-5)


def test_adapters_are_judged_by_it_as_well(tmp_path):
    base, reward = make_base(tmp_path / "base"), make_reward(tmp_path / "reward")
    lora = make_adapter(tmp_path / "lora", base, LLAMA["lora"])
    scope = llmscope.load(str(base), adapters=[str(lora)], reward=str(reward))
    on = look(scope).values
    scope.use(None)
    assert np.array_equal(look(scope).values, on), "the score is of the text alone"


def test_without_one_it_says_how_to_have_one(tmp_path):
    figure = look(llmscope.load(str(make_base(tmp_path / "base"))))
    assert figure.verdict.status == "refused"
    assert "llmscope.load(MODEL, reward=REWARD_MODEL)" in figure.verdict.reason


def refusal(base, reward):
    with pytest.raises(ScopeError) as caught:
        llmscope.load(str(base), reward=str(reward))
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value.message


def test_what_is_no_reward_model_of_the_model_is_refused(tmp_path):
    base = make_base(tmp_path / "base")
    assert "is no reward model: it has no score.weight" in refusal(base, base)
    classes = make_reward(tmp_path / "classes", labels=3)
    assert "tells 3 classes apart, and a reward is one number" in refusal(base, classes)
    small = make_reward(tmp_path / "small", vocab_size=50)
    assert "has 50 tokens and base 96" in refusal(base, small)
    lora = make_adapter(tmp_path / "lora", base, LLAMA["lora"])
    assert "is an adapter" in refusal(base, lora)


def test_another_vocabulary_is_refused(tmp_path):
    tokenizer = byte_level()
    size = len(tokenizer)
    config = small_config("llama", vocab_size=size)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    reward = make_reward(tmp_path / "reward", vocab_size=size)
    assert "has no tokenizer" in refusal(tmp_path / "base", reward)
    tokenizer.save_pretrained(reward)
    scope = llmscope.load(str(tmp_path / "base"), reward=str(reward))
    assert np.isfinite(
        scope.look("stages", recording=scope.record("hello"), mode="score").values
    ).all()
    file = reward / "tokenizer.json"
    said = json.loads(file.read_text())
    vocabulary = said["model"]["vocab"]
    first, second = list(vocabulary)[40:42]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(said))
    assert "has another vocabulary than base" in refusal(tmp_path / "base", reward)
