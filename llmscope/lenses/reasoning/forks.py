"""Mode `forks` of the lens `reasoning`: the tokens at which a trace could have gone elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.reasoning.options import QUANTILE
from llmscope.support.numbers import percent

if TYPE_CHECKING:
    from llmscope.lenses.reasoning.trace import Trace
    from llmscope.record.capture.recording import Recording

ALTERNATIVES = 3
"""Number of other tokens told for each fork."""


def forks(recording: Recording, focus: Focus, trace: Trace) -> Figure:
    """Return the tokens of a trace with the highest entropy before them. [fork], bits"""
    import torch

    from llmscope.record.derive.row_stats import row_stats
    from llmscope.record.derive.tensors import logits_after

    *_, stats = row_stats(recording)
    prompt = recording.prompt
    places = [at for at in range(max(trace.start, 1), trace.stop) if not prompt.special[at]] or [
        trace.start
    ]
    entropy = np.array([stats.entropy[at - 1] for at in places])
    share = QUANTILE.of(focus)
    threshold = float(np.nanquantile(entropy, share)) if np.isfinite(entropy).any() else np.nan
    above = [at for at, bits in zip(places, entropy, strict=True) if bits >= threshold]
    likeliest = sorted(sorted(above, key=lambda at: -stats.entropy[at - 1])[: focus.top_k])
    label = recording.model.label
    chances: list[float] = []
    others: list[str] = []
    texts: list[str] = []
    for at in likeliest:
        p = torch.softmax(logits_after(recording, at - 1).double(), -1)
        written = prompt.ids[at]
        top = [
            token
            for token in p.topk(min(ALTERNATIVES + 1, len(p))).indices.tolist()
            if token != written
        ]
        alternatives = [
            f"‹{label(token)}› {percent(float(p[token]))}" for token in top[:ALTERNATIVES]
        ]
        chances.append(float(p[written]))
        others.append(", ".join(alternatives))
        texts.append(f"{at}: ‹{prompt.labels[at]}› or {others[-1]}")
    values = np.array([stats.entropy[at - 1] for at in likeliest], dtype=np.float32)
    probability = np.array(chances, dtype=np.float32)
    return Figure(
        lens="reasoning",
        title=f"Reasoning · {len(likeliest)} of {len(above)} forks",
        kind="table",
        axes=(Axis("fork", tuple(prompt.labels[at] for at in likeliest)),),
        values=values,
        unit="bits",
        extra={
            "mode": "forks",
            "positions": tuple(likeliest),
            "ids": tuple(prompt.ids[at] for at in likeliest),
            "probability": probability,
            "alternatives": tuple(others),
            "threshold": threshold,
            "quantile": share,
            "above": len(above),
            "start": trace.start,
            "stop": trace.stop,
            "heads": ("bits", "p"),
            "cells": (values, probability),
            "units": ("bits", "probability"),
            "texts": tuple(texts),
            "caption": (
                f"forks: {len(above)} of {len(places)} tokens of the trace have {threshold:.2f} "
                f"bits or more before them, the {share:.0%} quantile",
            ),
        },
    )
