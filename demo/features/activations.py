"""Activations of a transformers model of the Llama family at named hooks, in batches of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Part = Literal["resid_post", "mlp_in", "mlp_out", "neurons"]
_TRANSFORMER_LENS = {
    "resid_post": "hook_resid_post",
    "mlp_in": "mlp.hook_in",
    "mlp_out": "hook_mlp_out",
    "neurons": "mlp.hook_post",
}
_TRANSFORMERS = {
    "resid_post": "output",
    "mlp_in": "post_attention_layernorm.output",
    "mlp_out": "mlp.output",
    "neurons": "mlp.down_proj.input",
}


@dataclass(frozen=True)
class Hook:
    """A place in one layer.

    Attributes:
        layer: from 0.
        part: the stream after the layer, the MLP's input after its norm, the MLP's output, or its
            neurons (the input of the down projection).
    """

    layer: int
    part: Part

    @property
    def name(self) -> str:
        """The name in TransformerLens, such as `blocks.2.hook_resid_post`."""
        return f"blocks.{self.layer}.{_TRANSFORMER_LENS[self.part]}"

    @property
    def hf_name(self) -> str:
        """The module in transformers, such as `model.layers.2.output`."""
        return f"model.layers.{self.layer}.{_TRANSFORMERS[self.part]}"


Activations = dict[Hook, Tensor]
"""Per hook one row a token, [token, width], the same tokens in all."""


class _EnoughError(Exception):
    """The last layer that is asked for has run."""


@torch.no_grad()
def capture(model: Any, ids: Tensor, hooks: Iterable[Hook], keep: Tensor) -> Activations:
    """Return raw activations: no folded norm, no centred weight.

    Args:
        model: a causal language model with `model.layers`, as transformers loads it.
        ids: [row, token].
        hooks: where to read.
        keep: [row, token], True for the tokens to return.

    Returns:
        Per hook [kept token, width] in float32, rows one after the other.
    """
    found: Activations = {}
    wanted = list(hooks)
    last = model.model.layers[max(hook.layer for hook in wanted)]

    def reader(hook: Hook) -> Callable[..., None]:
        def read(module: Any, inputs: Any, output: Any = None) -> None:
            value = inputs if hook.part in ("mlp_in", "neurons") else output
            value = value[0] if isinstance(value, tuple) else value
            found[hook] = value[keep].float()

        return read

    def stop(module: Any, inputs: Any, output: Any) -> None:
        raise _EnoughError

    with ExitStack() as stack:
        for hook in wanted:
            layer = model.model.layers[hook.layer]
            module = {
                "resid_post": layer,
                "mlp_in": layer.mlp,
                "mlp_out": layer.mlp,
                "neurons": layer.mlp.down_proj,
            }[hook.part]
            before = hook.part in ("mlp_in", "neurons")
            add = module.register_forward_pre_hook if before else module.register_forward_hook
            stack.enter_context(add(reader(hook)))
        stack.enter_context(last.register_forward_hook(stop))
        with suppress(_EnoughError):
            model(ids, use_cache=False)
    return found


def shuffled(
    source: Iterable[Activations], batch: int, pool: int, generator: torch.Generator
) -> Iterator[Activations]:
    """Yield batches of tokens, mixed over a pool of `pool` tokens and one piece of the source.

    Neighbouring tokens are alike: unmixed batches would train worse. Half of the pool is used
    before it is filled up again; at the end all of it.
    """
    held: list[Activations] = []
    count = 0
    for piece in source:
        held.append(piece)
        count += len(next(iter(piece.values())))
        if count >= pool:
            mixed = _mixed(held, generator)
            used = (count // 2) // batch * batch
            yield from _cut(mixed, 0, used, batch)
            held = [{hook: rows[used:].clone() for hook, rows in mixed.items()}]
            count -= used
    if held:
        yield from _cut(_mixed(held, generator), 0, count // batch * batch, batch)


def _mixed(pieces: list[Activations], generator: torch.Generator) -> Activations:
    """Join pieces and shuffle their tokens, alike at all hooks."""
    count = sum(len(next(iter(piece.values()))) for piece in pieces)
    order = torch.randperm(count, generator=generator)
    return {hook: torch.cat([piece[hook] for piece in pieces])[order] for hook in pieces[0]}


def _cut(rows: Activations, begin: int, end: int, size: int) -> Iterator[Activations]:
    for at in range(begin, end, size):
        yield {hook: values[at : at + size] for hook, values in rows.items()}
