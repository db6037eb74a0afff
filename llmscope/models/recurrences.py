"""Layers that mix tokens by a recurrence or a convolution: the module, and the function it calls.

transformers computes these in functions of the file that defines the layer, so that a faster kernel
may take their place. The call of such a function is where queries, keys, values and decays pass
just as they are used; `llmscope.record.mixer_calls` listens there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from llmscope.models.kernel_functions import functions_called


@dataclass(frozen=True)
class Rule:
    """A way to mix tokens that is linear in the values, so that it has an exact map.

    Attributes:
        name: the rule, in words.
        functions: the names of the functions that compute it for a whole prompt.
        steps: the names of those that compute it for one token behind the state of others.
        sizes: the attributes of a module that may hold how many maps it has.
        unit: what has a map of its own: "head" or "channel".
        rows_last: whether the functions' values are `[prompt, channel, row]`, not `[prompt, row,
            head, width]` or `[prompt, row, channel]`.
    """

    name: str
    functions: tuple[str, ...]
    sizes: tuple[str, ...]
    unit: str = "head"
    rows_last: bool = False
    steps: tuple[str, ...] = ()


RULES = (
    Rule(
        "gated delta rule",
        ("torch_chunk_gated_delta_rule",),
        ("num_v_heads",),
        steps=("torch_recurrent_gated_delta_rule",),
    ),
    Rule(
        "Kimi delta rule",
        ("chunk_kimi_delta_attention",),
        ("num_heads",),
        steps=("recurrent_kimi_delta_attention",),
    ),
    Rule(
        "Mamba-2 recurrence",
        ("mamba2_chunk_scan",),
        ("num_heads",),
        steps=("mamba2_selective_state_update",),
    ),
    Rule("RWKV average", ("rwkv_linear_attention",), ("attention_hidden_size",), "channel"),
    Rule(
        "Mamba recurrence",
        ("mamba_selective_scan",),
        ("intermediate_size",),
        "channel",
        rows_last=True,
        steps=("mamba_selective_state_update",),
    ),
)
CONVOLUTION = Rule(
    "short convolution",
    ("causal_conv1d_fn",),
    ("hidden_size",),
    "channel",
    rows_last=True,
    steps=("causal_conv1d_update",),
)
"""Only of a layer without any other rule: the others begin with such a convolution."""


@dataclass(frozen=True)
class Recurrence:
    """The recurrence of a layer.

    Attributes:
        module: the module that calls the function.
        rule: how it mixes tokens.
        functions: the global names of the module's file, among which `rule.functions` are looked up
            at each call.
        count: the number of its maps, one for each head or channel; 0 if the module does not say.
        heads: what the function gives passes through this module, which is no part of the model, in
            passes of llmscope's: hooks before it change heads. `[prompt, row, head · width]`
    """

    module: nn.Module
    rule: Rule
    functions: dict[str, Any]
    count: int
    heads: nn.Module = field(default_factory=nn.Identity)


def find_recurrence(mixer: nn.Module | None) -> Recurrence | None:
    """Return the recurrence of a token mixer; None if it calls no function of a known rule.

    The forward of one of its modules may call it, or a function of the same file in between.
    """
    modules = [] if mixer is None else list(mixer.modules())
    for rule in (*RULES, CONVOLUTION):
        for module in modules:
            forward = _own_forward(module)
            for function in () if forward is None else functions_called(forward):
                names = set(function.__code__.co_names)
                if set(rule.functions) & names and all(
                    callable(function.__globals__.get(name)) for name in rule.functions
                ):
                    return Recurrence(module, rule, function.__globals__, _count(module, rule))
    return None


def _own_forward(module: nn.Module) -> Any:
    """Return the undecorated function that is the module's forward; None if it is no function."""
    forward: Callable[..., Any] = inspect.unwrap(type(module).forward)
    return forward if inspect.isfunction(forward) else None


def _count(module: nn.Module, rule: Rule) -> int:
    convolution = getattr(module, "conv", None)
    if rule is CONVOLUTION and isinstance(convolution, nn.Conv1d):
        return convolution.out_channels
    values = (getattr(module, name, None) for name in rule.sizes)
    return next((value for value in values if isinstance(value, int)), 0)
