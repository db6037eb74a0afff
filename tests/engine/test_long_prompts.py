"""A prompt that runs in chunks: figures of its first part, progress, and what is kept of it."""

from dataclasses import replace

import numpy as np
import pytest

from llmscope.edits import parse
from llmscope.engine import Engine
from llmscope.engine.events import Frame, Request, Want, Working
from llmscope.figure import Focus
from llmscope.record.capture import recorder as recorder_module
from llmscope.record.capture import recording as recording_module
from tests.engine.test_engine import Screen, small_scope

IDS = tuple((7 * at * at + 3 * at + 5) % 90 + 3 for at in range(45))
TOKENS = Want("tokens", "tokens", Focus())
NEXT = Want("next", "next-token", Focus(position=-1))
ABLATION = Want("ablation", "ablation", Focus(position=-1))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(recorder_module, "CHUNK", 8)
    monkeypatch.setattr(recorder_module, "BLOCK", 4)
    monkeypatch.setattr(recording_module, "BLOCK", 4)
    monkeypatch.setattr(recorder_module, "SMALL", 1)
    monkeypatch.setattr("llmscope.engine.layer_progress.EVERY", 0.0)


@pytest.fixture
def scope():
    return small_scope()


@pytest.fixture
def screen(scope):
    screen = Screen(lambda _: scope)
    screen.engine.start()
    yield screen
    assert screen.engine.close()


def events_of(screen, serial, *wants, ids=IDS, **more):
    """All events up to the last frame of a request."""
    screen.engine.ask(Request(serial, "", wants, ids=ids, **more))
    found = []
    while not found or not (isinstance(found[-1], Frame) and found[-1].complete):
        found.append(screen.events.get(timeout=30))
    return found


def test_the_first_part_is_shown_before_the_rest_has_run(screen, scope):
    events = events_of(screen, 1, NEXT, TOKENS)
    frames = [one for one in events if isinstance(one, Frame)]
    parts = [one for one in frames if one.partial]
    assert {len(one.tokens) for one in parts} == {8}
    assert not any(one.complete for one in parts)
    assert len(frames[-1].tokens) == 45
    reading = [at for at, one in enumerate(events) if getattr(one, "task", "") == "reading token"]
    assert events.index(parts[-1]) < reading[-1]
    shown = {key: figure for one in parts for key, figure in one.figures.items()}
    alone = small_scope()
    alone.record(list(IDS[:8]))
    for want in (NEXT, TOKENS):
        own = alone.look(want.lens)
        found = shown[want.key]
        assert found.axes[0].labels == own.axes[0].labels
        assert np.allclose(found.values, own.values, atol=1e-5, equal_nan=True)


def test_progress_counts_tokens_and_tells_their_rate(screen):
    events = events_of(screen, 1, NEXT)
    reading = [one for one in events if isinstance(one, Working) and one.task == "reading token"]
    assert [one.done for one in reading] == sorted(one.done for one in reading)
    assert {one.total for one in reading} == {45}
    assert all(one.rate >= 0 for one in reading)
    assert reading[-1].rate > 0


def test_no_part_is_shown_that_lacks_the_token_of_the_cursor(screen):
    at = Want("next", "next-token", Focus(position=19))
    events = events_of(screen, 1, at, TOKENS)
    parts = [one for one in events if isinstance(one, Frame) and one.partial]
    assert {len(one.tokens) for one in parts} == {24}


def test_a_part_runs_no_sweep_and_is_not_compared(screen):
    events = events_of(screen, 1, ABLATION, NEXT)
    parts = [one for one in events if isinstance(one, Frame) and one.partial]
    done = [
        one.figures["ablation"].extra["progress"][0] for one in parts if "ablation" in one.figures
    ]
    assert set(done) <= {0}
    edited = events_of(screen, 2, NEXT, ids=IDS[::-1], edits=(parse("zero mlp 0"),))
    assert not any(isinstance(one, Frame) and one.partial for one in edited)


def test_a_part_runs_no_sweep_that_begins_with_a_result(screen, monkeypatch):
    look = Engine._look

    def swept(*given):
        for figure in look(*given):
            for done in (1, 2):
                yield replace(figure, extra={**figure.extra, "progress": (done, 3)})
            yield figure

    monkeypatch.setattr(Engine, "_look", swept)
    frames = [one for one in events_of(screen, 1, NEXT, TOKENS) if isinstance(one, Frame)]
    shown = [figure for one in frames if one.partial for figure in one.figures.values()]
    assert shown
    assert {figure.extra["progress"] for figure in shown} == {(1, 3)}
    assert "progress" not in frames[-1].figures[TOKENS.key].extra


def test_the_figures_of_the_whole_are_those_of_one_pass(screen, monkeypatch):
    events = events_of(screen, 1, NEXT, TOKENS)
    whole = {}
    for one in events:
        if isinstance(one, Frame) and not one.partial:
            whole |= one.figures
    monkeypatch.setattr(recorder_module, "CHUNK", 1000)
    alone = small_scope()
    alone.record(list(IDS))
    for want in (NEXT, TOKENS):
        own = alone.look(want.lens)
        assert np.allclose(whole[want.key].values, own.values, atol=1e-5, equal_nan=True)


def test_released_rows_are_told_with_the_bound(screen, scope):
    events_of(screen, 1, NEXT)
    scope.recorder.budget.limit = 1 << 14
    events = events_of(screen, 2, NEXT, ids=IDS[::-1])
    assert "keys and values" in events[-1].notices[-1]
    assert "memory=" in events[-1].notices[-1]
