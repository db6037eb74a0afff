"""The first figures of several panes: one transfer, and each fails alone."""

import numpy as np
import pytest
import torch

from llmscope.engine import side_by_side as module
from llmscope.engine.side_by_side import side_by_side
from llmscope.figure import Figure
from llmscope.record.fetch import Fetch


def figure(name):
    return Figure(
        lens=name, title=name, kind="bars", axes=(), values=np.zeros(()), unit="", extra={}
    )


def look(name, log, *, waits=1, more=0, error=None):
    """A pane's figures: it waits for tensors that hold the length of its name, then for no more."""
    try:
        log.append(f"{name} begins")
        for _ in range(waits):
            (found,) = yield Fetch((torch.tensor(len(name)),))
            assert int(found) == len(name)
        if error is not None:
            raise error
        yield figure(name)
        for at in range(more):
            log.append(f"{name} goes on")
            yield figure(f"{name}{at}")
    except Exception as failure:
        yield figure(f"{name}: {failure}")


@pytest.fixture
def transfers(monkeypatch):
    """The number of tensors in each transfer."""
    counted, real = [], module.to_cpu

    def to_cpu(tensors):
        counted.append(len(tensors))
        return real(tensors)

    monkeypatch.setattr(module, "to_cpu", to_cpu)
    return counted


def titles(looks, begin=lambda at: None, newer=lambda: False):
    return [[one.title for one in figures] for figures in side_by_side(looks, begin, newer)]


def test_all_first_figures_wait_for_one_transfer(transfers):
    log = []
    looks = [look(name, log, more=1) for name in ("a", "bb", "ccc")]
    assert titles(looks, log.append) == [["a", "a0"], ["bb", "bb0"], ["ccc", "ccc0"]]
    assert [one for one in transfers if one] == [3]
    assert log == [
        *(0, "a begins", 1, "bb begins", 2, "ccc begins"),
        *("a goes on", "bb goes on", "ccc goes on"),
    ]


def test_without_a_wait_each_look_ends_before_the_next_begins(transfers):
    log = []
    looks = [look(name, log, waits=0, more=1) for name in ("a", "bb")]
    assert titles(looks, log.append) == [["a", "a0"], ["bb", "bb0"]]
    assert log == [0, "a begins", "a goes on", 1, "bb begins", "bb goes on"]
    assert not any(transfers)


def test_figures_that_wait_for_nothing_keep_their_place(transfers):
    log = []
    looks = [
        look("a", log, waits=0),
        look("bb", log),
        look("ccc", log, waits=0),
        look("d", log, waits=2),
    ]
    assert titles(looks) == [["a"], ["bb"], ["ccc"], ["d"]]
    assert [one for one in transfers if one] == [2, 1]


def test_a_failing_look_fails_alone(transfers):
    log = []
    looks = [
        look("a", log),
        look("bb", log, error=ValueError("no such head")),
        look("ccc", log),
    ]
    assert titles(looks) == [["a"], ["bb: no such head"], ["ccc"]]


def test_a_transfer_that_fails_is_tried_for_each_alone(monkeypatch):
    real = module.to_cpu

    def to_cpu(tensors):
        if len(tensors) > 1 or any(int(one) == 2 for one in tensors):
            raise RuntimeError("out of memory")
        return real(tensors)

    monkeypatch.setattr(module, "to_cpu", to_cpu)
    log = []
    looks = [look(name, log) for name in ("a", "bb", "ccc")]
    assert titles(looks) == [["a"], ["bb: out of memory"], ["ccc"]]


def test_no_further_look_is_begun_once_a_newer_request_is_there(transfers):
    log = []
    looks = [look(name, log) for name in ("a", "bb", "ccc")]
    shown = side_by_side(looks, lambda at: None, lambda: True)
    assert [one.title for one in next(shown)] == ["a"]
    assert log == ["a begins"]
    assert transfers == [1]
