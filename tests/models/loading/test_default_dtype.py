"""A load in another thread leaves a pass, and what comes after it, torch's default dtype."""

from threading import Event, Thread

import pytest
import torch

from llmscope.models.loading.at_rest import default_settings
from llmscope.models.loading.default_dtype import loading_as

LONG = 30


def load(dtype, begun, done):
    """As transformers loads a model: its dtype is torch's default one meanwhile."""
    with loading_as(dtype):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        begun.set()
        done.wait(LONG)
        torch.set_default_dtype(before)


def test_a_pass_waits_for_a_load_as_another_dtype():
    begun, done, dtypes = Event(), Event(), []
    loader = Thread(target=load, args=(torch.bfloat16, begun, done))
    loader.start()
    assert begun.wait(LONG)

    def run():
        with default_settings():
            dtypes.append(torch.zeros(1).dtype)

    runner = Thread(target=run)
    runner.start()
    runner.join(0.2)
    assert runner.is_alive(), "the pass began within the load"
    done.set()
    loader.join(LONG)
    runner.join(LONG)
    assert dtypes == [torch.float32]
    assert torch.get_default_dtype() == torch.float32


def test_a_load_waits_for_a_pass():
    begun, done = Event(), Event()
    done.set()
    with default_settings():
        loader = Thread(target=load, args=(torch.bfloat16, begun, done))
        loader.start()
        assert not begun.wait(0.2)
        assert torch.zeros(1).dtype == torch.float32
    loader.join(LONG)
    assert begun.is_set()


def test_a_load_as_float32_waits_for_nobody():
    begun, done = Event(), Event()
    done.set()
    with default_settings():
        loader = Thread(target=load, args=(torch.float32, begun, done))
        loader.start()
        assert begun.wait(LONG)
        loader.join(LONG)


@pytest.mark.parametrize("dtype", [torch.bfloat16, None])
def test_loads_within_settings_of_their_own_do_not_wait_for_each_other(dtype):
    started, ended = [Event(), Event()], []

    def open_model(number):
        with default_settings():
            started[number].set()
            assert started[1 - number].wait(LONG)
            with loading_as(dtype), loading_as(dtype):
                ended.append(number)

    threads = [Thread(target=open_model, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert sorted(ended) == [0, 1]
