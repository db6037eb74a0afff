"""Models whose cache is one of their own are run whole; nothing of a foreign cache is reused."""

import pytest
import torch

from llmscope.record.continuation import can_continue
from tests import all_families, families
from tests.record.conftest import prompt_of, recorder_for

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]
# Each stands for one way to say no to a DynamicCache: a ValueError, an IndexError, an error on the
# second pass alone, a TypeError; and XLNet says that its context holds −1 tokens.
OWN_CACHES = ("minimax", "zaya", "prophetnet", "xlnet")


@pytest.mark.parametrize("family", OWN_CACHES)
def test_a_model_that_takes_no_cache_is_recorded_whole(family):
    recorder = recorder_for(all_families.small_model(family))
    recorder.record(prompt_of(IDS[:9]))
    recording = recorder.record(prompt_of(IDS))
    with torch.no_grad():
        own = all_families.small_model(family)(input_ids=torch.tensor([IDS]), use_cache=False)
    assert recording.reused == 0
    assert recording.past is None
    assert torch.allclose(recording.logits, own.logits[0, -1], atol=1e-5)


def test_a_model_that_takes_one_goes_on_from_it():
    recorder = recorder_for(families.small_model("gemma2"))
    recorder.record(prompt_of(IDS[:9]))
    assert recorder.record(prompt_of(IDS)).reused == 9


def test_a_cache_that_is_continued_wrongly_is_not_used(monkeypatch):
    model = families.small_model("llama")
    forward = model.forward

    def shifted(*args, cache=None, **kwargs):
        output = forward(*args, cache=cache, **kwargs)
        if cache is not None and kwargs["input_ids"].shape[1] < cache.get_seq_length():
            output.logits *= 1.1
        return output

    recorder = recorder_for(model)
    assert can_continue(recorder, tuple(IDS))
    monkeypatch.setattr(model, "forward", shifted)
    assert not can_continue(recorder, tuple(IDS))


@pytest.mark.parametrize("ids", [(5,), ()])
def test_nothing_is_said_of_a_model_whose_context_holds_one_token(ids):
    assert not can_continue(recorder_for(families.small_model("llama")), ids)
