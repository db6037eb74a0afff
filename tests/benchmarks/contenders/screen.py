"""llmscope as the screen uses it: the engine's thread, and the figures of the panes on screen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from textual._compositor import CompositorUpdate

from llmscope.draw import RenderOptions
from llmscope.edits import Edit, parse
from llmscope.engine import Engine
from llmscope.engine.events import Event, Frame, Loaded, LoadFailed, Refused, Request, Want
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.writer import write_lens
from llmscope.lenses.logit_lens import TRANSLATOR
from llmscope.scope.scope import Scope
from llmscope.scope.second_model import compare_with
from llmscope.support.text import shared_length
from llmscope.tui.app import LlmscopeApp
from tests.benchmarks.contenders import ours
from tests.benchmarks.contenders.bare import layer_at
from tests.benchmarks.jobs import Job

SIZE = (120, 40)
TYPED = 32
"""Tokens that were typed one by one before the one that is timed."""


class Contender(ours.Contender):
    def __init__(self, folder: str, device: str, threads: int, dtype: str = "float32") -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        super().__init__(folder, device, threads, dtype)
        self.opened_as = folder, device, threads, dtype
        self.wants = asyncio.run(wants_of_the_screen(self.scope.info()))
        self.given_up = 0.0
        self._watch_passes()
        self._serial = 0

    def opened(self, load: Callable[[], Scope]) -> Scope:
        """Load in the engine's thread, as the program does.

        Each thread that has computed has a team of OpenMP's threads, and two teams on the same
        cores are slower than one.
        """
        made: list[Scope] = []

        def loaded(progress: object) -> Scope:
            made.append(load())
            torch.set_grad_enabled(False)
            return made[0]

        self.engine = Engine(loaded, self.events.put)
        self.engine.start()
        while not isinstance(event := self.events.get(), Loaded):
            if isinstance(event, LoadFailed):
                raise RuntimeError(str(event))
        return made[0]

    def append(self, length: int) -> Job:
        """One token after the others, that came all at once."""
        texts = self.prompt(length)
        return Job(lambda: self.ask(texts.text), lambda: self.ask(texts.before))

    def painted(self, length: int) -> Job:
        """One token after the others on the whole screen: from the key until all panes show it."""
        texts = self.prompt(length)
        open_screen = PaintedScreen(self.scope, texts.before)
        return Job(
            lambda: {"seconds": open_screen.show(texts.text)},
            lambda: open_screen.show(texts.before),
            home=open_screen,
        )

    def first_part(self, length: int) -> Job:
        """The first figures of all panes for a long prompt; the rest of it is given up."""
        text = self.prompt(length).text

        def reset() -> None:
            self.ask("Stop")
            self.scope.forget()

        def run() -> dict[str, float]:
            begun = time.perf_counter()
            self.ask_first(text, self.wants)
            seconds = time.perf_counter() - begun
            self.ask("Stop")  # the rest would run on beside whichever job comes next
            return {"seconds": seconds}

        return Job(run, reset)

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

    def append_two_models(self, length: int) -> Job:
        """One token after the others, read by the model twice, as two models are compared."""
        texts, both = self.prompt(length), Contender(*self.opened_as)
        compare_with(both.scope, lambda _: ours.Contender(*self.opened_as).scope, None)
        both.wants = asyncio.run(wants_of_the_screen(both.scope.info()))
        if "model-diff" not in {want.lens for want in both.wants}:
            raise RuntimeError("the screen does not compare the two models")
        return Job(
            lambda: both.ask(texts.text, two_models=True),
            lambda: both.ask(texts.before, two_models=True),
        )

    def append_features(self, length: int) -> Job:
        """One token more with the workspace of features open, a dictionary of 16k features."""
        return self._features(length, whole=True)

    def append_features_first(self, length: int) -> Job:
        """The same until all panes show the token: KL and loss of the dictionary come after."""
        return self._features(length, whole=False)

    def _features(self, length: int, *, whole: bool) -> Job:
        home, texts = TemporaryDirectory(prefix="llmscope-benchmarks-"), self.prompt(length)
        write_dictionary(self.scope, texts.ids, Path(home.name))
        self.scope.features = (home.name,)
        wants = asyncio.run(wants_of_the_screen(self.scope.info(), "0"))
        if [want.lens for want in wants].count("features") < 3:
            raise RuntimeError(f"the workspace asks for {[want.lens for want in wants]}")
        if not whole:
            return Job(
                lambda: self.ask_first(texts.text, wants),
                lambda: self.ask(texts.before, wants),
                home=home,
            )
        return Job(
            lambda: self.ask(texts.text, wants), lambda: self.ask(texts.before, wants), home=home
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
        after = layer_at(share, len(self.scope.loaded_model.anatomy.layers)) - 1

        def turn() -> None:
            self.ask(text, edits=(parse(f'steer {after} token " river" {next(strengths) / 8}'),))

        return Job(turn, turn)

    def ask(
        self,
        text: str,
        wants: tuple[Want, ...] | None = None,
        edits: tuple[Edit, ...] = (),
        *,
        two_models: bool = False,
    ) -> None:
        """Ask and wait for the last figure."""
        serial = self._put(text, wants or self.wants, edits, two_models=two_models)
        while True:
            event = self.events.get()
            if isinstance(event, LoadFailed | Refused):
                raise RuntimeError(str(event))
            if isinstance(event, Frame) and event.serial == serial and event.complete:
                return

    def ask_first(self, text: str, wants: tuple[Want, ...]) -> None:
        """Ask and wait until there is a figure for each pane; the job before waits for the rest."""
        serial, lacking = self._put(text, wants), {want.key for want in wants}
        while lacking:
            event = self.events.get()
            if isinstance(event, LoadFailed | Refused):
                raise RuntimeError(str(event))
            if isinstance(event, Frame) and event.serial == serial:
                if any(one.verdict.status == "refused" for one in event.figures.values()):
                    raise RuntimeError(str([one.verdict for one in event.figures.values()]))
                lacking -= set(event.figures)

    def _put(
        self,
        text: str,
        wants: tuple[Want, ...],
        edits: tuple[Edit, ...] = (),
        *,
        two_models: bool = False,
    ) -> int:
        self._serial += 1
        asked = Request(self._serial, text, wants, special_tokens=False, edits=edits)
        self.engine.ask(replace(asked, two_models=two_models))
        return self._serial

    def _attention(self, length: int, *, layer: int, head: int) -> Job:
        """From a layer and head never shown before to the one that is timed."""
        text = self.prompt(length).text
        self.ask(text)
        seen = next(want for want in self.wants if want.lens == "attention")
        anatomy = self.scope.loaded_model.anatomy
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


class PaintedScreen:
    """The screen at its default size with an engine of its own, and what it paints.

    There is no terminal: the bytes that one would be sent are made, and written nowhere.
    """

    def __init__(self, scope: Scope, prompt: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._app = LlmscopeApp(
            lambda post: Engine(lambda _: scope, post),
            spec=scope.loaded_model.spec,
            prompt=prompt,
            special_tokens=False,
            look=RenderOptions(tier="truecolor"),
        )
        self._painted = 0.0
        display = self._app._display

        def paint(screen: Any, renderable: Any) -> None:
            display(screen, renderable)
            if isinstance(renderable, CompositorUpdate):
                self._app.cells.take(renderable)
                self._app.cells.changes()
                if self._complete():
                    self._painted = time.perf_counter()

        self._app._display = paint  # type: ignore[method-assign]
        self._test = self._app.run_test(size=SIZE)
        self._loop.run_until_complete(self._opened())

    async def _opened(self) -> None:
        await self._test.__aenter__()
        await self._settled(0.0)

    def show(self, text: str) -> float:
        """Have a text in the prompt, and return the seconds until all panes show it."""
        return self._loop.run_until_complete(self._shown(text))

    async def _shown(self, text: str) -> float:
        editor = self._app.editor
        begun = time.perf_counter()
        same, document = shared_length(editor.text, text), editor.document
        with self._app._context():
            editor.replace(text[same:], document.get_location_from_index(same), document.end)
        await self._settled(begun)
        return self._painted - begun

    async def _settled(self, begun: float) -> None:
        """Wait for the first picture with all figures of the text."""
        async with asyncio.timeout(120):
            while self._painted <= begun:
                await asyncio.sleep(0.0005)

    def _complete(self) -> bool:
        """Return whether all figures on screen are of the text of the editor."""
        tokens, app = self._app.state.tokens, self._app
        return bool(tokens) and tokens[-1].end == len(app.editor.text) and not app.waiting


def random_lens(scope: Scope) -> LearnedLens:
    """A Jacobian lens of random matrices, one for each layer before the last."""
    anatomy, generator = scope.loaded_model.anatomy, torch.Generator().manual_seed(0)
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


def write_dictionary(scope: Scope, ids: Sequence[int], folder: Path) -> None:
    """Write a dictionary of 16,384 features for the middle layer, about 64 of them active.

    It fits: each dimension, both ways, is a feature. The others cost as much, and are never active.
    """
    layer, count, active = len(scope.loaded_model.anatomy.layers) // 2, 16_384, 64
    stream = scope.record(list(ids)).rows("stream", layer + 1)
    assert stream is not None
    rows = stream[1:].float().cpu()
    width, mean = rows.shape[1], rows.mean(0)
    random = torch.randn(count - 2 * width, width, generator=torch.Generator().manual_seed(0))
    random = random / random.norm(dim=-1, keepdim=True)
    decoder = torch.cat([torch.eye(width), -torch.eye(width), random])
    # As many dimensions are beyond it as there are to be active features.
    threshold = (rows - mean).abs().quantile(1 - active / width, dim=-1).median()
    thresholds = torch.full((count,), float("3e38"))
    thresholds[: 2 * width] = threshold
    tensors = {
        "W_enc": decoder.T.contiguous(),
        "W_dec": decoder,
        "b_enc": torch.zeros(count),
        "b_dec": mean,
        "threshold": thresholds,
    }
    save_file(tensors, folder / "sae_weights.safetensors")
    config = {
        "architecture": "jumprelu",
        "d_in": width,
        "d_sae": count,
        "dtype": "float32",
        "metadata": {
            "hook_name": f"blocks.{layer}.hook_resid_post",
            "model_from_pretrained_kwargs": {"center_writing_weights": False},
        },
    }
    (folder / "cfg.json").write_text(json.dumps(config))


async def wants_of_the_screen(info: Any, *keys: str) -> tuple[Want, ...]:
    """What the real screen asks for at its default size, with all panes in their places.

    Args:
        info: facts about the model.
        keys: pressed first, outside of the prompt.
    """
    made: list[_Listener] = []

    def make(post: Any) -> _Listener:
        made.append(_Listener(post, info))
        return made[0]

    app = LlmscopeApp(make, spec=info.spec, prompt="The capital", look=RenderOptions())
    async with app.run_test(size=SIZE) as pilot:
        for key in ("escape", *keys) if keys else ():
            await pilot.press(key)
        for _ in range(5):
            await pilot.pause()
        panes = set(app.grid.on_screen)
    if not panes <= {want.key for want in made[0].wants}:
        raise RuntimeError(f"the panes {panes} asked only for {made[0].wants}")
    return made[0].wants
