"""Which number of threads a pass over a few tokens gets: the one that took least, tried again."""

from contextlib import nullcontext
from itertools import count

import pytest
import torch

from llmscope.record.capture import threads
from llmscope.record.capture.threads import AGAIN, FEW, TRIALS, Threads
from tests.families import small_model
from tests.record.conftest import prompt_of, recorder_for


@pytest.fixture
def two():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def chosen(pace, clock, costs, tokens=1):
    with pace.of_few(tokens):
        number = torch.get_num_threads()
        clock[0] += costs[number] * tokens
    return number


@pytest.mark.parametrize("faster", [1, 2])
def test_the_faster_one_is_taken_until_the_machine_changes(monkeypatch, two, faster):
    clock = [0.0]
    monkeypatch.setattr(threads.time, "perf_counter", lambda: clock[0])
    costs = {faster: 1.0, 3 - faster: 1.2}
    pace = Threads(torch.device("cpu"))
    tried = [chosen(pace, clock, costs) for _ in range(2 * TRIALS)]
    assert sorted(tried) == [1] * TRIALS + [2] * TRIALS
    taken = {chosen(pace, clock, costs, tokens) for tokens in (1, 2, FEW) for _ in range(5)}
    assert taken == {faster}
    costs = {3 - faster: 1.0, faster: 1.2}
    later = [chosen(pace, clock, costs) for _ in range(AGAIN + 2 * TRIALS)]
    assert later[-1] == 3 - faster
    assert torch.get_num_threads() == 2


def test_one_thread_that_takes_far_longer_is_tried_once_each_time(monkeypatch, two):
    clock = [0.0]
    monkeypatch.setattr(threads.time, "perf_counter", lambda: clock[0])
    pace = Threads(torch.device("cpu"))
    tried = [chosen(pace, clock, {1: 1.5, 2: 1.0}) for _ in range(2 * AGAIN)]
    assert tried.count(1) == 2
    assert [chosen(pace, clock, {1: 1.0, 2: 2.0}) for _ in range(AGAIN)][-1] == 1


def test_many_tokens_and_other_devices_keep_all_threads(two):
    for device, tokens in (("cpu", FEW + 1), ("meta", 1)):
        pace = Threads(torch.device(device))
        for _ in range(2 * TRIALS):
            with pace.of_few(tokens):
                assert torch.get_num_threads() == 2


def test_a_failed_pass_gives_the_threads_back_and_counts_for_nothing(two):
    pace = Threads(torch.device("cpu"))
    for _ in range(10):
        with pytest.raises(ValueError, match="given up"), pace.of_few(1):
            raise ValueError("given up")
        assert torch.get_num_threads() == 2
    assert not any(pace._took.values())


def test_a_fresh_pass_never_depends_on_it(two, monkeypatch):
    recorder = recorder_for(small_model("llama"))
    used = []
    monkeypatch.setattr(
        recorder._threads, "of_few", lambda tokens: used.append(tokens) or nullcontext()
    )
    numbers = count(1)
    for _ in range(3):
        recorder.record(prompt_of([5, next(numbers)]), fresh=True)
    assert used == []
    recorder.record(prompt_of([5, 3, 9]))
    assert used == [1]
