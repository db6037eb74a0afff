"""Writing on: the tokens are those of transformers' `generate`, and to go back takes no pass."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

import llmscope
from llmscope.edits import parse
from llmscope.engine.sampling import BRANCHES, stops
from llmscope.models.sampler import Sampler
from tests.engine.writing import Writer, generated, same, scope_of
from tests.models.vocabularies import byte_fallback, byte_level

FAMILIES = {"llama": byte_fallback, "gpt2": byte_level}
PROMPT = "the cat sat on"


@pytest.fixture(params=FAMILIES)
def scope(request: pytest.FixtureRequest) -> llmscope.Scope:
    return scope_of(request.param, FAMILIES[request.param]())


def ids_of(scope: llmscope.Scope, text: str) -> list[int]:
    return list(scope.tokenizer(text)["input_ids"])


def test_greedy_is_generate_token_for_token(scope: llmscope.Scope) -> None:
    ids = ids_of(scope, PROMPT)
    with Writer(scope, PROMPT) as writer:
        written = writer.write(30)
    assert written == generated(scope.model, ids, 30, do_sample=False)
    assert len(set(written)) > 3, "no test of anything, if it says one thing again and again"


def test_the_model_that_ships_sorts() -> None:
    scope = llmscope.load("builtin:sort", device="cpu")
    with Writer(scope, "CABACB") as writer:
        written = writer.write(5)
        assert writer.said == "AABBC"
        assert writer.draw(Sampler()).full
    assert written == generated(scope.model, ids_of(scope, "CABACB"), 5, do_sample=False)


def test_what_was_drawn_stands_whatever_the_tokenizer_makes_of_it(scope: llmscope.Scope) -> None:
    with Writer(scope, PROMPT) as writer:
        written = writer.write(25, Sampler(2.0, seed=1))
        tokens = writer.look().tokens
    ids = ids_of(scope, PROMPT)
    assert [token.id for token in tokens] == [*ids, *written]
    assert ids_of(scope, writer.text + writer.said) != [*ids, *written], "it would be no test"
    for token in tokens[len(ids) :]:
        shown = (writer.text + writer.said)[token.start : token.end]
        assert token.start >= len(PROMPT)
        assert token.text == shown or "\\x" in token.text + shown or token.special


@pytest.mark.slow
def test_sampling_draws_from_what_generate_draws_from() -> None:
    """Both against the exact distribution, and so against one another: two tokens after a text."""
    scope = scope_of("llama", byte_level())
    ids, count = ids_of(scope, PROMPT), 600
    settings = {"temperature": 0.5, "top_k": 6, "top_p": 0.9}
    torch.manual_seed(0)
    theirs = Counter(
        tuple(generated(scope.model, ids, 2, do_sample=True, **settings)) for _ in range(count)
    )
    ours: Counter[tuple[int, ...]] = Counter()
    with Writer(scope, PROMPT) as writer:
        for seed in range(count):
            writer.back(())
            ours[tuple(writer.write(2, Sampler(0.5, 6, 0.9, seed=seed)))] += 1
    seen = [key for key in {*ours, *theirs} if ours[key] + theirs[key] >= 10]
    assert len(seen) > 3
    square = sum((ours[key] - theirs[key]) ** 2 / (ours[key] + theirs[key]) for key in seen)
    free = len(seen)
    assert square < free + 5 * math.sqrt(2 * free)  # five standard deviations of a chi-square


def test_a_token_taken_back_is_the_picture_before_without_a_pass(scope: llmscope.Scope) -> None:
    with Writer(scope, PROMPT) as writer:
        before = [writer.look()]
        for _ in range(6):
            writer.write(1)
            before.append(writer.look())
            assert before[-1].cost.reused == len(before[-2].tokens)
        whole = writer.ids
        for length in (5, 4, 3, 2, 1, 0, 6, 2, 6):
            writer.back(whole[:length])
            frame = writer.look()
            assert (frame.cost.ran, frame.cost.reused) == (0, len(frame.tokens))
            assert frame.tokens == before[length].tokens
            for key, figure in before[length].figures.items():
                assert same(frame.figures[key], figure), (key, length)


def test_branches_are_kept_with_their_passes(scope: llmscope.Scope) -> None:
    sampler = Sampler(1.5, seed=2)
    with Writer(scope, PROMPT) as writer:
        kept, frames = [], []
        for branch in range(3):
            writer.back(())
            assert writer.look().cost.ran == (0 if branch else len(ids_of(scope, PROMPT)))
            writer.write(5, sampler, branch)
            kept.append(writer.ids)
            frames.append(writer.look())
        assert len(set(kept)) == 3
        for at in (0, 1, 2, 1, 0):
            writer.back(kept[at])
            frame = writer.look()
            assert frame.cost.ran == 0
            for key, figure in frames[at].figures.items():
                assert same(frame.figures[key], figure), key
        writer.back(kept[1][:3])
        assert writer.look().cost.ran == 0
        assert writer.write(2, sampler, 1) == list(kept[1]), "drawn again, it is the same"


def test_no_more_branches_are_kept_than_there_is_room_for(scope: llmscope.Scope) -> None:
    with Writer(scope, PROMPT) as writer:
        for branch in range(BRANCHES + 3):
            writer.back(())
            writer.write(3, Sampler(1.5), branch)
        writer.look()
        aside = writer.engine._aside
        assert 1 < len(aside.kept) <= BRANCHES
        writer.ids, writer.said, writer.text = (), "", "another text"
        writer.look()
        assert aside.kept == []


def test_it_stops_where_generate_stops(scope: llmscope.Scope) -> None:
    ids = ids_of(scope, PROMPT)
    tokens = generated(scope.model, ids, 12, do_sample=False)
    end = next(at for at in range(2, 12) if tokens[at] not in tokens[:at])
    scope.model.generation_config.eos_token_id = [tokens[end], 5]
    assert stops(scope) == {tokens[end], 5}
    with Writer(scope, PROMPT) as writer:
        assert writer.write(12) == tokens[: end + 1]
        assert writer.ids == tuple(tokens[:end]), "the stop token itself is not written"
    assert generated(scope.model, ids, 12, do_sample=False) == tokens[: end + 1]


def test_an_edited_pass_writes_what_the_edited_model_says(scope: llmscope.Scope) -> None:
    with Writer(scope, PROMPT) as writer:
        plain = writer.write(8)
        writer.back(())
        writer.edits = (parse("zero mlp 1"), parse("zero mlp 2"))
        edited = writer.write(8)
    assert edited != plain
    ids = ids_of(scope, PROMPT)
    layers = find_mlps(scope.model)
    hooks = [
        layer.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
        for layer in layers[1:3]
    ]
    assert edited == generated(scope.model, ids, 8, do_sample=False)
    for hook in hooks:
        hook.remove()


def find_mlps(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [module for name, module in model.named_modules() if name.endswith(".mlp")]


def test_where_nothing_can_be_drawn_it_says_why() -> None:
    scope = scope_of("llama", byte_level())
    with torch.no_grad():
        scope.model.model.norm.weight.fill_(math.nan)
    with Writer(scope, PROMPT) as writer:
        assert "NaN" in writer.draw(Sampler(1.0)).error
