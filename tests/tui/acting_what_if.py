"""Figures of passes that were edited, and of sweeps, as the scripted engine makes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from llmscope.engine.events import Token, Want
from llmscope.figure import Axis, Figure

# The same model as in `acting`, which imports this.
LAYERS, HEADS = 30, 9
PARTS = ("attention", "MLP", "layer")
_LAYERS = Axis("layer", tuple(map(str, range(LAYERS))))
_HEADS = Axis("head", tuple(map(str, range(HEADS))))


def ablation(want: Want, progress: tuple[int, int] | None = None) -> Figure:
    """A sweep over heads or parts; with `progress`, as far as it has come."""
    mode = want.focus.mode
    across = _HEADS if mode.startswith("heads") else Axis("part", PARTS)
    kl = mode.endswith("-kl")
    random = np.random.default_rng(len(mode))
    values = random.normal(0, 0.4, (LAYERS, len(across))) * random.random((LAYERS, 1)) ** 2
    extra: dict[str, Any] = {"mode": mode, "target_id": 5, "target": " Paris"}
    if progress is not None:
        extra["progress"] = progress
        values[LAYERS * progress[0] // progress[1] :] = np.nan
    title = f"Ablation · {mode}"
    return Figure(
        *("ablation", title, "heatmap", (_LAYERS, across)),
        (abs(values) if kl else values).astype(np.float32),
        "nats" if kl else "logit",
        extra=extra,
    )


def patching(want: Want, tokens: tuple[Token, ...], versus: str | None) -> Figure:
    """A sweep over places; refused without a prompt B."""
    if versus is None:
        return Figure.lacking("patching", "Patching", "prompt B", "no prompt to patch from")
    mode = want.focus.mode
    labels = tuple(token.text for token in tokens)
    across = _HEADS if mode == "heads" else Axis("position", labels)
    if mode == "paths":
        across = Axis("part", (*(f"head {head}" for head in range(HEADS)), "MLP"))
    values = np.random.default_rng(len(mode)).beta(0.3, 2, (LAYERS, len(across))) - 0.1
    axes = (_LAYERS, across)
    return Figure(
        *("patching", f"Patching · {mode}", "heatmap", axes, values.astype(np.float32), "share"),
        extra={"mode": mode},
    )


def edited(figure: Figure, want: Want, edits: tuple[object, ...]) -> Figure:
    """The figure as edits leave it; as what they changed, if that is wanted."""
    if not edits:
        return figure
    random = np.random.default_rng(sum(map(ord, "".join(map(str, edits)))))
    if figure.lens == "next-token":
        before = figure.values.copy()
        after = np.sort(random.dirichlet(1 / (1 + np.arange(len(before)))))[::-1]
        extra = {
            **figure.extra,
            "unedited": before[random.permutation(len(before))],
            "unedited_target_probability": 0.6,
            "unedited_target_rank": 1,
            "kl": 0.623,
        }
        return replace(figure, values=after.astype(np.float32), extra=extra)
    if not want.focus.change:
        return figure
    values = figure.values * random.normal(0, 1, figure.values.shape).astype(np.float32)
    return replace(figure, title=f"{figure.title} · change", values=values)
