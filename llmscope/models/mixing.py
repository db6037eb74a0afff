"""What mixes the tokens of a layer: told by what a module is made of, not by its name alone.

A module that is called `self_attn` may be a linear recurrence, and one that is called `mixer` may
be anything. What tells them apart are the parts that only one of them can have.
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
"""What mixes tokens in layers that have no attention, or beside it: kind of the layer -> names."""
STATE_SPACE = frozenset({"A_log", "D"})
"""Parameters that a state space has, all of them."""
RECURRENT = frozenset(
    {"A_log", "time_decay", "forget_gate", "slope_rate", "rg_lru", "igate_preact"}
)
"""Parts of which any makes a recurrence: they say how fast a state is forgotten."""
QUERIES = frozenset(
    {
        *("q_proj", "q_a_proj", "q_b_proj", "query", "query_key", "query_proj", "project_q"),
        *("Wq", "wq", "q_lin", "q", "c_attn", "Wqkv", "qkv_proj", "query_key_value", "qkv"),
    }
)
"""Parts of which any makes an attention, if nothing says otherwise."""
CROSS = ("cross", "encoder_attn", "encoder_decoder")
"""Begins the names of attention to another sequence."""
FEED_FORWARD = frozenset({"up_proj", "fc1", "experts", "gate_up_proj"})


WITHOUT_PATTERN = {
    "attention": "this layer's attention has no one output projection that could be found",
    "state space": "this layer has no attention: a state space mixes its tokens",
    "convolution": "this layer has no attention: a convolution mixes its tokens",
    "recurrent": "this layer has no attention of tokens to tokens: a recurrence mixes them",
    "feed-forward": "this layer has no attention: nothing mixes tokens in it",
    "unknown": "what mixes this layer's tokens could not be found",
}
"""Kind of a layer -> why no pattern of it is shown."""


@dataclass(frozen=True)
class Mixing:
    """What mixes the tokens of a layer.

    Attributes:
        kind: "attention", "state space", "convolution", "recurrent", "feed-forward" (nothing mixes
            tokens there), or "unknown".
        attention: the attention module; None without one.
        mixer: what mixes tokens in the attention's place, or beside it; None if nothing does.
        beside: the mixer's kind where it works beside an attention; empty otherwise.
        feed_forward: what stands where other layers mix tokens, but mixes none.
    """

    kind: str
    attention: nn.Module | None = None
    mixer: nn.Module | None = None
    beside: str = ""
    feed_forward: nn.Module | None = None


def kind_of(module: nn.Module) -> str:
    """How a module mixes tokens, in the words of `Mixing.kind`; "unknown" if nothing tells."""
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
    """What mixes the tokens of a layer: among its children, or one level below them."""
    attention = _child(layer, ATTENTION)
    beside, mixer = _mixer(layer)
    if attention is not None and kind_of(attention) in ("recurrent", "state space"):
        return Mixing(kind_of(attention), mixer=attention)
    if attention is None and mixer is not None:
        found = kind_of(mixer)
        if found == "attention":
            return Mixing("attention", mixer)
        if found == "feed-forward":
            return Mixing("feed-forward", feed_forward=mixer)
        return Mixing(beside if found == "unknown" else found, mixer=mixer)
    if attention is None:
        attention = _nested(layer)
        nested = (_mixer(child) for child in layer.children())
        beside, mixer = next((pair for pair in nested if pair[1] is not None), ("", None))
    if attention is not None:
        return Mixing("attention", attention, mixer, beside)
    recurrent = next((one for one in layer.children() if kind_of(one) == "recurrent"), None)
    return Mixing("unknown" if recurrent is None else "recurrent", mixer=recurrent)


def _mixer(layer: nn.Module) -> tuple[str, nn.Module | None]:
    """What is no attention by its name: its kind, and the module."""
    for kind, names in MIXERS.items():
        found = _child(layer, names)
        if found is not None:
            return kind, found
    return "", None


def _nested(layer: nn.Module) -> nn.Module | None:
    """An attention with a name of its own, the innermost first."""
    for name, child in layer.named_children():
        if name.startswith(CROSS):
            continue
        named = _child(child, ATTENTION)
        if named is not None and kind_of(named) == "attention":
            return named
        if kind_of(child) == "attention":
            return child
    return None


def _child(module: nn.Module, names: Iterable[str]) -> nn.Module | None:
    children = dict(module.named_children())
    return next((children[name] for name in names if name in children), None)
