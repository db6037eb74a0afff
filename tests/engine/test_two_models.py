"""Two models in the engine: both are freed, and requests for the second one are late-safe."""

import gc
import weakref

import pytest

from llmscope.engine.events import Loaded, Opened, OpenFailed, OpenRequest, Want
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from tests.engine.test_engine import IDS, NEXT, Screen, small_scope

KL = Want("kl", "model-diff", Focus(mode="kl"))


@pytest.fixture
def screen():
    def load(progress):
        scope = small_scope()
        scope.compare(small_scope())
        return scope

    screen = Screen(load)
    screen.engine.start()
    screen.wait(Loaded)
    yield screen
    assert screen.engine.close()


def scope_of(screen):
    return screen.engine._model.scope


def test_both_models_are_freed_when_another_is_opened(screen):
    a, b = (weakref.ref(one.model) for one in (scope_of(screen), scope_of(screen).other))
    screen.ask(1, IDS, KL, NEXT)
    assert screen.figures(1)["kl"].values.max() == 0
    screen.engine.ask(OpenRequest("other", lambda progress: small_scope()))
    screen.wait(Opened)
    gc.collect()
    assert a() is None
    assert b() is None


def test_a_second_model_that_is_replaced_is_freed(screen):
    a, b = (weakref.ref(one.model) for one in (scope_of(screen), scope_of(screen).other))
    screen.ask(1, IDS, KL)
    screen.figures(1)
    screen.engine.ask(OpenRequest("b", lambda progress: small_scope(), second=True))
    opened = screen.wait(Opened)
    assert opened.info.versus is not None
    gc.collect()
    assert a() is not None
    assert b() is None
    screen.engine.ask(OpenRequest("", None, second=True))
    assert screen.wait(Opened).info.versus is None


def test_one_that_fails_leaves_the_comparison(screen):
    before = scope_of(screen).other

    def fail(progress):
        raise ScopeError("no such model", "gpt2")

    screen.engine.ask(OpenRequest("b", fail, second=True))
    failed = screen.wait(OpenFailed)
    assert failed.error == "model B: no such model"
    assert failed.left.versus is not None
    assert scope_of(screen).other is before


def test_a_load_that_is_overtaken_changes_nothing(screen):
    before, screens = scope_of(screen).other, []

    def slow(progress):
        screens.append(screen.engine.ask(OpenRequest("later", None)))
        progress("reading the weights", 0, None)
        raise AssertionError("it was not given up")

    screen.engine.ask(OpenRequest("b", slow, second=True))
    assert screen.wait(Opened).request.spec == "later"
    assert scope_of(screen).other is before


def test_a_letter_runs_one_token_in_each(screen):
    screen.ask(1, IDS, KL)
    screen.figures(1)
    scope = scope_of(screen)
    ran = scope.ran_second
    assert ran == len(IDS)
    screen.ask(2, (*IDS, 7), KL)
    assert len(screen.figures(2)["kl"].values) == len(IDS) + 1
    assert scope.ran_second == ran + 1
