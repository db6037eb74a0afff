from __future__ import annotations

from dataclasses import replace

from llmscope.engine.events import Frame, PassInfo, Refused, Request, Want
from llmscope.figure import Figure, Focus
from llmscope.tui.state.figure_store import FigureStore
from llmscope.tui.state.view_state import ViewState
from tests.tui.acting import INFO, figure_for, tokenize

COST = PassInfo(1, 0, 1.0, 1)
TOKENS = Want("tokens", "tokens", Focus())
HERE = Want("next-token", "next-token", Focus(position=-1))
THERE = Want("next-token", "next-token", Focus(position=0))


def frame(request: Request, *keys: str, complete: bool = True) -> Frame:
    tokens = tokenize(request.text)
    wants = [want for want in request.wants if not keys or want.key in keys]
    figures = {want.key: figure_for(want, tokens) for want in wants}
    return Frame(request.serial, tokens, figures, COST, complete)


def asked(figures: FigureStore, text: str, *wants: Want) -> Request:
    request = figures.ask(text, wants)
    assert request is not None
    return request


def test_the_same_wants_are_not_asked_twice_in_whatever_order() -> None:
    figures = FigureStore()
    assert asked(figures, "a b", TOKENS, HERE).serial == 1
    assert figures.ask("a b", (HERE, TOKENS)) is None
    assert asked(figures, "a b", TOKENS, THERE).serial == 2
    assert asked(figures, "a", TOKENS, THERE).serial == 3


def test_a_frame_of_another_text_is_never_shown() -> None:
    figures = FigureStore()
    old = asked(figures, "a b", TOKENS)
    new = asked(figures, "a b c", TOKENS)
    assert not figures.take(frame(old))
    assert figures.shown("tokens") is None
    assert figures.take(frame(new))
    shown = figures.shown("tokens")
    assert shown is not None
    assert len(shown.tokens) == 3


def test_what_was_typed_and_taken_back_is_asked_again() -> None:
    figures = FigureStore()
    first = asked(figures, "a", TOKENS)
    asked(figures, "a b", TOKENS)
    again = asked(figures, "a", TOKENS)
    assert not figures.take(frame(first))
    assert figures.take(frame(again))


def test_an_older_place_of_the_cursor_is_shown_and_stale_until_the_newer_lands() -> None:
    figures = FigureStore()
    old = asked(figures, "a b", TOKENS, HERE)
    new = asked(figures, "a b", TOKENS, THERE)
    assert figures.take(frame(old))
    assert figures.stale("next-token")
    assert not figures.stale("tokens")
    assert figures.waiting
    assert figures.take(frame(new))
    assert not figures.waiting


def test_a_late_frame_does_not_replace_a_newer_one() -> None:
    figures = FigureStore()
    old = asked(figures, "a b", TOKENS, HERE)
    new = asked(figures, "a b", TOKENS, THERE)
    assert figures.take(frame(new))
    assert not figures.take(frame(old))
    shown = figures.shown("next-token")
    assert shown is not None
    assert shown.want == THERE


def test_parts_of_one_request_add_up() -> None:
    figures = FigureStore()
    request = asked(figures, "a b", TOKENS, HERE)
    assert figures.take(frame(request, "tokens", complete=False))
    assert figures.waiting
    assert figures.take(frame(request, "next-token"))
    assert not figures.waiting


def test_figures_of_the_old_text_are_stale_while_the_new_one_is_on_its_way() -> None:
    figures = FigureStore()
    figures.take(frame(asked(figures, "a b", TOKENS)))
    assert not figures.stale("tokens")
    new = asked(figures, "a b c", TOKENS)
    assert figures.stale("tokens")
    assert figures.concerns(Refused(new.serial, "too long"))
    assert not figures.concerns(Refused(new.serial - 1, "too long"))


def test_forgetting_takes_no_answer_any_more() -> None:
    figures = FigureStore()
    request = asked(figures, "a b", TOKENS)
    figures.forget()
    assert not figures.take(frame(request))
    assert not figures.waiting
    assert asked(figures, "a b", TOKENS).serial > request.serial


def test_what_is_overtaken_is_stale_until_it_is_asked_about_and_lands() -> None:
    figures = FigureStore()
    assert not figures.waiting
    assert figures.take(frame(asked(figures, "a b", TOKENS, HERE)))
    figures.overtaken()
    assert figures.waiting
    assert figures.stale("tokens")
    assert figures.stale("next-token")
    new = asked(figures, "a b c", TOKENS, HERE)
    assert figures.stale("tokens")
    assert figures.take(frame(new))
    assert not figures.waiting
    figures.overtaken()
    figures.forget()
    assert not figures.waiting


def test_a_figure_belongs_to_a_place_and_a_pass() -> None:
    figures = FigureStore()
    text = "a b c"
    attention = Want("attention", "attention", Focus(layer=3, head=2, mode="raw"))
    assert figures.take(frame(asked(figures, text, TOKENS, attention)))
    shown = figures.shown("attention")
    assert shown is not None
    state = ViewState.opening(Focus(layer=3, head=2)).loaded(INFO).with_tokens(tokenize(text))
    assert shown.of(state)
    assert shown.at(state)
    for elsewhere in (state.move(layer=1), state.move(head=1)):
        assert shown.of(elsewhere)
        assert not shown.at(elsewhere)
    assert not shown.of(replace(state, adapter="poet"))
    assert not shown.of(state.with_tokens(tokenize("a b d")))
    tokens = figures.shown("tokens")
    assert tokens is not None
    assert figures.tokens_of(shown) is tokens.figure
    other = figures.ask(text, (attention,), adapter="poet")
    assert other is not None
    assert figures.take(frame(other))
    shown = figures.shown("attention")
    assert shown is not None
    assert figures.tokens_of(shown) is None


def test_a_refused_figure_never_waits_behind_the_one_before() -> None:
    figures = FigureStore()
    assert figures.take(frame(asked(figures, "a b", TOKENS, HERE)))
    request = asked(figures, "a b", TOKENS, THERE)
    refused = Figure.refused("next-token", "Next token", "there is none")
    refused = replace(refused, extra={"progress": (0, 1)})
    tokens = tokenize(request.text)
    made = {"tokens": figure_for(TOKENS, tokens), THERE.key: refused}
    assert figures.take(Frame(request.serial, tokens, made, COST))
    shown = figures.shown(THERE.key)
    assert shown is not None
    assert shown.figure is refused
    assert not figures.waiting
