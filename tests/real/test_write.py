"""Writing on with a real model: token for token what transformers' `generate` writes."""

import pytest

from llmscope.models.sampler import Sampler
from tests.engine.writing import Writer, generated, same

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("smollm2")]
PROMPT = "The capital of France is"


def test_greedy_is_generate(smollm2, plain):
    ids = list(smollm2.encode(PROMPT).ids)
    with Writer(smollm2, PROMPT) as writer:
        written = writer.write(40)
        said, whole = writer.said, writer.ids
        before = writer.look()
        writer.back(whole[:20])
        assert writer.look().cost.ran == 0
        writer.back(whole)
        after = writer.look()
    assert said.startswith(" Paris")
    assert written == generated(plain, ids, 40, do_sample=False)
    assert after.cost.ran == 0
    assert all(same(after.figures[key], figure) for key, figure in before.figures.items())


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2, "min_new_tokens": 12, "suppress_tokens": [28, 30]},
        {"bad_words_ids": [[7042], [284, 3575]], "begin_suppress_tokens": [7042]},
    ],
    ids=str,
)
def test_the_rules_of_its_generation_config_are_those_of_generate(smollm2, settings):
    ids = list(smollm2.encode(PROMPT).ids)
    model = smollm2.model
    before = model.generation_config
    model.generation_config = type(before)(eos_token_id=before.eos_token_id)
    try:
        free = generated(model, ids, 16, do_sample=False)
        for name, value in settings.items():
            setattr(model.generation_config, name, value)
        theirs = generated(model, ids, 16)
        with Writer(smollm2, PROMPT) as writer:
            assert writer.write(16) == theirs
    finally:
        model.generation_config = before
    assert theirs != free


def test_one_seed_writes_one_text(smollm2):
    sampler = Sampler(0.9, 50, 0.95, 0.02, seed=11)
    texts = []
    for seed in (11, 11, 12):
        with Writer(smollm2, PROMPT) as writer:
            writer.write(20, Sampler(0.9, 50, 0.95, 0.02, seed=seed))
            texts.append(writer.said)
    assert texts[0] == texts[1] != texts[2]
    assert sampler.said == "temperature 0.9 top-k 50 top-p 0.95 min-p 0.02 seed 11"
