import logging
import sys
import warnings

import pytest

from llmscope.models import progress
from llmscope.models.progress import Meter, bar_for, silenced, transformers_bars
from tests.models.checkpoints import Heard


@pytest.fixture
def heard(monkeypatch):
    monkeypatch.setattr(progress, "_INTERVAL", -1)  # tell everything
    return Heard()


def test_a_meter_never_runs_backwards(heard):
    meter = Meter(heard, "x", 10)
    for done in (4, 2, 10):
        meter.reach(done)
    assert heard.calls == [("x", 0, 10), ("x", 4, 10), ("x", 4, 10), ("x", 10, 10)]


def test_a_meter_speaks_seldom_but_says_the_end(monkeypatch):
    monkeypatch.setattr(progress, "_INTERVAL", 1000)
    heard = Heard()
    meter = Meter(heard, "x", 10)
    for done in range(11):
        meter.reach(done)
    assert heard.calls == [("x", 0, 10), ("x", 10, 10)]


def test_bars_of_bytes_tell_their_bytes(heard):
    meter = Meter(heard, "x")
    bar = bar_for(meter)(total=0, unit="B", initial=1, desc="y")
    bar.total = 8
    bar.update(3)
    bar.set_postfix_str("ignored")
    bar.close()
    assert heard.calls[-1] == ("x", 4, 8)


def test_bars_of_items_of_unknown_size_tell_their_number_and_no_bytes(heard):
    meter = Meter(heard, "x", 300)
    with bar_for(meter)(["a", "b", "c"], desc="y") as bar:
        assert list(bar) == ["a", "b", "c"]
    assert [stage for stage, _, _ in heard.calls] == ["x", "x (1 of 3)", "x (2 of 3)", "x (3 of 3)"]
    assert {done for _, done, _ in heard.calls} == {0}


def test_bars_of_tensors_tell_the_bytes_of_each(heard):
    meter = Meter(heard, "x", 300, {"a": 250, "b": 40})
    items = {"a": 1, "tied": 2, "b": 3}.items()
    assert list(bar_for(meter)(items)) == list(items)
    assert [done for _, done, _ in heard.calls] == [0, 250, 250, 290, 300]
    assert {stage for stage, _, _ in heard.calls} == {"x"}


def test_tensors_that_are_merged_on_the_way_are_counted_instead(heard):
    meter = Meter(heard, "x", 300, {"a.0": 150, "a.1": 100, "b": 50})
    list(bar_for(meter)({"a": 1, "b": 2}.items()))
    assert [stage for stage, _, _ in heard.calls] == ["x", "x (1 of 2)", "x (2 of 2)"]


def test_items_without_a_total_tell_nothing(heard):
    meter = Meter(heard, "x")
    assert list(bar_for(meter)(iter("ab"))) == ["a", "b"]
    assert heard.calls == [("x", 0, None)]


def test_libraries_are_silent_only_inside(capfd):
    logger = logging.getLogger("huggingface_hub.test")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    try:
        with silenced():
            logger.error("inside")
            warnings.warn("inside", stacklevel=1)
        logger.error("outside")
    finally:
        logger.removeHandler(handler)
    assert capfd.readouterr().err == "outside\n"


def test_silence_that_overlaps_ends_with_the_last():
    logger = logging.getLogger("huggingface_hub")
    before, filters = logger.level, list(warnings.filters)
    first, second = silenced(), silenced()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logger.level > logging.CRITICAL
    second.__exit__(None, None, None)
    assert (logger.level, warnings.filters) == (before, filters)


def test_bars_of_loads_that_overlap_leave_nothing_behind():
    from transformers.utils import logging as library

    before = library.set_tqdm_hook(None)
    library.set_tqdm_hook(before)
    heard = Heard(), Heard()
    first, second = (
        transformers_bars(Meter(told, name)) for told, name in zip(heard, "ab", strict=True)
    )
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    list(library.tqdm(range(3), disable=False))  # the second load goes on
    second.__exit__(None, None, None)
    assert library.set_tqdm_hook(before) is before
    assert heard[1].calls
    assert {stage for stage, _, _ in heard[0].calls} == {"a"}
    assert heard[1].calls[-1] == ("b (3 of 3)", 0, None)
