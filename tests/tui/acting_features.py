"""Plausible figures of the lens features, for the engine that acts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmscope.engine.events import Token, Want
from llmscope.figure import Axis, Figure
from llmscope.models.info import DictionaryFacts

TITLE = "stream after layer 12"


def features(want: Want, tokens: tuple[Token, ...]) -> Figure:
    """A figure of the mode that is asked for."""
    mode, count = want.focus.mode, len(tokens)
    random = np.random.default_rng(count)
    positions = Axis("position", tuple(token.text for token in tokens))
    extra: dict[str, object] = {
        "mode": mode,
        "position": want.focus.position % count,
        "dictionary": "town",
        "place": "12.resid_post",
        "layer": 12,
        "fvu": 0.12,
        "kl": 0.5,
    }
    if mode in ("fit", "fit-kl"):
        axes = (Axis("reconstruction", ("dictionary", "chance")), positions)
        values = random.gamma(2, 0.1, (2, count)).astype(np.float32)
        return Figure("features", f"Fit · {TITLE}", "heatmap", axes, values, "FVU", extra=extra)
    if mode in ("prompt", "tokens"):
        extra |= {"feature": 1234, "ids": np.array([1234])}
        axis = positions if mode == "prompt" else Axis("token", (" Paris", " the", " not"))
        values = random.gamma(2, 1, len(axis)).astype(np.float32)
        title = f"Feature 1234 · {TITLE}"
        return Figure("features", title, "bars", (axis,), values, "activation", extra=extra)
    ids = random.permutation(16384)[: want.focus.top_k]
    values = -np.sort(-random.gamma(2, 2, len(ids))).astype(np.float32)
    extra |= {"ids": ids, "strongest": int(ids[0]), "labels": [""] * len(ids)}
    axis = Axis("feature", tuple(map(str, ids)))
    title = f"Features at ‹{tokens[-1].text}› · {TITLE}"
    return Figure("features", title, "bars", (axis,), values, "activation", extra=extra)


def dictionaries_of(names: Sequence[str], layers: int) -> tuple[DictionaryFacts, ...]:
    """Facts about dictionaries by layer: two of a name of four letters or more, else one."""
    found = []
    for name in names:
        folders = (f"{name}/a", f"{name}/b") if len(name) > 3 else (name,)
        for at, folder in enumerate(folders):
            layer = (sum(map(ord, name)) + at) % layers
            title = f"stream after layer {layer}"
            found.append(DictionaryFacts(folder, name, layer, "resid_post", 16384, title))
    return tuple(sorted(found, key=lambda one: one.layer))
