"""Mixtures of experts: what a router made of each token, from what the taps kept of it.

A router gives logits over all experts, and hands a few of them, with weights, to the experts. How
it comes from one to the other differs: a softmax or a sigmoid; the weights of the chosen as they
are, or normed to sum to one; a bias or groups that steer the choice alone. The choice and the
weights are recorded. Which score function stands behind them is found out by running the router.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.recording import Recording

SCORINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: torch.softmax(logits, dim=-1),
    "sigmoid": torch.sigmoid,
}
TRIALS = 64
"""Random rows on which the score functions are compared."""

_known: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class Routing:
    """What a router made of some rows.

    Attributes:
        scoring: the name of the score function.
        scores: of all experts, in float32. [row, expert]; a softmax's rows sum to one.
        chosen: the experts that ran. [row, choice]
        weights: what their outputs were multiplied by, in float32. [row, choice]
    """

    scoring: str
    scores: Tensor
    chosen: Tensor
    weights: Tensor


@torch.no_grad()
def routing(recording: Recording, layer: int, rows: range | None = None) -> Routing:
    """What the router of a layer made of the prompt, or of some rows of it.

    Raises:
        ValueError: the layer has no router that was found, or one whose score function is another.
    """
    logits, weights, chosen = (
        recording.rows(name, layer, rows) for name in ("router", "routed", "chosen")
    )
    parts = recording.subject.anatomy.layers[layer]
    if parts.router is None or logits is None or weights is None or chosen is None:
        raise ValueError(f"layer {layer} has no router that was found")
    scoring = _scoring(parts, parts.router, recording.subject)
    return Routing(scoring, SCORINGS[scoring](logits.float()), chosen, weights.float())


def unexplained(found: Routing) -> float:
    """How far the weights are from the scores of the chosen, up to one factor for all rows.

    The scores are taken as they are, or each row normed to sum to one, whichever is nearer.

    Returns:
        The largest error of a row relative to that row's largest weight.
    """
    scores = found.scores.gather(-1, found.chosen)
    errors: list[float] = []
    for candidate in (scores, scores / scores.sum(-1, keepdim=True)):
        factor = (found.weights * candidate).sum() / candidate.square().sum()
        error = (found.weights - factor * candidate).abs().amax(-1)
        errors.append(float((error / found.weights.abs().amax(-1)).max()))
    return min(errors)


def mixture_output(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    """What the MLP writes when its experts are handed the recorded choice. [row, width]"""
    entry, weights, chosen = (
        recording.rows(name, layer, rows) for name in ("mlp_entry", "routed", "chosen")
    )
    if entry is None or weights is None or chosen is None:
        raise ValueError(f"layer {layer} has no experts whose router was found")
    parts = recording.subject.anatomy.layers[layer]
    with torch.no_grad():
        mixed = parts.mixture(entry, chosen, weights)
        written: Tensor = parts.written(parts.mlp_write, (parts.mlp_entry,))(mixed)
    return written


def _scoring(layer: Layer, router: nn.Module, subject: LoadedModel) -> str:
    """The score function that explains the router's weights best, on rows of its own.

    It is a trait of the router, so it must not depend on the prompt, which may be one token.

    Raises:
        ValueError: no telling: two explain them alike.
    """
    if router not in _known:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(TRIALS, subject.anatomy.width, generator=generator)
        logits, weights, chosen = layer.routed(rows.to(subject.device, subject.dtype))
        errors = {
            name: unexplained(Routing(name, score(logits.float()), chosen, weights.float()))
            for name, score in SCORINGS.items()
        }
        best, second, *_ = sorted(errors, key=errors.__getitem__)
        if errors[second] <= 2 * errors[best]:  # rounding does not settle it
            raise ValueError("its router's weights do not tell its scores")
        _known[router] = best
    return _known[router]
