"""Runs whose numbers are known, without a model."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import numpy as np

from llmscope.figure import Axis, Figure
from llmscope.runs.format import RunFigure, RunInfo, RunPrompt, StepLine
from llmscope.runs.writer import RunWriter

LAYERS, HEADS = 3, 2
TOKENS = ("a", " b", " c", " d")
PROMPTS = 2
MODEL = {
    "spec": "made",
    "architecture": "Made",
    "layers": LAYERS,
    "heads": HEADS,
    "width": 8,
    "vocabulary": 10,
    "parameters": 1000,
    "dtype": "float32",
    "device": "cpu",
    "revision": None,
    "adapter": None,
}


def info(source="training", prompts=PROMPTS, **more):
    figures = [RunFigure(key="model/heads:induction", lens="heads", mode="induction")]
    for at in range(prompts):
        figures += [
            RunFigure(key=f"{at}/tokens", lens="tokens", prompt=at),
            RunFigure(key=f"{at}/next-token", lens="next-token", prompt=at),
            RunFigure(key=f"{at}/logit-lens:target", lens="logit-lens", mode="target", prompt=at),
        ]
    told = tuple(
        RunPrompt(
            text="".join(TOKENS),
            ids=tuple(range(len(TOKENS))),
            labels=TOKENS,
            special=(False,) * len(TOKENS),
            focus={"target": 5 + at},
            target=" e",
        )
        for at in range(prompts)
    )
    return RunInfo(
        **{
            "llmscope": "0.1.0",
            "model": MODEL,
            "versions": {"torch": "2"},
            "prompts": told,
            "figures": tuple(figures),
            "source": source,
            **more,
        }
    )


def value(step, prompt, *place):
    """The number at a place of a figure: another one for each step, prompt and place."""
    seed = step * 7919 + prompt * 104729 + sum((at + 1) * 31**n for n, at in enumerate(place))
    return np.float32((seed % 997) / 997)


def figures(step, prompts=PROMPTS):
    positions = Axis("position", TOKENS)
    layers = Axis("layer", ("embed", *map(str, range(LAYERS))))
    found = {
        "model/heads:induction": Figure(
            "heads",
            "Heads · induction",
            "heatmap",
            (Axis("layer", layers.labels[1:]), Axis("head", tuple(map(str, range(HEADS))))),
            np.array([[value(step, 9, a, b) for b in range(HEADS)] for a in range(LAYERS)]),
            "probability",
            extra={"mode": "induction", "half": 25},
        )
    }
    for at in range(prompts):
        surprisal = np.array([value(step, at, one) for one in range(len(TOKENS))])
        surprisal[0] = np.nan
        found[f"{at}/tokens"] = Figure(
            "tokens",
            "Tokens · surprisal",
            "tokens",
            (positions,),
            surprisal,
            "bits",
            extra={
                "ids": np.arange(len(TOKENS)),
                "special": (False,) * len(TOKENS),
                "ranks": surprisal,
                "entropy": surprisal,
            },
        )
        top = step % 3
        found[f"{at}/next-token"] = Figure(
            "next-token",
            "Next token after ‹ d›",
            "bars",
            (Axis("token", (f" t{top}", " u")),),
            np.array([value(step, at, 1, 2), 0.01], np.float32),
            "probability",
            extra={
                "ids": np.array([top, 4]),
                "position": len(TOKENS) - 1,
                "target_id": 5 + at,
                "target": " e",
                "target_rank": 3,
                "target_probability": float(value(step, at, 3, 3)),
                "entropy": 1.5,
            },
        )
        lens = np.array(
            [[value(step, at, row, one) for one in range(len(TOKENS))] for row in range(LAYERS + 1)]
        )
        found[f"{at}/logit-lens:target"] = Figure(
            "logit-lens",
            "Logit lens · probability of ‹ e› after each layer",
            "heatmap",
            (layers, positions),
            lens,
            "probability",
            extra={
                "mode": "target",
                "ids": np.full(lens.shape, top),
                "names": {top: f" t{top}"},
                "ranks": lens,
                "target_id": 5 + at,
                "target": " e",
            },
        )
    return found


def line(step, **more):
    return StepLine(step=step, time=1000.0 + step, **more)


def written(folder: Path, steps=range(0, 50, 10), prompts=PROMPTS, quick=False, **more):
    """Write a run with the loss 1 / (1 + step); `quick` does not wait for the disk."""
    if quick:
        with (
            patch("llmscope.support.fsync.sync_file"),
            patch("llmscope.support.fsync.sync_folders"),
        ):
            return written(folder, steps, prompts, **more)
    writer = RunWriter(folder, info(prompts=prompts, **more))
    for step in steps:
        loss = {"loss": 1 / (1 + step)}
        writer.add(figures(step, prompts), line(step, scalars=loss), began=perf_counter())
    return folder
