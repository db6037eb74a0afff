"""2,000 edits leave nothing behind."""

import gc
import random

import psutil
import pytest
import torch

import llmscope
from llmscope.record.derive import row_stats, tensors
from tests.families import small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.record.walk import edited


def live_tensors():
    gc.collect()
    return sum(type(thing) is torch.Tensor for thing in gc.get_objects())


def live(family):
    """A recorder, and the longest prompt to edit on it."""
    if family == "builtin:sort":
        return llmscope.load(family).recorder, 11
    return recorder_for(small_model(family, max_position_embeddings=256)), 256


@pytest.mark.slow
@pytest.mark.parametrize("family", ["builtin:sort", "gpt2", "llama"])
def test_memory_is_flat_after_the_first_edits(family):
    recorder, longest = live(family)
    vocabulary = recorder.model.anatomy.vocabulary
    chance = random.Random(3)
    ids = [chance.randrange(vocabulary) for _ in range(longest)]
    process = psutil.Process()
    counts, sizes = {}, []
    for step in range(2000):
        ids = edited(ids, vocabulary, chance, longest)
        if len(ids) < longest // 2:
            ids = ids + [chance.randrange(vocabulary) for _ in range(longest // 3)]
        recording = recorder.record(prompt_of(ids))
        *_, _ = row_stats.row_stats(recording)
        tensors.pattern(recording, step % 3)
        if step >= 200 and step % 100 == 0:
            # How many segments there are depends on the edits; what they hold may not grow.
            counts.setdefault(len(recording.parts), []).append(live_tensors())
            sizes.append(process.memory_info().rss)
        del recording
    assert any(len(alike) > 1 for alike in counts.values())
    assert all(max(alike) - alike[0] <= 2 for alike in counts.values()), counts
    half = len(sizes) // 2
    assert max(sizes[half:]) <= 1.05 * max(sizes[:half]) + 8e6
