"""The engine: the newest request is answered, the figures are right, nothing else is computed."""

import threading
import weakref
from dataclasses import replace
from queue import Queue

import pytest
import torch

import llmscope
from llmscope.edits import parse
from llmscope.engine import Engine
from llmscope.engine.context_training import add_context
from llmscope.engine.engine import NOTHING_OPEN, OVERTAKEN
from llmscope.engine.events import (
    ChatRequest,
    ContextAdded,
    ContextRequest,
    DictionariesRead,
    DictionaryRequest,
    Frame,
    LensRead,
    LensRequest,
    Loaded,
    LoadFailed,
    Loading,
    Opened,
    OpenRequest,
    Refused,
    Request,
    StopRequest,
    Templated,
    Want,
    Working,
)
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.lenses import lens
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.families import small_model

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = (5, 17, 3, 60, 17, 42)
NEXT = Want("next", "next-token", Focus())
MAP = Want("map", "residual", Focus(mode="stream"))


def small_scope():
    model = small_model("llama")
    parameter = next(model.parameters())
    anatomy = find(model)
    return Scope(
        LoadedModel("test", "test", model, None, anatomy, parameter.device, parameter.dtype)
    )


class Screen:
    """Stands where the app stands: collects events, one at a time."""

    def __init__(self, load):
        self.events = Queue()
        self.engine = Engine(load, self.events.put)

    def wait(self, kind):
        while True:
            event = self.events.get(timeout=20)
            if isinstance(event, kind):
                return event

    def ask(self, serial, ids, *wants):
        self.engine.ask(Request(serial, "", wants, ids=tuple(ids)))

    def figures(self, serial):
        """All figures of a request, once it is complete."""
        figures = {}
        while True:
            frame = self.wait(Frame)
            if frame.serial == serial:
                figures |= frame.figures
                if frame.complete:
                    return figures


@pytest.fixture
def scope():
    made = small_scope()
    made.prepare_reuse()  # no pass of the probe is among those that are counted
    return made


@pytest.fixture
def screen(scope):
    screen = Screen(lambda progress: scope)
    screen.engine.start()
    screen.wait(Loaded)
    yield screen
    screen.engine.close()
    assert not screen.engine._thread.is_alive()


def test_the_figures_are_those_of_the_front_door(screen):
    wants = (NEXT, MAP, Want("attention", "attention", Focus(layer=1, head=2)))
    screen.ask(1, IDS, *wants)
    figures = screen.figures(1)
    own = small_scope()
    own.record(IDS)
    assert list(figures) == ["next", "map", "attention"]
    for want in wants:
        expected = own.look(
            want.lens, layer=want.focus.layer, head=want.focus.head, mode=want.focus.mode
        )
        assert figures[want.key].values == pytest.approx(expected.values, abs=1e-6, nan_ok=True)
        assert figures[want.key].verdict == expected.verdict


def test_tokens_and_cost_come_with_the_frame(screen):
    screen.ask(1, IDS, NEXT)
    frame = screen.wait(Frame)
    assert tuple(token.id for token in frame.tokens) == IDS
    assert (frame.cost.ran, frame.cost.reused) == (6, 0)
    assert frame.cost.rss > 1e7
    screen.ask(2, (*IDS, 9), NEXT)
    frame = screen.wait(Frame)
    assert (frame.cost.ran, frame.cost.reused) == (1, 6)


def test_moving_the_cursor_runs_no_pass_and_only_the_lenses_that_it_touches(
    screen, scope, monkeypatch
):
    calls = []
    real = scope.figure_steps
    monkeypatch.setattr(
        scope,
        "figure_steps",
        lambda name, *rest, **named: calls.append(name) or real(name, *rest, **named),
    )
    passes = []
    record = scope.record_prompt
    monkeypatch.setattr(scope, "record_prompt", lambda *a, **k: passes.append(1) or record(*a, **k))
    attention = Want("attention", "attention", Focus(layer=0))
    screen.ask(1, IDS, NEXT, MAP, attention)
    screen.figures(1)
    assert (calls, len(passes)) == (["next-token", "residual", "attention"], 1)
    calls.clear()
    moved = Want("attention", "attention", Focus(layer=1))
    screen.ask(2, IDS, NEXT, MAP, moved)
    assert set(screen.figures(2)) == {"next", "map", "attention"}
    assert (calls, len(passes)) == (["attention"], 1)
    calls.clear()
    screen.ask(3, IDS, MAP)
    assert set(screen.figures(3)) == {"map"}
    assert calls == []


def test_a_prompt_that_changes_mid_pass_stops_it_at_the_next_layer(screen, scope):
    inside, go, armed, layers = threading.Event(), threading.Event(), threading.Event(), []

    def block(_, args):
        layers.append(args[0].shape[1])
        if armed.is_set() and len(layers) == 1:
            inside.set()
            assert go.wait(10)

    stack = scope.model.model.layers
    hook = stack[0].register_forward_pre_hook(block)
    others = [
        layer.register_forward_pre_hook(lambda _, a: layers.append(a[0].shape[1]))
        for layer in stack[1:]
    ]
    scope.prepare_reuse()  # hooks change a model: it is measured anew
    layers.clear()
    armed.set()
    screen.ask(1, IDS, NEXT)
    assert inside.wait(10)
    for serial, ids in ((2, IDS[:2]), (3, IDS[:3]), (4, IDS[:4])):
        screen.ask(serial, ids, NEXT)
    go.set()
    figures = screen.figures(4)
    hook.remove()
    for other in others:
        other.remove()
    assert layers == [6, 4, 4, 4]  # given up within the first layer; 2 and 3 were never run
    own = small_scope()
    own.record(IDS[:4])
    expected = own.look("next-token")
    assert figures["next"].values == pytest.approx(expected.values, abs=1e-6)


def test_a_pass_reports_its_layers_and_stops_on_request(screen, scope, monkeypatch):
    monkeypatch.setattr("llmscope.engine.layer_progress.EVERY", 0)
    inside, go, ran = threading.Event(), threading.Event(), []

    def block(_, args):
        ran.append(1)
        inside.set()
        assert go.wait(10)

    layer = scope.model.model.layers[1]
    hook = layer.register_forward_pre_hook(block)
    go.set()
    scope.prepare_reuse()  # hooks change a model: it is measured anew
    for event in (inside, go):
        event.clear()
    ran.clear()
    screen.ask(1, IDS, NEXT)
    assert inside.wait(10)
    while not (work := screen.wait(Working)).serial:
        pass  # the check of the model
    assert work == Working(1, "running layer", 1, 3)
    screen.engine.ask(StopRequest())
    go.set()
    while screen.engine._slot.newer():
        pass  # until the request to stop was taken
    screen.ask(2, IDS[:3], NEXT)
    frame = screen.wait(Frame)
    hook.remove()
    assert frame.serial == 2, "the stopped pass answers nothing"
    assert len(ran) == 2, "one of each pass"


def test_the_check_of_a_model_is_reported_from_beginning_to_end():
    screen = Screen(lambda progress: small_scope())
    screen.engine.start()
    screen.wait(Loaded)
    told = [screen.wait(Working) for _ in range(2)]
    screen.engine.close()
    assert [work.serial for work in told] == [0, 0]
    assert "checking" in told[0].task
    assert told[1].task == ""


def test_what_cannot_be_run_is_refused_and_the_next_request_is_answered(screen):
    screen.ask(1, (), NEXT)
    assert "empty" in screen.wait(Refused).reason
    screen.ask(2, (5,) * 65, NEXT)
    refused = screen.wait(Refused)
    assert "65" in refused.reason
    assert "64" in refused.reason
    screen.ask(3, IDS, NEXT)
    assert len(screen.figures(3)["next"].values) == 10


def test_nothing_of_a_failed_pass_is_held_when_its_memory_is_given_back(screen, scope, monkeypatch):
    screen.ask(1, IDS, NEXT)
    screen.figures(1)
    latest = weakref.ref(scope.latest)
    held, found = [], []
    monkeypatch.setattr(
        "llmscope.scope.scope.free_cache", lambda _: found.extend(r() for r in held)
    )

    def fail(module, args):
        held.extend((weakref.ref(args[0]), latest))
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = scope.model.model.layers[1].register_forward_pre_hook(fail)
    screen.ask(2, (*IDS, 9), NEXT)
    screen.wait(Refused)
    hook.remove()
    assert found == [None, None]


def test_what_only_a_letter_needs_is_measured_after_the_first_figures():
    scope = small_scope()
    rows = []
    for layer in scope.loaded_model.anatomy.layers[:1]:
        layer.module.register_forward_hook(
            lambda _, args, kwargs, out: rows.append(args[0].shape[-2]), with_kwargs=True
        )
    screen = Screen(lambda progress: scope)
    screen.engine.start()
    screen.wait(Loaded)
    ids = IDS * 4  # longer than the prompts of the checks
    screen.ask(1, ids, NEXT)
    screen.figures(1)
    assert screen.engine.close()  # it measures to the end
    assert rows[rows.index(24) :] == [24, 6, 3, 2, 2, 2]  # padding, and how long the prompt is
    rows.clear()
    scope.record((*ids, 9))
    assert rows == [1]


def test_a_letter_measures_itself_what_failed_after_the_first_figures(screen, scope, monkeypatch):
    scope.recorder.lengths.measure_later()
    failed = threading.Event()

    def fail(*_):
        failed.set()
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(scope.recorder.lengths, "measure", fail)
        screen.ask(1, IDS, NEXT)
        screen.figures(1)
        assert failed.wait(5)
    screen.ask(2, (*IDS, 9), NEXT)
    assert len(screen.figures(2)["next"].values) == 10
    assert (scope.latest.ran, scope.latest.reused) == (1, len(IDS))


def test_a_cursor_beyond_a_shortened_prompt_is_taken_to_its_end(screen):
    screen.ask(1, IDS[:2], Want("next", "next-token", Focus(position=5)))
    assert screen.figures(1)["next"].extra["position"] == 1


def test_a_lens_that_raises_says_so_in_its_pane_and_harms_no_other(screen, monkeypatch):
    def fail(recording, focus, run):
        raise RuntimeError("boom")

    monkeypatch.setitem(lens("residual").__dict__, "compute", fail)  # the dataclass is frozen
    screen.ask(1, IDS, MAP, NEXT)
    figures = screen.figures(1)
    assert figures["map"].verdict.status == "refused"
    assert "boom" in figures["map"].verdict.reason
    assert figures["next"].verdict.status == "verified"


def test_a_load_that_fails_is_told():
    def fail(progress):
        raise ScopeError("no such model", "another")

    screen = Screen(fail)
    screen.engine.start()
    event = screen.wait(LoadFailed)
    assert (event.error, event.hint) == ("no such model", "another")
    screen.engine.close()


def test_closing_ends_a_load_at_its_next_word():
    begun, ended = threading.Event(), threading.Event()

    def load(progress):
        begun.set()
        try:
            while True:
                progress("loading", 1.0, None)
        finally:
            ended.set()

    screen = Screen(load)
    screen.engine.start()
    assert begun.wait(5)
    assert screen.wait(Loading).stage == "loading"
    screen.engine.close()
    assert ended.is_set()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
    ids=["device", "cpu", "python"],
)
def test_memory_that_runs_out_in_a_pass_ends_that_pass_alone(screen, scope, error):
    full = threading.Event()

    def fail(*_):
        if full.is_set():
            raise error

    scope.model.model.layers[1].register_forward_pre_hook(fail)
    screen.ask(1, IDS, NEXT)
    before = screen.figures(1)["next"]
    full.set()
    screen.ask(2, (*IDS, 9), NEXT)
    refused = screen.wait(Refused)
    assert (refused.serial, refused.reason) == (2, "out of memory on cpu")
    assert "shorter prompt" in refused.hint
    assert scope.recorder._latest is None
    assert not any(tap.kept for tap in scope.recorder.taps.layers)
    full.clear()
    screen.ask(3, IDS, NEXT)
    assert screen.figures(3)["next"].values == pytest.approx(before.values, abs=1e-6)


def test_a_model_whose_forward_fails_is_told_as_one_that_could_not_be_loaded():
    scope = small_scope()

    def broken(*_):
        raise RuntimeError("expected 64 columns")

    scope.model.model.layers[1].register_forward_pre_hook(broken)
    screen = Screen(lambda _: scope)
    screen.engine.start()
    screen.wait(Loaded)
    told = "the model fails on a short prompt: RuntimeError: expected 64 columns"
    assert screen.wait(LoadFailed).error == told
    assert screen.engine.close()


def edited(serial, *edits, wants=(NEXT,), ids=IDS, versus=None):
    """A request for an edited pass."""
    return Request(serial, "", wants, ids=ids, edits=tuple(map(parse, edits)), versus_prompt=versus)


def test_edits_are_made_and_leave_the_next_pass_alone(screen):
    screen.ask(1, IDS, NEXT)
    plain = screen.figures(1)["next"]
    screen.engine.ask(edited(2, "zero mlp 1", "zero head 0.1"))
    changed = screen.figures(2)["next"]
    own = small_scope()
    own.record(IDS, edits=("zero mlp 1", "zero head 0.1"))
    assert changed.values == pytest.approx(own.look("next-token").values, abs=1e-6)
    assert changed.extra["kl"] > 0
    screen.ask(3, IDS, NEXT)
    assert (screen.figures(3)["next"].values == plain.values).all()


def test_a_figure_and_its_change_are_two(screen):
    change = Want("change", "residual", Focus(mode="stream", change=True))
    screen.engine.ask(edited(1, "zero mlp 1", wants=(MAP, change)))
    figures = screen.figures(1)
    own = small_scope()
    before = own.look("residual", recording=own.record(IDS), mode="stream")
    after = figures["map"].values
    assert figures["change"].values == pytest.approx(after - before.values, abs=1e-5)
    assert abs(figures["change"].values).max() > 0


@pytest.mark.parametrize("edits", [("zero head 9.0",), ("zero mlp 1", "zero head 9.0")])
def test_the_edit_that_is_to_blame_is_named(screen, edits):
    screen.engine.ask(edited(1, *edits))
    refused = screen.wait(Refused)
    assert [edit for edit, _ in refused.faults] == [parse("zero head 9.0")]
    assert refused.faults[0][1].startswith("there is no layer 9")
    screen.engine.ask(edited(2, "zero mlp 1"))
    assert screen.figures(2)


def test_a_prompt_that_cannot_be_run_is_no_fault_of_an_edit(screen):
    screen.engine.ask(edited(1, "zero head 9.0", ids=(5,) * 65))
    refused = screen.wait(Refused)
    assert refused.faults == ()
    assert "65" in refused.reason


def test_prompt_b_is_run_only_where_it_is_of_use(screen, scope, monkeypatch):
    asked = []
    other = " ".join(map(str, IDS))  # without a tokenizer, a text lists ids
    record = scope.record_prompt
    monkeypatch.setattr(scope, "record_prompt", lambda *a, **k: asked.append(k) or record(*a, **k))
    patching = Want("patching", "patching", Focus(mode="stream"))
    screen.engine.ask(edited(1, "zero mlp 1", versus=other, wants=(NEXT, patching)))
    figures = screen.figures(1)
    assert asked[-1]["other"] is None
    assert "differ" in figures["patching"].verdict.reason or figures["patching"].values.size
    assert "no prompt" not in figures["patching"].verdict.reason
    screen.engine.ask(edited(2, "patch stream 1 from B", versus=other))
    assert screen.figures(2)
    assert asked[-1]["other"].ids == IDS


def test_what_is_there_does_not_wait_for_a_sweep(screen):
    sweep = Want("ablation", "ablation", Focus(mode="heads"))
    screen.ask(1, IDS, NEXT, sweep)
    first = screen.wait(Frame)
    assert not first.complete
    assert first.figures["ablation"].extra["progress"][0] == 0
    assert "next" in first.figures
    last = screen.figures(1)["ablation"]
    assert "progress" not in last.extra


def test_a_sweep_is_given_up_for_what_is_newer(screen, scope, monkeypatch):
    inside, go = threading.Event(), threading.Event()
    real = scope.figure_steps

    def slow(name, *rest, cancelled):
        for figure in real(name, *rest, cancelled=cancelled):
            yield figure
            if name == "ablation":
                inside.set()
                assert go.wait(10)

    monkeypatch.setattr(scope, "figure_steps", slow)
    sweep = Want("ablation", "ablation", Focus(mode="heads"))
    screen.ask(1, IDS, NEXT, sweep)
    assert inside.wait(10)
    screen.ask(2, (*IDS, 9), NEXT)
    go.set()
    assert screen.figures(2)["next"].values.size


def test_a_lens_is_read_before_it_is_used():
    screen = Screen(lambda progress: small_scope())
    screen.engine.start()
    screen.wait(Loaded)
    request = LensRequest("no/such.pt")
    screen.engine.ask(request)
    read = screen.wait(LensRead)
    assert read.request is request
    assert read.error == "there is no lens no/such.pt"
    assert read.hint
    assert screen.engine.close()


def test_a_fetch_is_stopped_by_a_newer_request(monkeypatch):
    began = threading.Event()

    def fetching(name, model, progress):
        began.set()
        while True:
            progress("downloading", 1, 2)

    screen = Screen(lambda progress: small_scope())
    screen.engine.start()
    screen.wait(Loaded)
    monkeypatch.setattr("llmscope.learned.lenses.catalog.lens_for", fetching)
    request = LensRequest("org/name:a.pt")
    screen.engine.ask(request)
    assert began.wait(20)
    screen.ask(1, IDS, NEXT)
    read = screen.wait(LensRead)  # else the screen would wait for it
    assert (read.request, read.error) == (request, OVERTAKEN)
    assert set(screen.figures(1)) == {"next"}
    assert screen.engine.close()


ASIDE = {
    ChatRequest("hello"): Templated,
    ContextRequest("a\nb", None): ContextAdded,
    LensRequest("a.pt"): LensRead,
    DictionaryRequest(("a",)): DictionariesRead,
}
"""A request of each kind that no later one answers, and what answers it."""


@pytest.mark.parametrize("request_", ASIDE, ids=lambda request: type(request).__name__)
def test_a_request_without_a_model_is_answered(request_):
    def fail(progress):
        raise ScopeError("no such model")

    screen = Screen(fail)
    screen.engine.start()
    screen.wait(LoadFailed)
    screen.engine.ask(request_)
    answer = screen.wait(ASIDE[request_])
    assert (answer.request, answer.error) == (request_, NOTHING_OPEN)
    screen.ask(1, IDS, NEXT)
    refused = screen.wait(Refused)
    assert (refused.serial, refused.reason) == (1, NOTHING_OPEN)
    assert screen.engine.close()


@pytest.mark.few(4)
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("request_", ASIDE, ids=lambda request: type(request).__name__)
def test_a_request_that_another_model_takes_the_place_of_is_answered(screen, request_, order):
    inside, go = threading.Event(), threading.Event()

    def slow(progress):
        inside.set()
        assert go.wait(20)
        return small_scope()

    screen.engine.ask(OpenRequest("slow", slow))
    assert inside.wait(20)
    last = OpenRequest("last", lambda progress: small_scope())
    requests = (request_, last) if order == "before" else (last, request_)
    for request in requests:
        screen.engine.ask(request)
    answer = screen.wait(ASIDE[request_])
    assert (answer.request, answer.error) == (request_, OVERTAKEN)
    go.set()
    while screen.wait(Opened).request is not last:
        pass


def test_a_lens_that_returns_no_figure_says_so_in_its_pane(screen, monkeypatch):
    def nothing(recording, focus, run):
        yield from ()

    monkeypatch.setitem(vars(lens("residual")), "compute", nothing)
    screen.ask(1, IDS, MAP, NEXT)
    figures = screen.figures(1)
    assert figures["map"].verdict.status == "refused"
    assert figures["map"].verdict.reason == "the lens returned no figure"
    assert figures["next"].verdict.status != "refused"


def test_a_figure_through_a_lens_that_is_gone_says_what_to_try():
    screen = Screen(lambda progress: small_scope())
    screen.engine.start()
    focus = Focus(mode="top", options=(("translator", "gone.pt"),))
    screen.ask(1, IDS, Want("map", "logit-lens", focus), NEXT)
    figures = screen.figures(1)
    reason = figures["map"].verdict.reason
    assert reason.startswith("there is no lens gone.pt (try: ")
    assert figures["next"].verdict.status != "refused"
    assert screen.engine.close()


def test_the_last_figure_of_a_lens_that_ends_early_waits_for_nothing(screen, monkeypatch):
    compute = lens("residual").compute

    def half(recording, focus, run):
        figure = compute(recording, focus, run)
        yield replace(figure, extra={**figure.extra, "progress": (0, 2)})

    monkeypatch.setitem(vars(lens("residual")), "compute", half)
    for serial in (1, 2):  # computed, and from the figures that are kept
        screen.ask(serial, IDS, MAP, NEXT if serial == 1 else replace(NEXT, key="other"))
        assert "progress" not in screen.figures(serial)["map"].extra


def test_the_context_of_a_prompt_of_one_line_is_taught():
    scope = llmscope.load("builtin:town")
    added = add_context(scope, ContextRequest("cat -> kitten, dog -> puppy, cow ->", None))
    assert (added.error, added.query) == ("", " cow ->")
    scope.use(added.adapter)
    scope.record(added.query)
    assert scope.look("next-token").axes[0].labels[0] == " calf"
    assert "no context" in add_context(scope, ContextRequest("cow", None)).error
