"""What a model's generation_config asks for is what `generate` makes of it, token for token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation import WatermarkingConfig

import llmscope
from llmscope.engine.events import Sample
from llmscope.models.generation import processed, rules
from llmscope.models.sampler import Sampler, left
from llmscope.record.derive.tensors import logits_after
from tests.engine.writing import Writer, scope_of
from tests.models.vocabularies import byte_level

PROMPT = "the cat sat on the cat"
COUNT = 12


@pytest.fixture(scope="module")
def scope() -> llmscope.Scope:
    return scope_of("llama", byte_level())


@pytest.fixture
def wanted(scope: llmscope.Scope) -> Any:
    """A function that gives the model some settings, and takes them back after the test."""
    before = scope.model.generation_config

    def give(**settings: Any) -> None:
        scope.model.generation_config = GenerationConfig(pad_token_id=0, **settings)

    give()
    yield give
    scope.model.generation_config = before


def ids_of(scope: llmscope.Scope) -> list[int]:
    return list(scope.encode(PROMPT).ids)


def generated(scope: llmscope.Scope, count: int = COUNT, **settings: Any) -> list[int]:
    """What `generate` writes by the settings of the model."""
    ids = torch.tensor([ids_of(scope)])
    with torch.no_grad():
        out = scope.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, **settings
        )
    return [int(token) for token in out[0, ids.shape[1] :]]


def written(scope: llmscope.Scope, count: int = COUNT) -> list[int]:
    with Writer(scope, PROMPT) as writer:
        return writer.write(count)


def likely(scope: llmscope.Scope, wanted: Any) -> list[int]:
    """What it writes without any rule: the tokens that rules must act on."""
    wanted()
    return generated(scope)


CASES = {
    "repetition_penalty": lambda plain: {"repetition_penalty": 3.0},
    "repetition_penalty_below_1": lambda plain: {"repetition_penalty": 0.5},
    "encoder_repetition_penalty": lambda plain: {"encoder_repetition_penalty": 5.0},
    "no_repeat_ngram_size": lambda plain: {"repetition_penalty": 0.2, "no_repeat_ngram_size": 2},
    "encoder_no_repeat_ngram_size": lambda plain: {"encoder_no_repeat_ngram_size": 1},
    "bad_words_ids": lambda plain: {"bad_words_ids": [[plain[0]], plain[1:3]]},
    "suppress_tokens": lambda plain: {"suppress_tokens": plain[:3]},
    "begin_suppress_tokens": lambda plain: {"begin_suppress_tokens": plain[:2]},
    "sequence_bias": lambda plain: {"sequence_bias": [[[plain[0]], -50.0], [[7], 40.0]]},
    "eos_list": lambda plain: {"eos_token_id": [plain[4], plain[6]]},
    "min_length": lambda plain: {
        "eos_token_id": plain[2],
        "min_length": 16,
    },
    "min_new_tokens": lambda plain: {"eos_token_id": [plain[2], 5], "min_new_tokens": 5},
    "exponential_decay": lambda plain: {
        "eos_token_id": 5,
        "exponential_decay_length_penalty": (3, 9.0),
    },
    "remove_invalid_values": lambda plain: {
        "remove_invalid_values": True,
        "suppress_tokens": plain[:1],
    },
    "renormalize_logits": lambda plain: {"renormalize_logits": True, "repetition_penalty": 3.0},
    "all_together": lambda plain: {
        "repetition_penalty": 1.4,
        "no_repeat_ngram_size": 3,
        "suppress_tokens": plain[:1],
        "min_new_tokens": 4,
        "eos_token_id": [5, plain[3]],
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.few(4)
def test_each_rule_is_that_of_generate(scope: llmscope.Scope, wanted: Any, case: str) -> None:
    plain = likely(scope, wanted)
    settings = CASES[case](plain)
    wanted(**settings)
    theirs = generated(scope)
    assert written(scope) == theirs
    if case != "encoder_no_repeat_ngram_size":  # its prompt may hold nothing that is written
        assert theirs != plain, "a rule that changes nothing shows nothing"
    told = " ".join(rules(scope.model).applied)
    for name in settings:
        if name not in ("eos_token_id", "renormalize_logits"):
            assert name in told


@pytest.mark.parametrize("length", ["max_length", "max_new_tokens"])
def test_the_end_is_forced_at_the_length_of_the_config(
    scope: llmscope.Scope, wanted: Any, length: str
) -> None:
    before = len(ids_of(scope)) if length == "max_length" else 0
    wanted(forced_eos_token_id=9, eos_token_id=9, **{length: before + 4})
    ids = torch.tensor([ids_of(scope)])
    with torch.no_grad():
        out = scope.model.generate(ids, attention_mask=torch.ones_like(ids))
    theirs = out[0, ids.shape[1] :].tolist()
    assert written(scope) == theirs
    assert theirs[-1] == 9
    wanted(forced_eos_token_id=9)
    assert "forced_eos_token_id" in " ".join(rules(scope.model).ignored)
    assert rules(scope.model).applied == ()


def test_rules_count_from_the_prompt_wherever_one_goes_on(
    scope: llmscope.Scope, wanted: Any
) -> None:
    """Back to the first written token, and another branch from there."""
    plain = likely(scope, wanted)
    wanted(begin_suppress_tokens=plain[:1], min_new_tokens=6, eos_token_id=plain[1])
    with Writer(scope, PROMPT) as writer:
        first = tuple(writer.write(6))
        writer.back(first[:2])
        assert tuple(writer.write(4)) == first
    assert list(first) == generated(scope, 6)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.6, "top_k": 7, "top_p": 0.8}], ids=str)
def test_what_is_drawn_from_is_what_generate_draws_from(
    scope: llmscope.Scope, wanted: Any, settings: dict[str, Any]
) -> None:
    plain = likely(scope, wanted)
    wanted(repetition_penalty=1.7, suppress_tokens=plain[:2], min_new_tokens=3, eos_token_id=5)
    ids = ids_of(scope)
    recording = scope.record(ids)
    logits = processed(scope.model, ids, len(ids), logits_after(recording, len(ids) - 1))
    ours = left(logits, Sampler(**{"temperature": 1.0, **settings}))
    batch = torch.tensor([ids])
    with torch.no_grad():
        out = scope.model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            do_sample=True,
            max_new_tokens=1,
            output_scores=True,
            return_dict_in_generate=True,
            **({"top_k": 0} | settings),
        )
    theirs = out.scores[0][0].softmax(-1)
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not ours[plain[0]]


def test_the_walkthrough_writes_the_token_that_it_tells_of(
    scope: llmscope.Scope, wanted: Any
) -> None:
    plain = likely(scope, wanted)
    wanted(suppress_tokens=plain[:1])
    with Writer(scope, PROMPT) as writer:
        assert writer.draw(Sampler()).token != plain[0]
        writer.engine.ask(writer.request(Sample(Sampler(), rules=False)))
        from llmscope.engine.events import Sampled

        assert writer.wait(Sampled).token == plain[0]


def test_a_forced_token_is_taken_in_each_branch(scope: llmscope.Scope, wanted: Any) -> None:
    wanted(suppress_tokens=[token for token in range(len(scope.tokenizer)) if token != 11])
    with Writer(scope, PROMPT) as writer:
        assert writer.draw(Sampler()).token == 11
        assert writer.draw(Sampler(), branch=1, tried=(11,)).token == 11


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"num_beams": 4}, "num_beams 4"),
        ({"guidance_scale": 1.5}, "guidance_scale"),
        ({"watermarking_config": WatermarkingConfig()}, "watermarking_config"),
        ({"stop_strings": ["x"]}, "stop_strings"),
        ({"do_sample": True, "temperature": 0.7, "typical_p": 0.9}, "temperature 0.7"),
        ({"do_sample": True, "typical_p": 0.9}, "typical_p"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha"),
    ],
    ids=str,
)
def test_what_is_not_applied_is_told(
    scope: llmscope.Scope, wanted: Any, settings: dict[str, Any], word: str
) -> None:
    plain = likely(scope, wanted)
    wanted(**settings)
    found = rules(scope.model)
    assert word in " ".join(found.ignored)
    assert found.applied == ()
    assert scope.info().rules == found
    assert written(scope, 3) == plain[:3]


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": "x"},
        {"repetition_penalty": -1.0},
        {"bad_words_ids": 3},
        {"sequence_bias": [[[10**6], 1.0]]},
        {"suppress_tokens": "x" * 10**6},
        {"eos_token_id": "x"},
        {"exponential_decay_length_penalty": (1,), "eos_token_id": 5},
    ],
    ids=lambda one: str(one)[:50],
)
def test_a_damaged_config_is_one_line(
    scope: llmscope.Scope, wanted: Any, settings: dict[str, Any]
) -> None:
    for name, value in settings.items():  # as a file that transformers did not check
        setattr(scope.model.generation_config, name, value)
    with Writer(scope, PROMPT) as writer:
        error = writer.draw(Sampler()).error
    assert "generation_config" in error
    assert len(error) < 200
    assert "\n" not in error
    assert rules(scope.model).applied == ()


def test_without_rules_nothing_is_told(scope: llmscope.Scope, wanted: Any) -> None:
    assert rules(scope.model) == rules(object()) == scope.info().rules
    assert not rules(scope.model).applied
