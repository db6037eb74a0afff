"""The views of the map and the modes of the attention pane, in the order of their key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MapView:
    """A lens whose figure has the axes layer and position: one way to fill the map."""

    title: str
    lens: str
    mode: str


MAP_VIEWS = (
    MapView("logit lens", "logit-lens", "top"),
    MapView("probability of the target", "logit-lens", "target"),
    MapView("stream norm", "residual", "stream"),
    MapView("attention write", "residual", "attention"),
    MapView("MLP write", "residual", "mlp"),
    MapView("cosine to final stream", "residual", "cosine"),
    MapView("MLP activity", "mlp", "overview"),
    MapView("attention entropy", "heads", "entropy-by-token"),
    MapView("sink share", "heads", "sink-by-token"),
)
ATTENTION_MODES = ("raw", "mean", "max", "value-weighted", "no-sink", "rollout")
OF_ONE_HEAD = ("raw", "value-weighted", "no-sink")
