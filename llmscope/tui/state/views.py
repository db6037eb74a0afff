"""The views of the map and the modes of the attention pane, in the order of their key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MapView:
    """A lens whose figure has the axes layer and position: one way to fill the map.

    Attributes:
        words: what else users may type to find it, separated by commas.
    """

    title: str
    lens: str
    mode: str
    words: str = ""


# fmt: off
MAP_VIEWS = (
    MapView("logit lens", "logit-lens", "top",
        "lens, early exit, intermediate predictions, unembed, tuned lens, layer predictions, when "
        "does it know, vocabulary projection"),
    MapView("probability of the target", "logit-lens", "target",
        "target probability, probability of the answer, answer by layer, rank of the target"),
    MapView("KL to the prediction", "logit-lens", "kl",
        "KL, divergence by layer, distance to the final prediction, depth of computation"),
    MapView("lenses side by side", "logit-lens", "lenses",
        "side by side, compare lenses, Jacobian lens, J-lens, tuned lens, learned lenses"),
    MapView("stream norm", "residual", "stream",
        "norm, norms, residual stream, residual norm, residual, hidden states, L2 norm, "
        "activation norm, massive activations"),
    MapView("attention write", "residual", "attention", "attention output, attn_out"),
    MapView("MLP write", "residual", "mlp", "MLP output, mlp_out, what the MLP adds"),
    MapView("cosine to final stream", "residual", "cosine",
        "cosine, cosine similarity, similarity, direction of the stream, convergence"),
    MapView("MLP activity", "mlp", "overview", "sparsity, activation sparsity, active neurons"),
    MapView("attention entropy", "heads", "entropy-by-token",
        "attention entropy, entropy of attention, diffuse attention, focus of attention"),
    MapView("sink share", "heads", "sink-by-token", "sink share, sinks by token"),
    MapView("probe score", "probe", "layers",
        "probe, probes, linear probe, direction, concept, concept activation, representation "
        "reading"),
    MapView("probe probability", "probe", "probability", "probe probability, calibrated probe"),
)
# fmt: on
ATTENTION_MODES = ("raw", "mean", "max", "value-weighted", "no-sink", "rollout")
ATTENTION_WORDS = {
    "raw": "one head, raw pattern, single head",
    "mean": "mean of all heads, average attention, mean attention, average of heads",
    "max": "maximum of all heads, max attention",
    "value-weighted": "value-weighted, weighted by values, norm-based attention, value norm",
    "no-sink": "without sinks, no sink, sink removed, without BOS",
    "rollout": "rollout, attention rollout, attention flow",
}
"""The name of each mode, and what else users may type to find it, separated by commas."""
OF_ONE_HEAD = ("raw", "value-weighted", "no-sink")
ONE_QUERY = "one-query"
"""The view of the attention pane that shows one query of all heads, over all keys."""
ATTENTION_VIEWS = (*ATTENTION_MODES, ONE_QUERY)
