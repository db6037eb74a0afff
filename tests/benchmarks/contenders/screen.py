"""llmscope as the screen uses it: the engine's thread, and the figures of the panes on screen."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import torch

from llmscope.draw import RenderOptions
from llmscope.engine import Engine
from llmscope.engine.events import Event, Frame, Loaded, LoadFailed, Refused, Request, Want
from llmscope.learned.lens import AffineMap, LearnedLens
from llmscope.learned.writer import write_lens
from llmscope.lenses.logit_lens import TRANSLATOR
from llmscope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from tests.benchmarks.contenders import ours
from tests.benchmarks.contenders.bare import layer_at
from tests.benchmarks.jobs import Job

SIZE = (120, 40)
TYPED = 32
"""Tokens that were typed one by one before the one that is timed."""


class Contender(ours.Contender):
    def __init__(self, folder: str, device: str, threads: int) -> None:
        super().__init__(folder, device, threads)
        self.wants = asyncio.run(wants_of_the_screen(self.scope.info()))
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.given_up = 0.0
        self._watch_passes()
        self.engine = Engine(lambda progress: self.scope, self.events.put)
        self.engine.start()
        self._serial = 0

    def append(self, length: int) -> Job:
        """One token after the others, that came all at once."""
        texts = self.prompt(length)
        return Job(lambda: self.ask(texts.text), lambda: self.ask(texts.before))

    def append_typed(self, length: int) -> Job:
        """One token after the others, the last of which were typed one by one."""
        self._type(length)
        return self.append(length)

    def append_norms(self, length: int) -> Job:
        """One token after the others, the map turned to the norms of the stream."""
        texts = self.prompt(length)
        wants = tuple(
            replace(want, lens="residual", focus=replace(want.focus, mode=""))
            if want.lens == "logit-lens"
            else want
            for want in self.wants
        )
        if wants == self.wants:
            raise RuntimeError("the map does not open on the logit lens")
        return Job(lambda: self.ask(texts.text, wants), lambda: self.ask(texts.before, wants))

    def append_norms_typed(self, length: int) -> Job:
        """The same after tokens that were typed one by one."""
        self._type(length)
        return self.append_norms(length)

    def append_learned(self, length: int) -> Job:
        """One token after the others, the map through a Jacobian lens from a file.

        Its matrices are random: what they hold costs nothing.
        """
        home = TemporaryDirectory(prefix="llmscope-benchmarks-")
        file, texts = Path(home.name, "lens.safetensors"), self.prompt(length)
        write_lens(random_lens(self.scope), file)
        wants = tuple(
            replace(want, focus=TRANSLATOR.set(want.focus, str(file)))
            if want.lens == "logit-lens"
            else want
            for want in self.wants
        )
        if wants == self.wants:
            raise RuntimeError("the map does not open on the logit lens")
        return Job(
            lambda: self.ask(texts.text, wants),
            lambda: self.ask(texts.before, wants),
            home=home,
        )

    def _type(self, length: int) -> None:
        """Type the last tokens before the one that is timed."""
        texts = self.prompt(length)
        self.ask(texts.start)
        for end in range(max(1, length - TYPED), length):
            self.ask(self.scope.tokenizer.decode(texts.ids[:end]))

    def middle(self, length: int) -> Job:
        """Another token in the middle."""
        texts = self.prompt(length)
        return Job(lambda: self.ask(texts.middle), lambda: self.ask(texts.text))

    def start(self, length: int) -> Job:
        """Another token at the start."""
        texts = self.prompt(length)
        return Job(lambda: self.ask(texts.start), lambda: self.ask(texts.text))

    def head(self, length: int) -> Job:
        """The attention pane moves to another head of a layer that it showed."""
        return self._attention(length, layer=0, head=1)

    def layer(self, length: int) -> Job:
        """The attention pane moves to another layer."""
        return self._attention(length, layer=1, head=0)

    def interrupt(self, length: int) -> Job:
        """A key during a pass: from the key to the end of the stale pass."""
        texts = self.prompt(length)
        begun = time.perf_counter()
        self.ask(texts.text)
        whole = time.perf_counter() - begun
        rounds = iter(range(1_000_000))

        def run() -> dict[str, Any]:
            self.given_up = 0.0
            self._put(texts.text, self.wants)
            time.sleep(whole * (0.1 + (next(rounds) * 0.382) % 0.6))
            pressed = time.perf_counter()
            self.ask("Stop")
            return {"seconds": self.given_up - pressed if self.given_up > pressed else None}

        return Job(run, lambda: self.ask("Stop"))

    def turn_low(self, length: int) -> Job:
        """The strength of a vector that is added low down is turned: all panes show it."""
        return self._turn(length, 1 / 6)

    def turn_middle(self, length: int) -> Job:
        """The same in the middle."""
        return self._turn(length, 1 / 2)

    def turn_high(self, length: int) -> Job:
        """The same high up."""
        return self._turn(length, 5 / 6)

    def _turn(self, length: int, share: float) -> Job:
        text, strengths = self.prompt(length).text, count(1)
        # The stream after a layer is what the next one reads: that is the first to run.
        after = layer_at(share, len(self.scope.subject.anatomy.layers)) - 1

        def turn() -> None:
            self.ask(text, edits=(f'steer {after} token " river" {next(strengths) / 8}',))

        return Job(turn, turn)

    def ask(
        self, text: str, wants: tuple[Want, ...] | None = None, edits: tuple[str, ...] = ()
    ) -> None:
        """Ask and wait for the last figure."""
        serial = self._put(text, self.wants if wants is None else wants, edits)
        while True:
            event = self.events.get()
            if isinstance(event, LoadFailed | Refused):
                raise RuntimeError(str(event))
            if isinstance(event, Frame) and event.serial == serial and event.complete:
                return

    def _put(self, text: str, wants: tuple[Want, ...], edits: tuple[str, ...] = ()) -> int:
        self._serial += 1
        self.engine.ask(Request(self._serial, text, wants, special_tokens=False, edits=edits))
        return self._serial

    def _attention(self, length: int, *, layer: int, head: int) -> Job:
        """From a layer and head never shown before to the one that is timed."""
        text = self.prompt(length).text
        self.ask(text)
        seen = next(want for want in self.wants if want.lens == "attention")
        anatomy = self.scope.subject.anatomy
        places = iter(
            (i, j) for j in range(0, anatomy.heads - 1, 2) for i in range(0, len(anatomy.layers), 2)
        )
        place = (0, 0)

        def show(at: tuple[int, int]) -> None:
            focus = replace(seen.focus, layer=at[0], head=at[1])
            self.ask(text, (replace(seen, focus=focus),))

        def reset() -> None:
            nonlocal place
            place = next(places)
            show(place)

        return Job(lambda: show((place[0] + layer, place[1] + head)), reset)

    def _watch_passes(self) -> None:
        record = self.scope.record

        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return record(*args, **kwargs)
            except BaseException:
                self.given_up = time.perf_counter()
                raise

        self.scope.record = watched  # type: ignore[method-assign]


def random_lens(scope: Scope) -> LearnedLens:
    """A Jacobian lens of random matrices, one for each layer before the last."""
    anatomy, generator = scope.subject.anatomy, torch.Generator().manual_seed(0)
    width, layers = anatomy.width, len(anatomy.layers)
    maps = {
        stream: AffineMap(
            torch.eye(width) + torch.randn(width, width, generator=generator) / width**0.5
        )
        for stream in range(1, layers)
    }
    return LearnedLens("jacobian", maps, width, layers, {"n_prompts": 1})


class _Listener:
    """Stands for the engine while the screen is asked what it wants."""

    def __init__(self, post: Any, info: Any) -> None:
        self.post, self.info, self.wants = post, info, ()

    def start(self) -> None:
        self.post(Loaded(self.info))

    def ask(self, request: Request) -> None:
        self.wants = request.wants

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: True


async def wants_of_the_screen(info: Any) -> tuple[Want, ...]:
    """What the real screen asks for at its default size, with all panes in their places."""
    made: list[_Listener] = []

    def make(post: Any) -> _Listener:
        made.append(_Listener(post, info))
        return made[0]

    app = LlmscopeApp(make, spec=info.spec, prompt="The capital", look=RenderOptions())
    async with app.run_test(size=SIZE) as pilot:
        for _ in range(5):
            await pilot.pause()
        panes = set(app.grid.on_screen)
    if not panes <= {want.key for want in made[0].wants}:
        raise RuntimeError(f"the panes {panes} asked only for {made[0].wants}")
    return made[0].wants
