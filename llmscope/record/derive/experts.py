"""Mixtures of experts: the routing of each token, from the recorded outputs of the router.

A router computes logits over all experts, and chooses a few experts with weights. Routers differ
in the step between: a softmax or a sigmoid; the weights of the chosen experts as they are, or
normalized to sum to one; a bias or groups that affect the choice alone. The choice and the weights
are recorded. The score function is identified by running the router.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from llmscope.errors import WrongValueError
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
    """The routing of some rows.

    Attributes:
        scoring: the name of the score function.
        scores: the scores of all experts, in float32. [row, expert]; a softmax's rows sum to one.
        chosen: the experts that ran. [row, choice]
        weights: the factors of their outputs, in float32. [row, choice]
    """

    scoring: str
    scores: Tensor
    chosen: Tensor
    weights: Tensor


@torch.no_grad()
def routing(recording: Recording, layer: int, rows: range | None = None) -> Routing:
    """Return the routing of a prompt in a layer; of all its rows if `rows` is None.

    Raises:
        ValueError: no router was found in the layer, or its score function cannot be identified.
    """
    logits, weights, chosen = (
        recording.rows(name, layer, rows) for name in ("router", "routed", "chosen")
    )
    parts = recording.model.anatomy.layers[layer]
    if parts.router is None or logits is None or weights is None or chosen is None:
        raise WrongValueError(f"layer {layer} has no router that was found")
    scoring = _scoring(parts, parts.router, recording.model)
    return Routing(scoring, SCORINGS[scoring](logits.float()), chosen, weights.float())


def unexplained(computed: Routing) -> Tensor:
    """Measure how well the chosen experts' scores explain the weights, up to one common factor.

    The scores are taken as they are, or with each row normalized to sum to one, whichever is
    closer.

    Returns:
        The largest error of a row relative to that row's largest weight, on the device. []
    """
    scores = computed.scores.gather(-1, computed.chosen)
    errors: list[Tensor] = []
    for candidate in (scores, scores / scores.sum(-1, keepdim=True)):
        factor = (computed.weights * candidate).sum() / candidate.square().sum()
        error = (computed.weights - factor * candidate).abs().amax(-1)
        errors.append((error / computed.weights.abs().amax(-1)).max())
    plain, normalized = errors
    return torch.where(normalized < plain, normalized, plain)


def mixture_output(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    """Compute the MLP's write by running its experts with the recorded choice. [row, width]"""
    entry, weights, chosen = (
        recording.rows(name, layer, rows) for name in ("mlp_input_module", "routed", "chosen")
    )
    if entry is None or weights is None or chosen is None:
        raise WrongValueError(f"layer {layer} has no experts whose router was found")
    parts = recording.model.anatomy.layers[layer]
    with torch.no_grad():
        mixed = parts.mixture(entry, chosen, weights)
        written: Tensor = parts.written("mlp_write", (parts.mlp_input_module,))(mixed)
    return written


def _scoring(layer: Layer, router: nn.Module, model: LoadedModel) -> str:
    """Return the score function that explains the router's weights best, on random rows.

    It is a property of the router, so it must not depend on the prompt, which may be one token.

    Raises:
        ValueError: two score functions explain the weights about equally well.
    """
    if router not in _known:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(TRIALS, model.anatomy.width, generator=generator)
        logits, weights, chosen = layer.routed(rows.to(model.device, model.dtype))
        errors = {
            name: float(unexplained(Routing(name, score(logits.float()), chosen, weights.float())))
            for name, score in SCORINGS.items()
        }
        best, second, *_ = sorted(errors, key=errors.__getitem__)
        if errors[second] <= 2 * errors[best]:  # rounding does not settle it
            raise WrongValueError("its router's weights do not tell its scores")
        _known[router] = best
    return _known[router]
