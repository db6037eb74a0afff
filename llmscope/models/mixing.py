"""The token mixer of a layer (attention, state space, ...), identified by its parts.

A module named `self_attn` may be a linear recurrence, and a module named `mixer` may be anything.
So the kind is decided by child modules and parameters that only one kind has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

ATTENTION = ("self_attn", "attn", "attention", "self_attention", "temporal_block")
MIXERS = {
    "state space": ("mamba", "mixer"),
    "convolution": ("conv", "short_conv"),
    "recurrent": ("linear_attn",),
}
"""Mixers that replace the attention or run in parallel with it: kind of the layer -> names."""
STATE_SPACE = frozenset({"A_log", "D"})
"""Parameters that identify a state space if all are present."""
RECURRENT = frozenset(
    {"A_log", "time_decay", "forget_gate", "slope_rate", "rg_lru", "igate_preact"}
)
"""Parts that identify a recurrence if any is present: they control how fast the state decays."""
QUERIES = frozenset(
    {
        *("q_proj", "q_a_proj", "q_b_proj", "query", "query_key", "query_proj", "project_q"),
        *("Wq", "wq", "q_lin", "q", "c_attn", "Wqkv", "qkv_proj", "query_key_value", "qkv"),
    }
)
"""Parts that identify an attention if any is present and no other kind matched before."""
CROSS = ("cross", "encoder_attn", "encoder_decoder")
"""Prefixes of the names of cross-attention modules."""
FEED_FORWARD = frozenset({"up_proj", "fc1", "experts", "gate_up_proj"})


WITHOUT_PATTERN = {
    "attention": "this layer's attention has no one output projection that could be found",
    "state space": "this layer has no attention: a state space mixes its tokens",
    "convolution": "this layer has no attention: a convolution mixes its tokens",
    "recurrent": "this layer has no attention of tokens to tokens: a recurrence mixes them",
    "feed-forward": "this layer has no attention: nothing mixes tokens in it",
    "unknown": "what mixes this layer's tokens could not be found",
}
"""Kind of a layer -> why no attention pattern is shown for it."""


@dataclass(frozen=True)
class Mixing:
    """The token mixer of a layer.

    Attributes:
        kind: "attention", "state space", "convolution", "recurrent", "feed-forward" (the layer
            mixes no tokens), or "unknown".
        attention: the attention module; None without one.
        mixer: the mixer that replaces the attention or runs in parallel with it; None without one.
        parallel_kind: the kind of a mixer in parallel with an attention; empty without one.
        feed_forward: the feed-forward module in the place of a mixer; None without one.
    """

    kind: str
    attention: nn.Module | None = None
    mixer: nn.Module | None = None
    parallel_kind: str = ""
    feed_forward: nn.Module | None = None


def kind_of(module: nn.Module) -> str:
    """Return how a module mixes tokens, as a value of `Mixing.kind`."""
    parts = {name for name, _ in module.named_children()}
    parts |= {name for name, _ in module.named_parameters(recurse=False)}
    parts |= {name for name, _ in module.named_buffers(recurse=False)}
    if parts >= STATE_SPACE:
        return "state space"
    if parts & RECURRENT:
        return "recurrent"
    within = parts | {name.rpartition(".")[2] for name, _ in module.named_modules()}
    if within & QUERIES:
        return "attention"
    if "conv" in parts:
        return "convolution"
    return "feed-forward" if parts & FEED_FORWARD else "unknown"


def mixing_of(layer: nn.Module) -> Mixing:
    """Find the token mixer of a layer, among its children or one level below them."""
    attention = child_of(layer, ATTENTION)
    beside, mixer = _mixer(layer)
    if attention is not None and kind_of(attention) in ("recurrent", "state space"):
        return Mixing(kind_of(attention), mixer=attention)
    if attention is None and mixer is not None:
        kind = kind_of(mixer)
        if kind == "attention":
            return Mixing("attention", mixer)
        if kind == "feed-forward":
            return Mixing("feed-forward", feed_forward=mixer)
        return Mixing(beside if kind == "unknown" else kind, mixer=mixer)
    if attention is None:
        attention = _nested_attention(layer)
        nested = (_mixer(child) for child in layer.children())
        beside, mixer = next((pair for pair in nested if pair[1] is not None), ("", None))
    if attention is not None:
        return Mixing("attention", attention, mixer, beside)
    recurrent = next((child for child in layer.children() if kind_of(child) == "recurrent"), None)
    return Mixing("unknown" if recurrent is None else "recurrent", mixer=recurrent)


def _mixer(layer: nn.Module) -> tuple[str, nn.Module | None]:
    """Return the kind and module of a child with a name in `MIXERS`; ("", None) without one."""
    for kind, names in MIXERS.items():
        mixer = child_of(layer, names)
        if mixer is not None:
            return kind, mixer
    return "", None


def _nested_attention(layer: nn.Module) -> nn.Module | None:
    """Return an attention with an unlisted name or one level down; of both, the inner one."""
    for name, child in layer.named_children():
        if name.startswith(CROSS):
            continue
        named = child_of(child, ATTENTION)
        if named is not None and kind_of(named) == "attention":
            return named
        if kind_of(child) == "attention":
            return child
    return None


def child_of(module: nn.Module, names: Iterable[str]) -> nn.Module | None:
    """Return the first named child that the module has; None if it has no such child."""
    children = dict(module.named_children())
    return next((children[name] for name in names if name in children), None)
