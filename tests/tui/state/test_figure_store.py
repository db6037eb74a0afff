from __future__ import annotations

from dataclasses import replace

from llmscope.engine.events import Frame, PassInfo, Refused, Request, Want
from llmscope.figure import Focus
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


def asked(ledger: FigureStore, text: str, *wants: Want) -> Request:
    request = ledger.ask(text, wants)
    assert request is not None
    return request


def test_the_same_wants_are_not_asked_twice_in_whatever_order() -> None:
    ledger = FigureStore()
    assert asked(ledger, "a b", TOKENS, HERE).serial == 1
    assert ledger.ask("a b", (HERE, TOKENS)) is None
    assert asked(ledger, "a b", TOKENS, THERE).serial == 2
    assert asked(ledger, "a", TOKENS, THERE).serial == 3


def test_a_frame_of_another_text_is_never_shown() -> None:
    ledger = FigureStore()
    old = asked(ledger, "a b", TOKENS)
    new = asked(ledger, "a b c", TOKENS)
    assert not ledger.take(frame(old))
    assert ledger.shown("tokens") is None
    assert ledger.take(frame(new))
    shown = ledger.shown("tokens")
    assert shown is not None
    assert len(shown.tokens) == 3


def test_what_was_typed_and_taken_back_is_asked_again() -> None:
    ledger = FigureStore()
    first = asked(ledger, "a", TOKENS)
    asked(ledger, "a b", TOKENS)
    again = asked(ledger, "a", TOKENS)
    assert not ledger.take(frame(first))
    assert ledger.take(frame(again))


def test_an_older_place_of_the_cursor_is_shown_and_stale_until_the_newer_lands() -> None:
    ledger = FigureStore()
    old = asked(ledger, "a b", TOKENS, HERE)
    new = asked(ledger, "a b", TOKENS, THERE)
    assert ledger.take(frame(old))
    assert ledger.stale("next-token")
    assert not ledger.stale("tokens")
    assert ledger.waiting
    assert ledger.take(frame(new))
    assert not ledger.waiting


def test_a_late_frame_does_not_replace_a_newer_one() -> None:
    ledger = FigureStore()
    old = asked(ledger, "a b", TOKENS, HERE)
    new = asked(ledger, "a b", TOKENS, THERE)
    assert ledger.take(frame(new))
    assert not ledger.take(frame(old))
    shown = ledger.shown("next-token")
    assert shown is not None
    assert shown.want == THERE


def test_parts_of_one_request_add_up() -> None:
    ledger = FigureStore()
    request = asked(ledger, "a b", TOKENS, HERE)
    assert ledger.take(frame(request, "tokens", complete=False))
    assert ledger.waiting
    assert ledger.take(frame(request, "next-token"))
    assert not ledger.waiting


def test_figures_of_the_old_text_are_stale_while_the_new_one_is_on_its_way() -> None:
    ledger = FigureStore()
    ledger.take(frame(asked(ledger, "a b", TOKENS)))
    assert not ledger.stale("tokens")
    new = asked(ledger, "a b c", TOKENS)
    assert ledger.stale("tokens")
    assert ledger.concerns(Refused(new.serial, "too long"))
    assert not ledger.concerns(Refused(new.serial - 1, "too long"))


def test_forgetting_takes_no_answer_any_more() -> None:
    ledger = FigureStore()
    request = asked(ledger, "a b", TOKENS)
    ledger.forget()
    assert not ledger.take(frame(request))
    assert not ledger.waiting
    assert asked(ledger, "a b", TOKENS).serial > request.serial


def test_what_is_overtaken_is_stale_until_it_is_asked_about_and_lands() -> None:
    ledger = FigureStore()
    assert not ledger.waiting
    assert ledger.take(frame(asked(ledger, "a b", TOKENS, HERE)))
    ledger.overtaken()
    assert ledger.waiting
    assert ledger.stale("tokens")
    assert ledger.stale("next-token")
    new = asked(ledger, "a b c", TOKENS, HERE)
    assert ledger.stale("tokens")
    assert ledger.take(frame(new))
    assert not ledger.waiting
    ledger.overtaken()
    ledger.forget()
    assert not ledger.waiting


def test_a_figure_belongs_to_a_place_and_a_pass() -> None:
    ledger = FigureStore()
    text = "a b c"
    attention = Want("attention", "attention", Focus(layer=3, head=2, mode="raw"))
    assert ledger.take(frame(asked(ledger, text, TOKENS, attention)))
    shown = ledger.shown("attention")
    assert shown is not None
    scene = ViewState.opening(Focus(layer=3, head=2)).loaded(INFO).landed(tokenize(text))
    assert shown.of(scene)
    assert shown.at(scene)
    for elsewhere in (scene.move(layer=1), scene.move(head=1)):
        assert shown.of(elsewhere)
        assert not shown.at(elsewhere)
    assert not shown.of(replace(scene, adapter="poet"))
    assert not shown.of(scene.landed(tokenize("a b d")))
    tokens = ledger.shown("tokens")
    assert tokens is not None
    assert ledger.tokens_of(shown) is tokens.figure
    other = ledger.ask(text, (attention,), adapter="poet")
    assert other is not None
    assert ledger.take(frame(other))
    shown = ledger.shown("attention")
    assert shown is not None
    assert ledger.tokens_of(shown) is None
