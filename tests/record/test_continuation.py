"""Models whose cache is one of their own are run whole; nothing of a foreign cache is reused."""

import pytest
import torch

from llmscope.record.capture.recorder import NOT_REUSED
from llmscope.record.derive.verify import verify
from tests import all_families, families
from tests.record.conftest import prompt_of, recorder_for

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]
# Each stands for one way to say no to a DynamicCache: a ValueError, an IndexError, an error on the
# second pass alone, a TypeError; and XLNet says that its context holds −1 tokens.
OWN_CACHES = ("minimax", "zaya", "prophetnet", "xlnet")


def examined(model):
    recorder = recorder_for(model)
    verify(recorder)
    return recorder


@pytest.mark.parametrize("family", OWN_CACHES)
def test_a_model_that_takes_no_cache_is_recorded_whole(family):
    recorder = examined(all_families.small_model(family))
    recorder.record(prompt_of(IDS[:9]))
    recording = recorder.record(prompt_of(IDS))
    with torch.no_grad():
        own = all_families.small_model(family)(input_ids=torch.tensor([IDS]), use_cache=False)
    assert recording.reused == 0
    assert recording.past is None
    assert torch.allclose(recording.logits, own.logits[0, -1], atol=1e-5)


def test_a_model_that_takes_one_goes_on_from_it():
    recorder = examined(families.small_model("gemma2"))
    recorder.record(prompt_of(IDS[:9]))
    assert recorder.record(prompt_of(IDS)).reused == 9


def test_a_cache_that_is_continued_wrongly_is_not_used():
    model = families.small_model("llama")
    forward = model.forward

    def shifted(*args, cache=None, **kwargs):
        if cache is not None and cache.get_seq_length():
            kwargs["position_ids"] = torch.zeros_like(kwargs["input_ids"])
        return forward(*args, cache=cache, **kwargs)

    model.forward = shifted
    recorder = examined(model)
    assert recorder.record(prompt_of(IDS[:9])).past is None
    recording = recorder.record(prompt_of(IDS))
    assert recording.reused == 0
    assert NOT_REUSED in recording.prompt.notices


def test_a_whole_pass_that_a_cache_changes_is_run_without_one():
    model = families.small_model("llama")
    forward = model.forward

    def louder(*args, cache=None, **kwargs):
        output = forward(*args, cache=cache, **kwargs)
        if cache is not None:
            output.logits = output.logits * 1.1
        return output

    model.forward = louder
    recording = examined(model).record(prompt_of(IDS))
    own = families.small_model("llama")(input_ids=torch.tensor([IDS])).logits[0, -1]
    assert recording.past is None
    assert torch.allclose(recording.logits, own, atol=1e-5)


def test_a_prompt_of_one_token_shows_no_reuse():
    recorder = recorder_for(families.small_model("llama"))
    prompt = prompt_of(IDS[:1])
    recorder.examine(prompt, recorder.run([prompt.ids]).logits[0, -1])
    recorder.record(prompt_of(IDS[:9]))
    assert recorder.record(prompt_of(IDS)).reused == 0
