"""Texts that begin as a recorded prompt does, against plain passes over all of them."""

import pytest
import torch

from llmscope.lenses import lens
from llmscope.record.interventions import continuations
from llmscope.record.interventions.continuations import Continuation, continued, without
from llmscope.record.interventions.forced_answer import forced, own_answer
from tests.families import small_model
from tests.lenses.hooks import scope_of
from tests.record.capture.test_lengths import BORDER, MODELS

IDS = [(7 * at + at * at) % 93 + 3 for at in range(30)]
TEXTS = (
    *(Continuation(12, (9, 40, 11)), Continuation(0, (8, 17, 4)), Continuation(29, (5,))),
    *(Continuation(range(4, 9).start, tuple(IDS[9:])), Continuation(30)),
    Continuation(1, (33,) * 20),
)
FAMILIES = (
    *("llama", "gpt2", "gemma2", "mistral", "mixtral", "gpt_oss", "bloom"),
    *("mamba", "jamba", "recurrent_gemma"),
)


def plain(model, ids, last=1):
    """The logits of the last rows of a plain pass. [row, token]"""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -last:]


def whole(text):
    return [*IDS[: text.kept], *text.tail]


def run_on(scope, ids=IDS):
    recording = scope.record(ids)
    return scope._instrumented.passes(lens("ablation"), recording), recording


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.few(3)
def test_logits_are_those_of_plain_passes(family):
    model = small_model(family)
    run, recording = run_on(scope_of(family))
    for last in (1, 3):
        found = list(continued(run, recording, TEXTS, last))
        assert len(found) == len(TEXTS)
        for text, logits in zip(TEXTS, found, strict=True):
            own = plain(model, whole(text), last)
            assert logits.shape == own.shape
            assert float((logits - own).abs().max()) <= 1e-4 * float(own.abs().max()), text


@pytest.mark.parametrize(
    ("family", "length"), [("phi3", BORDER - 2), ("phi3", 30), ("llama", BORDER - 2)]
)
def test_where_the_length_changes_every_row_nothing_is_reused(family, length):
    run, recording = run_on(scope_of(family, small_model(family, **MODELS[family])), IDS[:length])
    texts = [
        *(Continuation(10, tuple(IDS[12:size])) for size in (14, 16, 20, 25, 29)),
        *(without(recording, range(at, at + 2)) for at in (3, 6, 9, 12)),
    ]
    for text, logits in zip(texts, continued(run, recording, texts, 1), strict=True):
        ids = [*IDS[: text.kept], *text.tail]
        own = plain(small_model(family, **MODELS[family]), ids)  # its rotations have a state
        assert float((logits - own).abs().max()) <= 1e-4 * float(own.abs().max()), text


def test_only_the_tail_runs_and_like_texts_run_together(monkeypatch):
    run, recording = run_on(scope_of("llama"))
    ran = []

    def counting(ids, **options):
        ran.append((len(ids), len(ids[0])))
        return run(ids, **options)

    list(continued(counting, recording, [Continuation(25, (4, 5))], 1))
    assert ran == [(1, 3)]  # the last reused token runs again
    ran.clear()
    texts = [without(recording, range(at, at + 2)) for at in (20, 19, 18, 17, 16)]
    list(continued(counting, recording, texts, 1))
    assert [count for count, _ in ran] == [1, 4]  # the first tells that lengths are alike
    ran.clear()
    monkeypatch.setattr(continuations, "TOKENS", {"cpu": 1})
    list(continued(counting, recording, texts, 1))
    assert [count for count, _ in ran] == [1] * 5


def test_a_forced_answer_is_the_product_of_its_tokens():
    model = small_model("llama").double()
    run, recording = run_on(scope_of("llama"))
    suffix, answer = (7, 9), (50, 3, 12)
    texts = [Continuation(at) for at in (3, 11, 30)]
    for text, one in zip(texts, forced(run, recording, texts, suffix, answer), strict=True):
        logits = plain(model, [*whole(text), *suffix, *answer[:-1]], 3)
        spoken = logits.log_softmax(-1)[range(3), answer]
        assert one.log_p.numpy() == pytest.approx(spoken.numpy(), abs=1e-5)
        assert one.total == pytest.approx(float(spoken.sum()), abs=1e-5)
        assert one.says == int(logits[0].argmax())
    first, second = forced(run, recording, texts[:2], suffix, answer)
    p, q = (plain(model, [*whole(one), *suffix], 1).log_softmax(-1)[0] for one in texts[:2])
    assert first.kl(second) == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-5)


def test_the_models_own_answer_is_its_greedy_continuation():
    model = small_model("llama")
    run, recording = run_on(scope_of("llama"))
    ids = [*IDS[:20], 7, 9]
    for _ in range(4):
        ids.append(int(plain(model, ids)[0].argmax()))
    text = Continuation(20)
    assert own_answer(run, recording, text, (7, 9), length=4) == tuple(ids[22:])
    assert own_answer(run, recording, text, (7, 9), length=4, ends=ids[22:23]) == ()
