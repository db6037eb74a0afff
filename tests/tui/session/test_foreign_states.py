"""A state from anywhere opens on a real model, whatever it holds: the program stays, and so does
the terminal."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import llmscope
from llmscope.draw import RenderOptions
from llmscope.engine import Engine
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.session.shared_state import read_state
from llmscope.tui.state.workspaces import WORKSPACES
from llmscope.tui.user_state import UserState
from tests.thinned import thinned

HUGE = 2**31
EVIL = "\x1b[31m\u202e'\n"
BRANCH = {"ids": [HUGE], "text": "A", "ends": [[0, ""], [1, ""]]}
WRONG: dict[str, dict[str, Any]] = {
    "a cursor outside": {"cursor": [HUGE, HUGE], "place": {"layer": HUGE, "head": -HUGE}},
    "tokens outside": {"place": {"target": HUGE, "versus": -5}, "marks": ["target_pinned"]},
    "parts outside": {"place": {"neuron": HUGE}, "part": ["head", HUGE, HUGE]},
    "steps outside": {
        "place": {"step": HUGE, "weight": HUGE, "cell": [HUGE, 0]},
        "inside": [9, 3],
        "kept": {"workspace": "walkthrough"},
    },
    "generated tokens that the model has not": {
        "branches": [{"base": "CABACB", "kept": [BRANCH], "at": 0, "count": 1}],
        "prompt": "CABACBA",
    },
    "names with controls": {
        "adapter": EVIL,
        "pane": EVIL,
        "maximized": EVIL,
        "turns": [[EVIL, HUGE]],
        "system": EVIL,
        "words": [EVIL, EVIL],
        "measure": EVIL,
        "direction": EVIL,
        "dictionary_place": EVIL,
    },
    "a lens that is not there": {"chosen_lenses": [EVIL], "translator": EVIL},
    "a dictionary that is not there": {"features": [EVIL, "./gone"], "listed_features": [EVIL]},
    "edits outside": {"edits": [["zero head 99.99", True], ["zero neuron 1.99999999", True]]},
    "turns outside": {
        "conversation": [{"start": 5, "end": HUGE, "role": EVIL, "turn": HUGE}],
        "written": [[HUGE, HUGE], [3, 1]],
    },
    "a view that is not offered": {"kept": {"view": ["probe", "x"], "workspace": EVIL}},
}


@pytest.fixture(scope="module")
def scope() -> Scope:
    return llmscope.load("builtin:sort")


SHARES = [(wrong, first % 3, 3) for first, wrong in enumerate(WRONG)]
"""Which workspaces each state is shown in by default: every third one, from one to another."""


@pytest.mark.parametrize(
    ("wrong", "first", "step"),
    thinned([*SHARES, *((wrong, 0, 1) for wrong in WRONG)], lambda case: case in SHARES),
)
async def test_it_opens_and_answers(scope: Scope, wrong: str, first: int, step: int) -> None:
    word = json.dumps({"state": 1, "model": "builtin:sort", "prompt": "CABACB"} | WRONG[wrong])
    session = read_state(word)
    scope.prepare_reuse()
    app = LlmscopeApp(
        lambda post: Engine(lambda _: scope, post),
        spec="builtin:sort",
        prompt=session.prompt,
        look=RenderOptions(),
        user=UserState(kept=session.kept, session=session),
    )
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        try:
            await _rests(app, pilot)
            for at in range(first, len(WORKSPACES), step):
                app.grid.open(app.grid.workspaces[at])
                await _rests(app, pilot)
                strips = app.screen._compositor.render_strips()
                shown = "".join(part.text for strip in strips for part in strip)
                assert "\x1b" not in shown
                assert "\u202e" not in shown
            await pilot.press("e", "A")
            await _rests(app, pilot)
            assert len(app.text) == len(session.prompt) + 1
            assert app.state.tokens, "the next letter is answered"
        finally:
            assert app.engine.close()


async def _rests(app: LlmscopeApp, pilot: Any) -> None:
    """Wait until nothing more is to come: figures, or the reason why there are none."""
    async with asyncio.timeout(60):
        while True:
            await pilot.pause()
            reads = app.dictionaries.waiting or app.dictionaries.owed or app.chat.waiting
            if app.state.info is not None and not (app.requests.running or reads):
                return
            await asyncio.sleep(0.01)
