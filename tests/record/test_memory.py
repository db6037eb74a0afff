"""2,000 edits leave nothing behind."""

import gc
import random

import psutil
import pytest
import torch

from llmscope.record import derive, reduce
from tests.families import small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.record.walk import edited


def tensors():
    gc.collect()
    return sum(type(thing) is torch.Tensor for thing in gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_memory_is_flat_after_the_first_edits(family):
    recorder = recorder_for(small_model(family, max_position_embeddings=256))
    chance = random.Random(3)
    ids = [chance.randrange(96) for _ in range(200)]
    process = psutil.Process()
    counts, sizes = [], []
    for step in range(2000):
        ids = edited(ids, 96, chance, 256)
        if len(ids) < 150:
            ids = ids + [chance.randrange(96) for _ in range(100)]
        recording = recorder.record(prompt_of(ids))
        *_, _ = reduce.row_stats(recording)
        derive.pattern(recording, step % 3)
        del recording
        if step >= 200 and step % 100 == 0:
            counts.append(tensors())
            sizes.append(process.memory_info().rss)
    # The number of segments varies with the edits; growth would show as a trend.
    half = len(counts) // 2
    assert max(counts[half:]) <= 1.5 * max(counts[:half])
    assert max(sizes[half:]) <= 1.05 * max(sizes[:half]) + 8e6
