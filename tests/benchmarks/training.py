"""What recording a training costs: a step of a run, and the screen of ten thousand of them."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.setting import Setting

Tell = Callable[[str], None]
PROMPTS = (
    {"prompt": "The capital of Italy is", "target": " Rome"},
    "When Mary and John went to the store, John gave a drink to",
    "The quick brown fox jumps over",
    "She sat on the bank of the",
    "2 + 2 =",
)
LENSES = ("tokens", "next-token", "logit-lens", "heads")
STEPS = 10_000
SLIDES = 21


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """Measure, in turns: a recorded step; its passes, lenses and verification; the same by hand.

    Before each, every weight changes, as in a training.
    """
    import torch

    torch.set_num_threads(setting.threads)
    import llmscope

    tell("training: a recorded step")
    scope = llmscope.load(setting.spec, dtype="float32", device=setting.device)
    model, tokenizer = scope.model, scope.tokenizer
    jobs = _jobs(model, tokenizer, Path(tempfile.mkdtemp()) / "run")
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for at in range((3 if setting.quick else 11) + 1):
        for name, job in jobs.items():
            with torch.no_grad():
                for one in model.parameters():
                    one.mul_(1 + 1e-6)
            began = time.perf_counter()
            job()
            if at:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    for name, times in seconds.items():
        found[name] = {"seconds": times}
    tell("training: a long run on the screen")
    found |= _screen()


def _jobs(model: Any, tokenizer: Any, folder: Path) -> dict[str, Callable[[], None]]:
    import torch

    import llmscope
    from llmscope.record.analysis.head_scores import repeated
    from llmscope.runs.training import Run

    scope = llmscope.wrap(model, tokenizer)
    run = Run(folder, scope, PROMPTS, lenses=LENSES)
    texts = [one["prompt"] if isinstance(one, dict) else one for one in PROMPTS]
    rows = [torch.tensor([scope.encode(text).ids]) for text in texts]
    sequence = torch.tensor([repeated(scope.loaded_model).ids])
    norm, head = scope.loaded_model.anatomy.readout.norm, model.get_output_embeddings()
    step = iter(range(1 << 30))

    def record() -> None:
        run.record(next(step))
        assert not run.stopped

    def alone() -> None:
        with scope.unchanged():
            recordings = [scope.record(text, fresh=True) for text in texts]
            for recording, given in zip(recordings, PROMPTS, strict=True):
                target = given.get("target") if isinstance(given, dict) else None
                scope.look("tokens", recording=recording)
                scope.look("next-token", recording=recording, target=target)
                mode = "top" if target is None else "target"
                scope.look("logit-lens", recording=recording, mode=mode, target=target)
            scope.look("heads", recording=recordings[0])
        scope.forget(free=False)

    @torch.no_grad()
    def by_hand() -> None:
        for ids in rows:
            states = model(ids, output_hidden_states=True, use_cache=False).hidden_states
            for layer, state in enumerate(states):
                last = layer == len(states) - 1  # that has been through the norm
                head(state if last else norm(state)).softmax(-1).max(-1)
        model(sequence, use_cache=False)

    return {"run.record": record, "lenses.alone": alone, "bare.by_hand": by_hand}


def _screen() -> dict[str, Any]:
    """Seconds until a run of many steps is shown, and from a slide to the new picture."""
    import asyncio

    from tests.runs.making import written

    folder = written(Path(tempfile.mkdtemp()) / "run", steps=range(STEPS), quick=True)
    return asyncio.run(_slide(folder))


async def _slide(folder: Path) -> dict[str, Any]:
    import asyncio
    from dataclasses import replace

    from llmscope.draw import RenderOptions
    from llmscope.runs.reader import RunReader
    from llmscope.tui.modes.run.run_view import RunView
    from llmscope.tui.modes.run.screen import watch_app

    began = time.perf_counter()
    app = watch_app(RunView([RunReader(folder)]), look=RenderOptions(tier="truecolor"))
    found: dict[str, Any] = {}
    async with app.run_test(size=(120, 40)) as pilot:
        while not app.figures.shown("next-token"):
            await asyncio.sleep(0)
        found["screen.open"] = {"seconds": [time.perf_counter() - began]}
        for page, name in (("1", "screen.slide"), ("2", "screen.slide_over_time")):
            await pilot.press(page)
            times = []
            for _ in range(SLIDES):
                began = time.perf_counter()
                moment = app.state.moment
                assert moment is not None
                app.look_at(replace(app.state, moment=moment.moved(-37)))
                while app.waiting:
                    await asyncio.sleep(0)
                times.append(time.perf_counter() - began)
            found[name] = {"seconds": [statistics.median(times)]}
    return found
