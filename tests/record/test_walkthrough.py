"""200 random edits on each family: reuse never changes a number."""

import pytest

from tests.families import small_model
from tests.record.conftest import recorder_for
from tests.record.walk import walk

WALKED = ("gpt2", "gpt_neox", "llama", "qwen3", "gemma3_text", "opt", "deepseek_v3")


@pytest.mark.slow
@pytest.mark.parametrize("family", WALKED)
def test_reuse_gives_what_a_fresh_run_gives(family):
    live, reference = (recorder_for(small_model(family)) for _ in range(2))
    ran, reused, cancelled = walk(live, reference, steps=200, longest=48, seed=7)
    assert reused > ran  # otherwise nothing was put to the test
    assert cancelled > 20
