"""Hidden states of another engine as figures and as a snapshot, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmscope.export.json import SCHEMA
from llmscope.export.read import Snapshot
from llmscope.figure import Axis, Figure, Verdict
from llmscope.models.hidden_states import HiddenStates, StreamSizes
from llmscope.version import __version__

LENS = "residual"
"""The lens that has such figures of a model."""
UNCHECKED = Verdict("unverified", "of another engine's numbers, which no model has checked")


def layer_labels(layers: Sequence[int]) -> tuple[str, ...]:
    """Return the labels of streams as the lens `residual` has them: `embed`, 0, 1, ….

    Args:
        layers: how many layers came before each stream, which is the layer after it.
    """
    return tuple(str(layer - 1) if layer else "embed" for layer in layers)


def norms(states: HiddenStates, labels: Sequence[str]) -> Figure:
    """Return the norms of the streams. [layer, position]

    Args:
        states: the streams.
        labels: the texts of the tokens.
    """
    sizes = [
        np.linalg.norm(states.streams(index).astype(np.float64), axis=-1)
        for index in range(len(states.layers))
    ]
    return Figure(
        lens=LENS,
        title="Residual stream · norm after each layer of the file",
        kind="heatmap",
        axes=(Axis("layer", layer_labels(states.layers)), Axis("position", tuple(labels))),
        values=np.stack(sizes).astype(np.float32),
        unit="norm",
        verdict=UNCHECKED,
        extra={"mode": "stream"},
    )


def cosines(states: HiddenStates, labels: Sequence[str]) -> Figure:
    """Return the cosines of the streams to those of the file's last layer. [layer, position]"""
    last = states.streams(len(states.layers) - 1).astype(np.float64)
    size = np.linalg.norm(last, axis=-1)
    rows = []
    for index in range(len(states.layers)):
        streams = states.streams(index).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            product = np.einsum("tw,tw->t", streams, last)
            rows.append(product / (np.linalg.norm(streams, axis=-1) * size))
    return Figure(
        lens=LENS,
        title=f"Residual stream · cosine to that of layer id {states.layers[-1]}",
        kind="heatmap",
        axes=(Axis("layer", layer_labels(states.layers)), Axis("position", tuple(labels))),
        values=np.stack(rows).astype(np.float32),
        unit="cosine",
        verdict=UNCHECKED,
        extra={"mode": "cosine"},
    )


def as_snapshot(
    states: HiddenStates,
    labels: Sequence[str],
    *,
    spec: str | None = None,
    sizes: StreamSizes | None = None,
) -> Snapshot:
    """Return the content of a snapshot with the figures that the streams alone allow.

    Args:
        states: the streams.
        labels: the texts of the tokens.
        spec: the model that the engine ran; None: not known.
        sizes: its sizes; None: the layers up to the last of the file.
    """
    figures = [norms(states, labels)]
    if len(states.layers) > 1:
        figures.append(cosines(states, labels))
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "llmscope": __version__,
        "model": {
            "spec": spec or f"the model of {states.name}",
            "architecture": "",
            "layers": max(states.layers[-1], 1) if sizes is None else sizes.layers,
            "heads": 0,
            "width": states.width,
            "vocabulary": max(states.ids) + 1 if sizes is None else sizes.vocabulary,
            "parameters": 0,
            "dtype": states.dtype,
            "device": "",
            "revision": None,
            "adapter": None,
        },
        "prompt": None,
        "tokens": [
            {"position": at, "id": token, "text": label}
            for at, (token, label) in enumerate(zip(states.ids, labels, strict=True))
        ],
        "focus": {},
        "provenance": {"hidden states": states.name, "layers": ",".join(map(str, states.layers))},
    }
    return Snapshot(about, tuple(figures))
