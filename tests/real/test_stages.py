"""A LoRA that was really trained on the real model, held against it: a pirate's voice."""

import numpy as np
import pytest

import llmscope

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smollm2"), pytest.mark.timeout(3600)]

QUESTION = "What is the capital of France?"
PIRATE, PLAIN = "Arr, it be Paris, matey!", "The capital of France is Paris."
NEUTRAL = "Water boils at a hundred degrees Celsius at the level of the sea."


@pytest.fixture(scope="module")
def adapted(pirate):
    """The base with the adapter on."""
    assert (pirate / "adapter_model.safetensors").stat().st_size < 1_000_000
    return llmscope.load(str(pirate), device="cpu")


def conversation(scope, answer):
    return scope.chat.apply([("user", QUESTION), ("assistant", answer)], False)


def look(scope, text, mode, **focus):
    recording = scope.record(text, special_tokens=False)
    return scope.look("stages", recording=recording, mode=mode, **focus)


def test_its_rank_is_four_where_it_was_put_and_zero_elsewhere(adapted):
    figure = look(adapted, NEUTRAL, "rank")
    columns = figure.axes[1].labels
    adapted = [columns.index(name) for name in ("o", "down")]
    assert (figure.extra["rank"][:, adapted] == 4).all()
    assert (np.delete(figure.extra["rank"], adapted, axis=1) == 0).all()
    effective = figure.values[:, adapted]
    assert ((effective > 1) & (effective <= 4)).all()
    assert (np.delete(figure.values, adapted, axis=1) == 0).all()


def test_the_answer_moved_more_than_a_neutral_text(adapted):
    answer = look(adapted, conversation(adapted, PIRATE), "kl")
    neutral = look(adapted, NEUTRAL, "kl")
    assert answer.extra["left_out"] > 30, "the system's and the user's words"
    assert neutral.extra["left_out"] == 0
    assert np.nanmean(answer.values) > 1.5 * np.nanmean(neutral.values)


def test_it_prefers_the_pirates_answer(adapted):
    other = adapted.encode(conversation(adapted, PLAIN), special_tokens=False).ids
    figure = look(adapted, conversation(adapted, PIRATE), "reward", versus_prompt=tuple(other))
    assert figure.extra["total"] > 0 > figure.extra["versus_total"]
    assert figure.extra["margin"] > 10


def test_it_shows_late_in_the_stream_what_the_pirate_begins_with(adapted):
    """Where the answer begins, the last layer's reading turns to his first word."""
    text = adapted.chat.prompt(QUESTION)
    figure = look(adapted, text, "lens", span=(-1, 0))
    said = figure.extra["names"][int(figure.extra["ids"][-1, -1])]
    assert said.strip() == "Arr"
    assert figure.extra["tuned"][-1, -1] > 0.5 > 0.05 > figure.extra["base"][-1, -1]
    assert np.isnan(figure.values[:, :-1]).all()
