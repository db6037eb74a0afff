"""Prompt B through the engine: what is run, what is asked again, and what is said of it."""

from dataclasses import replace

import pytest

import llmscope
from llmscope.edits import parse
from llmscope.engine import Engine
from llmscope.engine.events import Frame, Loaded, Refused, Request, Want
from llmscope.figure import Focus
from tests.engine.test_engine import Screen

pytestmark = pytest.mark.usefixtures("hooks_watch")

NEXT = Want("next", "next-token", Focus())
KL = Want("kl", "contrast", Focus(mode="kl"))
WORD = Want("word", "contrast", Focus(mode="lens"))
CHANGE = Want("change", "residual", Focus(mode="stream", change=True))


class Sorting(Screen):
    """The engine on the model that ships, and the rows that its first layer was given."""

    def __init__(self):
        self.scope = llmscope.load("builtin:sort", device="cpu", dtype="float32")
        self.scope.prepare_reuse()  # the engine measures nothing beside this thread
        super().__init__(lambda _: self.scope)
        self.rows = []
        self.engine.start()
        self.wait(Loaded)
        self.frames(Request(0, "A", (NEXT,)))  # measured by now
        layer = self.scope.loaded_model.anatomy.layers[0].module
        layer.register_forward_hook(
            lambda _, args, kwargs, out: self.rows.append(
                (out[0] if isinstance(out, tuple) else out).shape[-2]
            ),
            with_kwargs=True,
        )
        self.scope.prepare_reuse()  # hooks change a model: it is measured anew

    def frames(self, request):
        self.rows = []
        self.engine.ask(request)
        frames = [self.wait(Frame)]
        while not frames[-1].complete:
            frames.append(self.wait(Frame))
        self.frame = frames[-1]
        return {key: figure for frame in frames for key, figure in frame.figures.items()}


@pytest.fixture
def screen():
    made = Sorting()
    yield made
    assert made.engine.close()


def ask(serial, a, b, *wants, **options):
    return Request(serial, a, wants or (KL, NEXT), versus_prompt=b, **options)


def test_each_letter_runs_itself_and_nothing_of_the_other_prompt(screen):
    screen.frames(ask(1, "CABACB", "BBACC"))
    assert screen.rows == [6, 5]
    assert screen.frame.cost.other_ran == 5
    screen.frames(ask(2, "CABACB", "BBACCA"))
    assert screen.rows == [1]  # of B
    assert (screen.frame.cost.other_ran, screen.frame.cost.ran) == (1, 6)
    screen.frames(ask(3, "CABACBA", "BBACCA"))
    assert screen.rows == [1]  # of A
    assert (screen.frame.cost.other_ran, screen.frame.cost.ran) == (0, 1)
    screen.frames(ask(4, "CABACBA", "BBA"))
    assert screen.rows == []


def test_what_is_not_of_b_is_not_made_again_for_another_b(screen):
    first = screen.frames(ask(1, "CABACB", "BBACC"))
    second = screen.frames(ask(2, "CABACB", "BBACA"))
    assert second["next"] is first["next"]
    assert second["kl"] is not first["kl"]
    again = screen.frames(ask(3, "CABACB", "BBACA"))
    assert again["kl"] is second["kl"]
    screen.frames(ask(4, "CABACB", "BBACC"))
    kept = screen.engine._figures.values()
    assert all(second["kl"] is not figure for figure in kept)  # one B at a time


def test_b_is_told_with_the_tokens_that_both_have(screen):
    screen.frames(ask(1, "CABACB", "CABBCBA", NEXT))
    assert screen.rows == [6]  # B is of use to nobody: it is not run
    beside = screen.frame.prompt_b
    assert "".join(token.text for token in beside.tokens) == beside.text == "CABBCBA"
    assert [(token.start, token.end) for token in beside.tokens][:2] == [(0, 1), (1, 2)]
    assert beside.aligned == ((0, 0), (1, 1), (2, 2), (4, 4), (5, 5))
    assert (beside.there(4), beside.there(3)) == (4, None)
    screen.frames(Request(2, "CABACB", (NEXT,)))
    assert screen.frame.prompt_b is None


def test_a_change_is_a_less_b_and_with_edits_what_they_changed(screen):
    plain = screen.frames(ask(1, "CABACB", "CABBCB", CHANGE))["change"]
    assert plain.title.endswith("A − B")
    assert plain.extra["change"]
    request = ask(2, "CABACB", "CABBCB", CHANGE, edits=(parse("zero head 1.1"),))
    edited = screen.frames(request)["change"]
    assert edited.title.endswith("· change")
    alone = screen.frames(Request(3, "CABACB", (CHANGE,)))["change"]
    assert "change" not in alone.extra
    other = screen.frames(ask(4, "CABACB", "CABACB", CHANGE))["change"]
    assert not other.values.any()


def test_a_b_that_is_too_long_is_refused_where_it_is_needed_alone(screen):
    long = "AB" * screen.scope.loaded_model.anatomy.context
    screen.engine.ask(ask(1, "CABACB", long))
    refused = screen.wait(Refused)
    assert refused.of_b
    assert f"{len(long)} tokens" in refused.reason
    assert screen.frames(ask(2, "CABACB", long, NEXT))["next"].verdict.status == "verified"
    assert screen.frame.prompt_b is None


def test_a_that_is_too_long_is_no_fault_of_b(screen):
    long = "AB" * screen.scope.loaded_model.anatomy.context
    screen.engine.ask(ask(1, long, "CABACB"))
    assert not screen.wait(Refused).of_b


def test_words_are_read_by_the_models_tokenizer(screen):
    given = ask(1, "CABACB", "CABBCB", WORD, words=("A", "B C"))
    figure = screen.frames(given)["word"]
    assert figure.extra["given"]
    assert figure.extra["words"] == (("A",), ("B", "C"))
    assert screen.frame.word_notes == ()
    screen.frames(replace(given, serial=2, words=("A BAC", "B C")))
    assert screen.frame.word_notes == (
        "BAC has no token of its own: ‹B› stands for it",
        "‹B› is in both lists, where it says nothing",
    )
    none = screen.frames(replace(given, serial=3, words=(",", "B")))["word"]
    assert "there are no words" in none.verdict.reason
    free = screen.frames(replace(given, serial=4, words=None))["word"]
    assert not free.extra["given"]


def test_an_engine_that_has_no_b_says_so_in_the_figure():
    engine = Sorting()
    figure = engine.frames(Request(1, "CABACB", (KL,)))["kl"]
    assert "no prompt B" in figure.verdict.reason
    assert engine.engine.close()
    assert isinstance(engine.engine, Engine)
