"""Models whose layers keep a state go on from it: a letter, an erased one or an edit runs little.

Each recording is held against a fresh pass over all tokens, its maps too. A wrong state is off by
1e-4 and more (a step size that is not bounded) or 1e-1 (a state that is dropped).
"""

import pytest
import torch

from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture import resume
from llmscope.record.capture.recorder import STEPS
from llmscope.record.capture.resume import EVERY, MOST
from llmscope.record.derive.verify import verify
from tests.all_families import small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.record.walk import compare, figures, walk

LIMIT = 5e-5
"""Rounding of another order of sums, in float32 throughout the recurrences."""
KINDS = (
    "qwen3_next",  # gated DeltaNet, experts and gated attention
    "kimi_linear",
    "mamba",
    "mamba2",
    "nemotron_h",  # Mamba-2 with bounded step sizes
    "lfm2",  # short convolutions
    "rwkv",  # a state of its own
    "falcon_h1",  # attention and Mamba-2 side by side
    "jamba",
    "olmo_hybrid",
)
ONE_BY_ONE = ("mamba", "jamba")
"""transformers drops the state of Mamba where several tokens follow it."""
BOUNDED = ("nemotron_h",)
"""transformers does not bound the step size of a single token."""


def recorders(family):
    """Two recorders of a family, examined."""
    model = small_model(family)
    pair = recorder_for(model), recorder_for(model)
    for recorder in pair:
        verify(recorder)
    return pair


def check(live, reference, ids):
    """Record, compare all layers with a fresh pass, and return the recording."""
    recording = live.record(prompt_of(ids))
    fresh = reference.record(prompt_of(ids), fresh=True)
    for layer in range(recording.layers):
        compare(figures(recording, layer), figures(fresh, layer), LIMIT)
    return recording


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.few(4)
def test_walk(family):
    live, reference = recorders(family)
    ran, reused, cancelled = walk(live, reference, steps=20, longest=48, seed=1, limit=LIMIT)
    assert reused > ran / 4
    assert cancelled


@pytest.mark.slow
@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("seed", [2, 3])
def test_long_walk(family, seed):
    live, reference = recorders(family)
    ran, reused, cancelled = walk(live, reference, steps=200, longest=48, seed=seed, limit=LIMIT)
    assert reused > (ran / 2 if family in ONE_BY_ONE + BOUNDED else ran)
    assert cancelled > 20


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.few(5)
def test_a_letter_runs_a_letter(family):
    live, reference = recorders(family)
    ids = [(5 * at + 3) % 90 for at in range(40)]
    check(live, reference, ids)
    for letter in (4, 9, 14, 33):
        ids.append(letter)
        assert check(live, reference, ids).ran <= (4 if family in BOUNDED else 1)
    ids.pop()
    assert check(live, reference, ids).ran == 0
    ids[-1] = 50  # another last token, as when a word grows
    assert check(live, reference, ids).ran <= (4 if family in BOUNDED else 1)


@pytest.mark.parametrize("family", [name for name in KINDS if name not in ONE_BY_ONE])
@pytest.mark.few(4)
def test_an_edit_in_the_middle_begins_at_a_state_before_it(family):
    live, reference = recorders(family)
    ids = [(5 * at + 3) % 90 for at in range(2 * EVERY + 30)]
    first = live.record(prompt_of(ids))
    ids[EVERY + 40] = 1
    second = check(live, reference, ids)
    assert second.reused == EVERY
    ids[EVERY + 40] = 2
    third = check(live, reference, ids)
    assert third.reused == EVERY + 40
    again = reference.record(first.prompt, fresh=True)
    compare(figures(first, 0), figures(again, 0), LIMIT)  # later passes left it as it was


def test_another_last_letter_of_a_long_prompt_runs_a_letter():
    live, reference = recorders("qwen3_next")
    ids = [(5 * at + 3) % 90 for at in range(EVERY + 30)]
    check(live, reference, ids)
    assert check(live, reference, [*ids[:-1], 9]).ran == 1


def test_one_by_one_no_more_than_few_tokens_run():
    live, reference = recorders("mamba")
    ids = [(5 * at + 3) % 90 for at in range(40)]
    check(live, reference, ids)
    ids += [7] * STEPS
    assert check(live, reference, ids).ran == STEPS
    ids += [7] * (STEPS + 1)
    assert check(live, reference, ids).reused == 0


def test_states_of_few_lengths_are_kept():
    live, _ = recorders("lfm2")
    ids = [3] * 30
    for letter in range(2 * MOST):
        ids.append(letter)
        recording = live.record(prompt_of(ids))
    assert len(recording.resume.states) == MOST
    assert recording.resume.longest(10) == 0
    assert recording.resume.longest(60) == 60


def test_a_model_whose_states_are_dropped_reuses_nothing(monkeypatch):
    model = small_model("qwen3_next")
    mixer = type(model.model.layers[0].linear_attn)
    forward = mixer.forward

    def forgetful(self, hidden_states, cache=None, **kwargs):
        return forward(self, hidden_states, cache=None, **kwargs)

    monkeypatch.setattr(mixer, "forward", forgetful)
    live = recorder_for(model)
    verify(live)
    ids = list(range(3, 30))
    live.record(prompt_of(ids))
    assert live.record(prompt_of([*ids, 4])).reused == 0


def test_nothing_is_left_on_the_model():
    live, _ = recorders("qwen3_next")
    assert isinstance(live.model, LoadedModel)
    ids = torch.tensor([list(range(3, 20))])
    before = live.model.module(ids, use_cache=False).logits
    live.record(prompt_of(range(3, 20)))
    live.record(prompt_of(range(3, 21)))
    assert torch.equal(live.model.module(ids, use_cache=False).logits, before)


def test_windows_beside_states_are_not_reused():
    """RecurrentGemma passes its probe, and was wrong after sixty edits."""
    live, reference = recorders("recurrent_gemma")
    ids = list(range(3, 30))
    check(live, reference, ids)
    assert check(live, reference, [*ids, 5]).reused == 0


def test_of_large_states_fewer_are_kept(monkeypatch):
    live, reference = recorders("qwen3_next")
    first = live.record(prompt_of([3, 5, 7]))
    size = resume._bytes_of(first.resume.states[3])
    assert size == sum(
        part.nbytes
        for layer in first.resume.states[3].values()
        for part in (*layer.recurrent_states.values(), *layer.conv_states.values())
    )
    monkeypatch.setattr(resume, "MOST_BYTES", 3 * size)
    ids = [(5 * at + 3) % 90 for at in range(9 * EVERY + 30)]
    recording = live.record(prompt_of(ids))
    for letter in range(5):
        recording = live.record(prompt_of([*ids, *range(letter + 1)]))
    regular = [count for count in recording.resume.states if count % EVERY == 0]
    assert regular == [4 * EVERY, 8 * EVERY, 9 * EVERY]
    assert len(recording.resume.states) == 6  # and those after the last three letters
    check(live, reference, [*ids[: 8 * EVERY + 3], 4])
