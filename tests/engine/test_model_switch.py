"""One model after the other: the new one's figures are right, and the old one's memory is freed."""

import gc
import threading
import weakref

import pytest
import torch

from llmscope.edits import parse
from llmscope.engine.events import (
    Frame,
    Loaded,
    LoadFailed,
    Loading,
    Opened,
    OpenFailed,
    OpenRequest,
    Request,
)
from llmscope.errors import ScopeError
from llmscope.models.loading import memory
from tests.engine.test_engine import IDS, NEXT, Screen, small_scope


@pytest.fixture
def screen():
    screen = Screen(lambda progress: small_scope())
    screen.engine.start()
    screen.wait(Loaded)
    yield screen
    assert screen.engine.close()


def scope_of(screen):
    return screen.engine._model.scope


def open_other(screen, load, spec="other"):
    request = OpenRequest(spec, load)
    screen.engine.ask(request)
    return request


def wider():
    """A scope whose model has other numbers than the first one's."""
    torch.manual_seed(77)
    scope = small_scope()
    with torch.no_grad():
        for parameter in scope.model.parameters():
            parameter.mul_(1.5)
    return scope


def test_the_figures_after_a_switch_are_the_new_models(screen):
    screen.ask(1, IDS, NEXT)
    before = screen.figures(1)["next"]
    made = wider()
    request = open_other(screen, lambda progress: made)
    opened = screen.wait(Opened)
    assert opened.request is request
    screen.ask(2, IDS, NEXT)
    after = screen.figures(2)["next"]
    with torch.no_grad():
        logits = made.model(torch.tensor([IDS])).logits[0, -1]
    expected = logits.softmax(-1).sort(descending=True).values[: len(after.values)]
    assert after.values == pytest.approx(expected.numpy(), abs=1e-6)
    assert abs(after.values - before.values).max() > 1e-3


def test_nothing_holds_on_to_a_model_that_was_left(screen):
    """The module itself dies, after figures, a sweep, edits and a prompt B were made of it."""
    for turn in range(3):
        old = weakref.ref(scope_of(screen).model)
        edits = (parse("zero head 0.1"),)
        screen.engine.ask(Request(10 * turn, "", (NEXT,), ids=IDS, edits=edits, adapter=None))
        screen.figures(10 * turn)
        screen.ask(10 * turn + 1, IDS, NEXT)
        screen.figures(10 * turn + 1)
        assert old() is not None
        open_other(screen, lambda progress: small_scope(), f"other {turn}")
        screen.wait(Opened)
        gc.collect()
        assert old() is None, gc.get_referrers(old())


def test_what_cannot_be_opened_leaves_the_model_and_its_picture(screen):
    scope = scope_of(screen)
    screen.ask(1, IDS, NEXT)
    before = screen.figures(1)["next"]

    def fail(progress):
        raise ScopeError("no such model", "gpt2")

    open_other(screen, fail)
    failed = screen.wait(OpenFailed)
    assert (failed.error, failed.hint, failed.again) == ("no such model", "gpt2", False)
    assert failed.left == scope.info()
    assert scope_of(screen) is scope
    screen.ask(2, IDS, NEXT)
    frame = screen.wait(Frame)
    assert frame.cost.ran == 6  # the very pass of before
    assert frame.figures["next"] is before


@pytest.mark.parametrize("fits", [True, False])
def test_the_old_model_makes_room_only_where_both_would_not_fit(
    screen, tmp_path, monkeypatch, fits
):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1000)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(memory, "available", lambda device: 4445 if fits else 4443)
    old = weakref.ref(scope_of(screen).model)
    alive = []

    def load(progress):
        memory.make_room("one", tmp_path, torch.float32, torch.device("cpu"))
        gc.collect()
        alive.append(old() is not None)
        return small_scope()

    open_other(screen, load)
    screen.wait(Opened)
    assert alive == [fits]


def test_a_model_that_had_to_make_room_is_loaded_again_where_the_other_fails():
    loads = []

    def first(progress):
        loads.append(small_scope().info())
        return small_scope()

    screen = Screen(first)
    screen.engine.start()
    screen.wait(Loaded)

    def fail(progress):
        memory._RESERVE.get()()
        raise RuntimeError("torn")

    open_other(screen, fail)
    failed = screen.wait(OpenFailed)
    assert (failed.error, failed.again, len(loads)) == ("RuntimeError: torn", True, 2)
    assert failed.left == loads[0]
    screen.ask(1, IDS, NEXT)
    assert screen.figures(1)["next"].verdict.status == "verified"
    assert screen.engine.close()


def test_a_load_that_is_under_way_is_given_up_for_another(screen):
    begun = threading.Event()

    def endless(progress):
        while True:
            progress("loading", 1.0, None)
            begun.set()

    open_other(screen, endless, "endless")
    assert begun.wait(10)
    second = open_other(screen, lambda progress: small_scope(), "second")
    assert screen.wait(Opened).request is second


def test_one_may_stay_with_what_is_open_after_all(screen):
    scope, begun = scope_of(screen), threading.Event()

    def endless(progress):
        while True:
            progress("loading", 1.0, None)
            begun.set()

    open_other(screen, endless, "endless")
    assert begun.wait(10)
    open_other(screen, None, "first")
    assert screen.wait(Opened).info == scope.info()
    assert scope_of(screen) is scope


def test_after_a_first_model_that_failed_another_may_be_opened():
    def fail(progress):
        raise ScopeError("no such model", "another")

    screen = Screen(fail)
    screen.engine.start()
    screen.wait(LoadFailed)
    screen.ask(1, IDS, NEXT)  # there is nothing to answer it with
    open_other(screen, lambda progress: small_scope())
    screen.wait(Opened)
    open_other(screen, fail)
    assert screen.wait(OpenFailed).left is not None
    screen.ask(2, IDS, NEXT)
    assert set(screen.figures(2)) == {"next"}
    assert screen.engine.close()


def test_the_first_load_is_given_up_for_another_model():
    def endless(progress):
        while True:
            progress("loading", 1.0, None)

    screen = Screen(endless)
    screen.engine.start()
    screen.wait(Loading)
    open_other(screen, lambda progress: small_scope())
    screen.wait(Opened)
    assert screen.engine.close()


def test_what_was_asked_before_a_switch_is_not_answered_by_the_other_model(screen):
    inside, go = threading.Event(), threading.Event()

    def slow(progress):
        inside.set()
        assert go.wait(10)
        return small_scope()

    open_other(screen, slow)
    assert inside.wait(10)
    third = open_other(screen, lambda progress: small_scope(), "third")
    screen.ask(1, IDS, NEXT)  # dropped: another model is asked for
    go.set()
    while screen.wait(Opened).request is not third:
        pass
    screen.ask(2, IDS, NEXT)
    assert screen.wait(Frame).serial == 2


def test_a_real_load_asks_for_room_before_it_takes_any(monkeypatch):
    """Its weights are counted once they are here, and the old model goes before they are read."""
    from llmscope.models.loading import load as loading

    free, calls = [10], []
    monkeypatch.setattr(memory, "available", lambda device: free[0])
    read = loading._model
    monkeypatch.setattr(loading, "_model", lambda *a: calls.append("read") or read(*a))

    def release():
        calls.append("released")
        free[0] = 10**12

    with memory.reserve(release):
        loading.load_model("builtin:sort", device="cpu")
    assert calls == ["released", "read"]
    calls.clear()
    with memory.reserve(release):
        loading.load_model("builtin:sort", device="cpu")
    assert calls == ["read"]
