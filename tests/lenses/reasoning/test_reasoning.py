"""The lens `reasoning` against plain transformers."""

import math

import numpy as np
import pytest
import torch

import llmscope
from llmscope.lenses.reasoning.settles import find_settling_sentence
from llmscope.lenses.reasoning.trace import choose_sentences
from llmscope.models.sampler import Sampler, draw
from llmscope.record.derive.sentences import source_texts
from tests.lenses.hooks import scope_of

TEXT = (
    "Tom lives in the red house. Anna lives in the blue house. Tom likes milk. "
    "So the house is red. The answer is red."
)
SUFFIX = " The answer is"


@pytest.fixture(scope="module")
def town():
    return llmscope.load("builtin:town", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def model():
    return llmscope.load("builtin:town", device="cpu", dtype="float32").model.double()


def logits(model, ids, last=1):
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -last:]


def spoken(model, ids, answer):
    """Log p of an answer, and the distribution where it begins."""
    found = logits(model, [*ids, *answer[:-1]], len(answer)).log_softmax(-1)
    return float(found[range(len(answer)), answer].sum()), found[0]


def parts(extra):
    return list(zip(extra["starts"], extra["stops"], strict=True))


def test_p_of_the_answer_after_each_sentence(town, model):
    ids = town.record(TEXT).prompt.ids
    figure = town.look("reasoning", mode="settles", suffix=SUFFIX)
    extra = figure.extra
    assert (extra["answer"].strip(), extra["answer_source"]) == ("red", "stated")
    assert len(figure.axes[0]) == extra["sentences"] == 4  # that of the answer is left out
    assert figure.axes[0].labels[2] == "Tom likes milk."
    for row, (start, stop) in enumerate(parts(extra)):
        assert start == (parts(extra)[row - 1][1] if row else 1)
        forced = [*ids[:stop], *extra["suffix_ids"]]
        own, first = spoken(model, forced, extra["answer_ids"])
        assert figure.values[row] == pytest.approx(math.exp(own), abs=1e-4)
        assert extra["says"][row] == town.loaded_model.label(int(first.argmax()))
    assert extra["settles"] == find_settling_sentence(figure.values)
    assert (figure.verdict.status, figure.unit) == ("verified", "probability")


def test_a_sentence_is_dropped_and_the_rest_runs_again(town, model):
    ids = town.record(TEXT).prompt.ids
    answer = (town.token(" red"), town.token(" house"))
    figure = town.look("reasoning", mode="rests-on", suffix=SUFFIX, answer=answer)
    extra = figure.extra
    assert (extra["answer_ids"], extra["answer_source"]) == (answer, "given")
    suffix, stop = extra["suffix_ids"], extra["stops"][-1]
    whole, p = spoken(model, [*ids[:stop], *suffix], answer)
    assert extra["log_p"] == pytest.approx(whole, abs=1e-4)
    for row, (start, end) in enumerate(parts(extra)):
        without, q = spoken(model, [*ids[:start], *ids[end:stop], *suffix], answer)
        assert figure.values[row] == pytest.approx(without - whole, abs=2e-4)
        assert extra["kl"][row] == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-4)
    assert np.abs(figure.values).max() > 0.05
    assert extra["chosen"] == int(figure.values.argmin())


def test_partial_figures_tell_how_far_they_are(town):
    recording = town.record(TEXT)
    focus = llmscope.Focus(mode="rests-on")
    figures = list(town.figures("reasoning", recording=recording, focus=focus))
    counts = [int(np.isfinite(one.values).sum()) for one in figures]
    assert counts == [1, 2, 3, 4]
    assert [one.extra.get("progress") for one in figures] == [(1, 4), (2, 4), (3, 4), None]


def test_forks_are_the_tokens_with_the_highest_entropy_before_them(town, model):
    ids = town.record(TEXT).prompt.ids
    figure = town.look("reasoning", mode="forks", top_k=3, fork_quantile=0.5)
    extra = figure.extra
    rows = logits(model, ids, len(ids)).log_softmax(-1)
    entropy = -(rows.exp() * rows).sum(-1).numpy() / math.log(2)
    own = {at: entropy[at - 1] for at in range(extra["start"], extra["stop"])}
    special = town.record(TEXT).prompt.special
    own = {at: bits for at, bits in own.items() if not special[at]}
    threshold = float(np.quantile(list(own.values()), 0.5))
    assert extra["threshold"] == pytest.approx(threshold, abs=1e-4)
    assert extra["above"] == sum(bits >= threshold for bits in own.values())
    top = sorted(sorted(own, key=lambda at: -own[at])[:3])
    assert list(extra["positions"]) == top
    assert figure.values == pytest.approx([own[at] for at in top], abs=1e-4)
    chances = [float(rows[at - 1, ids[at]].exp()) for at in top]
    assert extra["probability"] == pytest.approx(chances, abs=1e-4)
    best = next(t for t in rows[top[0] - 1].argsort(descending=True).tolist() if t != ids[top[0]])
    assert extra["alternatives"][0].startswith(f"‹{town.loaded_model.label(best)}›")


def test_branches_are_drawn_from_plain_logits(town, model):
    recording = town.record(TEXT)
    ids, at = recording.prompt.ids, 6
    options = {"samples": 3, "tokens": 5, "seed": 4, "temperature": 0.8, "suffix": SUFFIX}
    figure = town.look("reasoning", mode="branches", position=at, **options)
    extra = figure.extra
    special = set(town.loaded_model.tokens.special_ids)
    for branch in range(3):
        drawn = []
        for step in range(5):
            row = logits(model, [*ids[:at], *drawn])[0]
            sampler = Sampler(temperature=0.8, seed=4)
            token = draw(row, sampler, place=at + step, branch=branch)
            if token in special:
                break
            drawn.append(token)
        assert extra["ids"][branch + 1] == tuple(drawn)
    assert extra["ids"][0] == ids[at : at + 5]
    assert len(set(extra["ids"])) > 1
    for row, found in enumerate(extra["ids"]):
        own, _ = spoken(model, ids[:at], found)
        assert figure.values[row] == pytest.approx(own, abs=2e-4)
        p, _ = spoken(model, [*ids[:at], *found, *extra["suffix_ids"]], extra["answer_ids"])
        assert extra["p_answer"][row] == pytest.approx(math.exp(p), abs=1e-4)
    again = town.look("reasoning", mode="branches", position=at, **{**options, "samples": 2})
    assert again.extra["ids"] == extra["ids"][:3]


@pytest.mark.parametrize(
    ("text", "answer", "last"),
    [
        ("Tom is here. So \\boxed{red} it is. Anna", "red", "Tom is here."),
        ("Tom is here. Anna. #### red", "red", "Anna."),
        ("The answer is no. Tom. Answer: red, I think", "red", "Tom."),
        ("<think> Tom. Anna. </think> The answer is **red**.", "red", "Anna."),
    ],
)
def test_the_stated_answer_is_found_and_no_part_of_the_trace(town, text, answer, last):
    town.record(text)
    figure = town.look("reasoning")
    assert (figure.extra["answer"].strip(), figure.axes[0].labels[-1]) == (answer, last)


def test_texts_of_tokens_are_the_text_itself(town):
    """The built-in tokenizer drops line breaks and capitals, and knows few words."""
    prompt = town.record("Tom likes quarks.\n\nAnna  too").prompt
    texts = source_texts(prompt)
    assert "".join(texts) == "Tom likes quarks.\n\nAnna  too"
    assert [one.strip() for one in texts] == ["", "Tom", "likes", "quarks", ".", "Anna", "too"]


def test_the_trace_begins_after_the_context(town):
    recording = town.record(TEXT)
    figure = town.look("reasoning", context=8)
    assert figure.extra["starts"][0] == 8
    assert len(figure.axes[0]) == 3
    assert town.look("reasoning", recording=recording).extra["starts"][0] == 1


def test_of_many_sentences_some_are_measured_and_the_figure_says_so(town):
    town.record(TEXT)
    whole = town.look("reasoning")
    figure = town.look("reasoning", sentences=2)
    assert figure.extra["indices"] == (0, 3)
    assert figure.values == pytest.approx(whole.values[[0, 3]], abs=1e-5)
    assert figure.verdict.status == "partial"
    assert "2 of 4 sentences are measured" in figure.verdict.reason
    assert choose_sentences(100, 3) == [0, 49, 99]
    assert choose_sentences(3, 1) == [2]


def test_it_settles_where_it_stays():
    assert find_settling_sentence(np.array([0.9, 0.2, 0.6, 0.7])) == 2
    assert find_settling_sentence(np.array([0.9, 0.8])) == 0
    assert find_settling_sentence(np.array([0.9, 0.5])) is None


def test_what_cannot_be_measured_is_refused_with_a_reason(town):
    scope = scope_of("llama")
    scope.record([5, 6, 7])
    verdict = scope.look("reasoning").verdict
    assert (verdict.status, "no tokenizer" in verdict.reason) == ("refused", True)
    town.record(TEXT)
    verdict = town.look("reasoning", mode="branches", position=0).verdict
    assert (verdict.status, "before the first token" in verdict.reason) == ("refused", True)
    edited = town.record(TEXT, edits=["zero head 0.1"])
    assert town.look("reasoning", recording=edited).verdict.status == "refused"


def test_a_prompt_without_reasoning_does_not_settle(town):
    town.record("The river was cold and Tom sat on the bank")
    figure = town.look("reasoning", mode="settles")
    assert figure.verdict.status == "refused"
    assert "no reasoning" in figure.verdict.reason
    town.record("Tom lives in the red house. Anna lives in the blue house.")
    figure = town.look("reasoning", mode="settles")
    assert figure.verdict.status == "verified"
    assert "settle" not in figure.title
    last = figure.values[-1]
    assert figure.title.endswith("below 50 % at the end" if last <= 0.5 else "50 % from sentence 2")
    town.record(TEXT)
    assert "settle" in town.look("reasoning", mode="settles").title
