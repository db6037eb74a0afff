"""How far a pass is: the layer that runs, as often as the clock allows."""

from __future__ import annotations

from llmscope.engine.layer_progress import EVERY, LayerProgress


def reports(seconds_a_layer: float, layers: int, calls: int) -> list[tuple[int, int]]:
    """What is reported of a pass, or several, whose clock runs by a step a layer."""
    now, told = [0.0], []
    progress = LayerProgress(
        lambda: False, layers, lambda *at: told.append(at), clock=lambda: now[0]
    )
    for _ in range(calls):
        now[0] += seconds_a_layer
        assert progress() is False
    return told


def test_a_short_pass_reports_nothing() -> None:
    assert reports(EVERY / 40, 30, 30) == []


def test_a_slow_pass_reports_each_layer_and_a_second_one_begins_anew() -> None:
    assert reports(EVERY * 1.01, 3, 5) == [(1, 3), (2, 3), (3, 3), (1, 3), (2, 3)]


def test_quick_layers_are_reported_as_often_as_the_clock_allows() -> None:
    assert reports(EVERY / 3.99, 30, 12) == [(4, 30), (8, 30), (12, 30)]


def test_it_says_whether_the_pass_was_cancelled() -> None:
    assert LayerProgress(lambda: True, 3, lambda *_: None)() is True
