"""When the engine is asked and when figures count as out of date, without a screen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmscope.tui.request_scheduler import FADING, PATIENCE, SETTLING, RequestScheduler


class Clock:
    """Timers that ring when the test lets time pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Ring] = []

    def set_timer(self, delay: float, callback: Callable[[], None]) -> Ring:
        self.timers.append(Ring(self.now + delay, callback))
        return self.timers[-1]

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [one for one in self.timers if one.at <= end and not one.stopped]:
            first = min(due, key=lambda one: one.at)
            self.now = first.at
            first.stopped = True
            first.callback()
        self.now = end


class Ring:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at, self.callback, self.stopped = at, callback, False

    def stop(self) -> None:
        self.stopped = True


class Screen:
    """Counts what the scheduler asks it for."""

    def __init__(self) -> None:
        self.waiting = self.generating = False
        self.asked = self.dropped = self.presented = 0
        self.sweeps: list[bool] = []
        self.scheduler: RequestScheduler | None = None

    def ask(self) -> None:
        assert self.scheduler is not None
        self.scheduler.request_sent()
        self.asked += 1
        self.sweeps.append(self.scheduler.sweeps)

    def drop_requests(self) -> None:
        self.dropped += 1

    def present(self) -> None:
        self.presented += 1


@pytest.fixture
def made() -> tuple[RequestScheduler, Screen, Clock]:
    screen, clock = Screen(), Clock()
    screen.scheduler = RequestScheduler(screen, clock.set_timer)
    return screen.scheduler, screen, clock


Made = tuple[RequestScheduler, Screen, Clock]


def test_a_letter_asks_at_once_and_for_sweeps_after_a_pause(made: Made) -> None:
    scheduler, screen, clock = made
    scheduler.typed(0)
    assert (screen.asked, screen.sweeps) == (1, [False])
    clock.pass_by(SETTLING - 0.01)
    assert screen.asked == 1
    scheduler.typed(0)  # the pause begins again
    clock.pass_by(SETTLING - 0.01)
    assert screen.sweeps == [False, False]
    clock.pass_by(0.02)
    assert screen.sweeps == [False, False, True]
    assert not scheduler.unsettled


def test_on_a_slow_link_letters_are_asked_for_together(made: Made) -> None:
    scheduler, screen, clock = made
    for _ in range(5):
        scheduler.typed(0.3)
        clock.pass_by(0.2)
    assert (screen.asked, screen.dropped) == (0, 5)
    assert scheduler.unsettled
    clock.pass_by(0.2)
    assert screen.asked == 1


def test_nothing_is_asked_during_a_long_pause_and_sweeps_at_its_end(made: Made) -> None:
    scheduler, screen, clock = made
    scheduler.typed(3 * SETTLING)
    clock.pass_by(3 * SETTLING - 0.01)
    assert screen.asked == 0
    clock.pass_by(0.02)
    assert screen.sweeps == [True]
    assert not scheduler.unsettled


def test_a_held_key_lets_the_running_pass_land_first(made: Made) -> None:
    scheduler, screen, _ = made
    scheduler.moved(patiently=True)
    assert screen.asked == 1
    screen.waiting = True
    scheduler.moved(patiently=True)
    scheduler.moved(patiently=True)
    assert screen.asked == 1
    assert scheduler.changing_strength
    screen.waiting = False
    scheduler.finish(late=False)
    assert screen.asked == 2
    scheduler.finish(late=False)
    assert screen.asked == 2
    assert not scheduler.changing_strength


def test_a_single_move_asks_though_a_pass_runs(made: Made) -> None:
    scheduler, screen, _ = made
    screen.waiting = True
    scheduler.moved(patiently=False)
    assert screen.asked == 1


def test_figures_are_marked_as_late_then_dimmed_then_neither(made: Made) -> None:
    scheduler, screen, clock = made
    screen.waiting = True
    scheduler.expect()
    clock.pass_by(PATIENCE - 0.01)
    assert (scheduler.late, scheduler.dim, scheduler.running) == (False, False, False)
    clock.pass_by(0.02)
    assert (scheduler.late, scheduler.dim, scheduler.running) == (True, False, True)
    clock.pass_by(FADING - PATIENCE)
    assert (scheduler.late, scheduler.dim) == (True, True)
    scheduler.finish(late=False)
    assert (scheduler.late, scheduler.dim, scheduler.running) == (False, False, False)


def test_a_quick_answer_is_never_marked(made: Made) -> None:
    scheduler, screen, clock = made
    scheduler.expect()
    scheduler.finish(late=False)
    screen.waiting = True  # of a later request, which expects anew
    clock.pass_by(10)
    assert not scheduler.late


def test_while_the_model_writes_on_nothing_is_marked(made: Made) -> None:
    scheduler, screen, clock = made
    screen.waiting = screen.generating = True
    scheduler.expect()
    clock.pass_by(10)
    assert not scheduler.late


def test_figures_that_never_come_stay_late(made: Made) -> None:
    scheduler, _, _ = made
    scheduler.expect()
    scheduler.finish(late=True)
    assert (scheduler.late, scheduler.dim, scheduler.running) == (True, True, False)
    assert not scheduler.unsettled
