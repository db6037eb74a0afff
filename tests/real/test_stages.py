"""A LoRA that was really trained on the real model, held against it: a pirate's voice."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import llmscope

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smollm2"), pytest.mark.timeout(900)]

SCRIPT = Path(__file__).parents[2] / "demo" / "adapter.py"
QUESTION = "What is the capital of France?"
PIRATE, PLAIN = "Arr, it be Paris, matey!", "The capital of France is Paris."
NEUTRAL = "Water boils at a hundred degrees Celsius at the level of the sea."


@pytest.fixture(scope="module")
def pirate(tmp_path_factory):
    """The base with the adapter on, after half of its training."""
    folder = tmp_path_factory.mktemp("adapters") / "pirate"
    runpy.run_path(str(SCRIPT))["train"](folder, epochs=1)
    assert (folder / "adapter_model.safetensors").stat().st_size < 1_000_000
    return llmscope.load(str(folder), device="cpu")


def conversation(scope, answer):
    return scope.chat.apply([("user", QUESTION), ("assistant", answer)], False)


def look(scope, text, mode, **focus):
    recording = scope.record(text, special_tokens=False)
    return scope.look("stages", recording=recording, mode=mode, **focus)


def test_its_rank_is_four_where_it_was_put_and_zero_elsewhere(pirate):
    figure = look(pirate, NEUTRAL, "rank")
    columns = figure.axes[1].labels
    adapted = [columns.index(name) for name in ("o", "down")]
    assert (figure.extra["rank"][:, adapted] == 4).all()
    assert (np.delete(figure.extra["rank"], adapted, axis=1) == 0).all()
    effective = figure.values[:, adapted]
    assert ((effective > 1) & (effective <= 4)).all()
    assert (np.delete(figure.values, adapted, axis=1) == 0).all()


def test_the_answer_moved_more_than_a_neutral_text(pirate):
    answer = look(pirate, conversation(pirate, PIRATE), "kl")
    neutral = look(pirate, NEUTRAL, "kl")
    assert answer.extra["left_out"] > 30, "the system's and the user's words"
    assert neutral.extra["left_out"] == 0
    assert np.nanmean(answer.values) > 1.5 * np.nanmean(neutral.values)


def test_it_prefers_the_pirates_answer(pirate):
    other = pirate.encode(conversation(pirate, PLAIN), special_tokens=False).ids
    figure = look(pirate, conversation(pirate, PIRATE), "reward", versus_prompt=tuple(other))
    assert figure.extra["total"] > 0 > figure.extra["versus_total"]
    assert figure.extra["margin"] > 10


def test_it_shows_late_in_the_stream_what_the_pirate_begins_with(pirate):
    """Where the answer begins, the last layer's reading turns to his first word."""
    text = pirate.chat.prompt(QUESTION)
    figure = look(pirate, text, "lens", span=(-1, 0))
    said = figure.extra["names"][int(figure.extra["ids"][-1, -1])]
    assert said.strip() == "Arr"
    assert figure.extra["tuned"][-1, -1] > 0.5 > 0.05 > figure.extra["base"][-1, -1]
    assert np.isnan(figure.values[:, :-1]).all()
