"""Whatever foreign code raises, the engine's thread says so in one line and goes on."""

import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from llmscope.edits import parse
from llmscope.engine.events import (
    ChatRequest,
    ContextAdded,
    ContextRequest,
    Frame,
    Loaded,
    LoadFailed,
    Opened,
    OpenFailed,
    OpenRequest,
    Refused,
    Request,
    Sample,
    Sampled,
    Templated,
    Want,
)
from llmscope.figure import Focus
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.sampler import Sampler
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.scope.scope import Scope
from tests.engine.test_engine import Screen
from tests.families import small_model
from tests.models.chats import CHATML, chat_tokenizer

SLOW = pytest.mark.slow
NEXT = Want("next", "next-token", Focus())
LENS = Want("lens", "logit-lens", Focus())


class PanicException(BaseException):
    """As pyo3 raises where Rust panics."""


class Speechless(Exception):
    """One that raises when it is asked what it says."""

    def __str__(self):
        raise RuntimeError("no")


RAISED = {
    "panic": lambda: PanicException("called `unwrap` on \x1b[31m\n" + "x" * 100_000),
    "memory": lambda: MemoryError(),
    "exit": lambda: SystemExit(3),
    "ctrl-c": lambda: KeyboardInterrupt(),
    "recursion": lambda: RecursionError("maximum recursion depth exceeded"),
    "generator": lambda: GeneratorExit(),
    "speechless": Speechless,
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory"),
}

SOME = [
    pytest.param(kind, marks=() if kind in ("panic", "exit", "speechless") else SLOW)
    for kind in RAISED
]

PLACES = {
    "encode": ("llmscope.models.tokenizer.tokens.Tokens._cut", "abc"),
    "decode": ("llmscope.models.tokenizer.tokens.Tokens.pieces", "abc"),
    "pass": ("llmscope.record.capture.recorder.Recorder.record", "abc"),
    "edit": ("llmscope.record.interventions.edited.EditedRecorder.record", "edited"),
    "blame": ("llmscope.engine.engine.Engine._blame", "edited"),
    "words": ("llmscope.engine.engine.Engine._hold", "abc"),
    "lens": ("llmscope.scope.scope.Scope.figure_steps", "abc"),
    "focus": ("llmscope.scope.scope.Scope.resolve", "abc"),
    "next token": ("llmscope.engine.engine.sampled", "draw"),
    "origin": ("llmscope.engine.engine.Engine._origin", "abc"),
    "cost": ("llmscope.engine.engine.Engine._cost", "abc"),
    "chat": ("llmscope.models.tokenizer.chat.Chat.prompt", "chat"),
    "marks": ("llmscope.models.tokenizer.chat.Chat.roles", "chat"),
    "adapter": ("llmscope.scope.scope.Scope.use", "adapter"),
    "teach": ("llmscope.engine.context_training._taught", "teach"),
}
"""Where foreign code runs, or may fail, and the request that leads there."""


@pytest.fixture(scope="module")
def scope():
    model = small_model("llama", vocab_size=300)
    tokens = Tokens(chat_tokenizer(CHATML))
    device, dtype = model.device, model.dtype
    made = Scope(LoadedModel("test", "test", model, tokens, find(model), device, dtype))
    made.prepare_reuse()
    return made


@pytest.fixture(scope="module")
def screen(scope):
    screen = Screen(lambda progress: scope)
    screen.engine.start()
    screen.wait(Loaded)
    yield screen
    assert screen.engine.close()


def request(kind, serial):
    texts = {"text": f"abc{serial}", "special_tokens": False}
    match kind:
        case "chat":
            return ChatRequest(f"Hi {serial}")
        case "teach":
            return ContextRequest(f"abc\ndef {serial}", None)
        case "draw":
            return Request(serial, **texts, wants=(NEXT,), draw=Sample(Sampler()))
        case "adapter":
            return Request(serial, **texts, wants=(NEXT,), adapter="one")
        case "edited":
            return Request(serial, **texts, wants=(NEXT,), edits=(parse("zero head 0.99"),))
        case _:
            return Request(serial, **texts, wants=(NEXT, LENS))


def answer(screen, asked):
    """The event that ends a request; of a request for figures also what they refuse."""
    kinds = (Refused, Templated, ContextAdded, Frame, Opened, OpenFailed, Loaded, LoadFailed)
    figures = {}
    while True:
        event = screen.wait(kinds)
        if isinstance(event, Frame | Refused) and event.serial != asked.serial:
            continue
        if not isinstance(event, Frame):
            return event
        figures |= event.figures
        if event.complete:
            return replace(event, figures=figures)


def lines(event):
    """What an event says went wrong."""
    if isinstance(event, Frame):
        return [figure.verdict.reason for figure in event.figures.values()]
    return [event.reason if isinstance(event, Refused) else event.error]


@contextmanager
def raising(place, error):
    def raises(*args, **named):
        raise error()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, raises)
        yield


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        pytest.param(place, kind, marks=() if "panic" in kind or place == "pass" else SLOW)
        for place in PLACES
        for kind in RAISED
    ],
)
def test_it_says_what_happened_and_goes_on(screen, place, kind):
    where, wanted = PLACES[place]
    serial = time.monotonic_ns()
    asked = request(wanted, serial)
    with raising(where, RAISED[kind]):
        screen.engine.ask(asked)
        event = answer(screen, asked)
    said = [line for line in lines(event) if line]
    assert said, event
    for line in said:
        assert line.isprintable()
        assert len(line) <= 400
    assert screen.engine._thread.is_alive()
    good = request("abc", serial + 1)
    screen.engine.ask(good)
    event = answer(screen, good)
    assert isinstance(event, Frame)
    assert event.figures["next"].verdict.status == "verified"


@pytest.mark.parametrize("kind", SOME)
def test_a_hook_of_the_model_that_raises_mid_pass_leaves_no_trace(screen, scope, kind):
    def raises(*args):
        raise RAISED[kind]()

    serial = time.monotonic_ns()
    scope.prepare_reuse()  # waits until the engine has left the model
    before = [len(one._forward_hooks) for one in scope.model.modules()]
    hook = scope.model.model.layers[1].register_forward_hook(raises)
    asked = request("abc", serial)
    screen.engine.ask(asked)
    event = answer(screen, asked)
    hook.remove()
    assert isinstance(event, Refused)
    good = request("abc", serial)  # the same text once more
    screen.engine.ask(good)
    assert isinstance(answer(screen, good), Frame)
    scope.prepare_reuse()
    assert [len(one._forward_hooks) for one in scope.model.modules()] == before


@pytest.mark.parametrize("kind", SOME)
def test_a_first_model_that_fails_to_load_leaves_room_for_another(scope, kind):
    def load(progress):
        raise RAISED[kind]()

    screen = Screen(load)
    screen.engine.start()
    failed = screen.wait(LoadFailed)
    assert failed.error.isprintable()
    assert 0 < len(failed.error) <= 400
    # Another one fails in the same way, and the next one opens.
    asked = OpenRequest("bad", load)
    screen.engine.ask(asked)
    event = answer(screen, asked)
    assert isinstance(event, OpenFailed)
    assert event.error.isprintable()
    good = OpenRequest("good", lambda progress: scope)
    screen.engine.ask(good)
    assert isinstance(answer(screen, good), Opened)
    asked = request("abc", 1)
    screen.engine.ask(asked)
    assert isinstance(answer(screen, asked), Frame)
    assert screen.engine.close()


@pytest.mark.parametrize("kind", SOME)
def test_a_model_that_does_not_open_leaves_the_one_that_is_open(scope, kind):
    def load(progress):
        raise RAISED[kind]()

    screen = Screen(lambda progress: scope)
    screen.engine.start()
    screen.wait(Loaded)
    asked = OpenRequest("bad", load)
    screen.engine.ask(asked)
    event = answer(screen, asked)
    assert isinstance(event, OpenFailed)
    assert event.left is not None
    assert screen.engine.close()


@pytest.mark.parametrize("kind", SOME)
def test_verdicts_that_fail_are_told(scope, kind):
    class Unlucky:
        model, base, features = scope.loaded_model, scope.base, scope.features

        def info(self):
            return scope.info()

        def verdicts(self, name):
            raise RAISED[kind]()

        def forget(self):
            raise RAISED[kind]()

    screen = Screen(lambda progress: Unlucky())
    screen.engine.start()
    assert isinstance(screen.wait((Loaded, LoadFailed)), Loaded)
    assert screen.wait(LoadFailed).error
    good = OpenRequest("good", lambda progress: scope)
    screen.engine.ask(good)
    assert isinstance(answer(screen, good), Opened)
    assert screen.engine.close()


def test_a_screen_that_is_gone_ends_nothing_else(scope):
    screen = Screen(lambda progress: scope)
    heard = []

    def post(event):
        heard.append(event)
        if isinstance(event, Frame):
            raise RuntimeError("no loop runs")

    screen.engine._post = post
    screen.engine.start()
    screen.engine.ask(request("abc", 1))
    end = time.monotonic() + 20
    while not any(isinstance(one, Refused) for one in heard) and time.monotonic() < end:
        time.sleep(0.01)
    assert any(isinstance(one, Frame) for one in heard)
    assert screen.engine._thread.is_alive()
    assert screen.engine.close()


def test_the_token_that_follows_is_still_drawn(screen):
    asked = request("draw", time.monotonic_ns())
    screen.engine.ask(asked)
    assert screen.wait(Sampled).token >= 0
