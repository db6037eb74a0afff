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


def test_bars_of_items_are_scaled_to_bytes(heard):
    meter = Meter(heard, "x", 300)
    with bar_for(meter)(["a", "b", "c"], desc="y") as bar:
        assert list(bar) == ["a", "b", "c"]
    assert [done for _, done, _ in heard.calls] == [0, 100, 200, 300]


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
    assert {stage for stage, _, _ in heard[1].calls} == {"b"}
