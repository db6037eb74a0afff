"""Maps of layers that mix tokens without attention, in plain torch and float64, step by step.

The arguments are caught at the functions of transformers' own files. Nothing here is llmscope's.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach()[0].double()


def delta_rule(a: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """The gated delta rule, with a decay of a head or of each channel. `[row, head, width]`"""
    q, k, g, b = (_double(a[name]) for name in ("query", "key", "g", "beta"))
    heads = a["value"].shape[2]
    q, k = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (q, k))
    q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (q, k))
    q = q / q.shape[-1] ** 0.5

    def run(v: Tensor) -> Tensor:
        state = torch.zeros(heads, q.shape[-1], v.shape[-1], dtype=torch.float64)
        given = []
        for t in range(len(v)):
            left = g[t].exp()
            state = (left[:, None, None] if left.dim() == 1 else left[:, :, None]) * state
            held = torch.einsum("hkv,hk->hv", state, k[t])
            written = b[t][:, None] * (v[t] - held)
            state = state + k[t][:, :, None] * written[:, None]
            given.append(torch.einsum("hkv,hk->hv", state, q[t]))
        return torch.stack(given)

    return run


def mamba2(a: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """Mamba-2, with the weight D of each token's own value. `[row, head, width]`"""
    step = softplus(a["dt"].detach()[0] + a["dt_bias"].detach()).double()
    step = step.clamp(*a["dt_limit"])
    rate, own = a["A"].detach().double(), a["D"].detach().double()
    heads = a["hidden_states"].shape[2]
    reads, keys = (_double(a[x]) for x in ("C", "B"))
    reads, keys = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (reads, keys))

    def run(v: Tensor) -> Tensor:
        state = torch.zeros(heads, keys.shape[-1], v.shape[-1], dtype=torch.float64)
        given = []
        for t in range(len(v)):
            left = (step[t] * rate).exp()[:, None, None]
            state = left * state + (step[t][:, None] * keys[t])[..., None] * v[t][:, None]
            given.append(torch.einsum("hnv,hn->hv", state, reads[t]) + own[:, None] * v[t])
        return torch.stack(given)

    return run


def mamba(a: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """Mamba, whose heads are channels, before its gate. `[row, channel, 1]`"""
    bias = a["delta_bias"]
    step = a["dt"].detach()[0]
    step = softplus(step if bias is None else step + bias.detach()[:, None]).double().T
    rate, own = a["A"].detach().double(), a["D"].detach().double()
    reads, keys = (_double(a[x]).T for x in ("C", "B"))  # [row, state]

    def run(v: Tensor) -> Tensor:
        state = torch.zeros(*rate.shape, dtype=torch.float64)  # [channel, state]
        given = []
        for t in range(len(v)):
            state = (step[t][:, None] * rate).exp() * state
            state = state + (step[t] * v[t][:, 0])[:, None] * keys[t]
            given.append(state @ reads[t] + own * v[t][:, 0])
        return torch.stack(given)[..., None]

    return run


def rwkv(a: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """RWKV 4: a mean of all values so far, by channel. `[row, channel, 1]`"""
    key = _double(a["key"])
    left, first = (
        (-a["time_decay"].detach().double().exp()).exp(),
        a["time_first"].detach().double(),
    )

    def run(v: Tensor) -> Tensor:
        total, weight = torch.zeros_like(key[0]), torch.zeros_like(key[0])
        given = []
        for t in range(len(v)):
            own = (key[t] + first).exp()
            given.append((total + own * v[t][:, 0]) / (weight + own))
            total = left * total + key[t].exp() * v[t][:, 0]
            weight = left * weight + key[t].exp()
        return torch.stack(given)[..., None]

    return run


def convolution(a: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """A causal convolution of each channel, without its bias. `[row, channel, 1]`"""
    weight = a["weight"].detach().double()  # [channel, distance]

    def run(v: Tensor) -> Tensor:
        width = weight.shape[1]
        return torch.stack(
            [
                sum(
                    weight[:, width - 1 - back, None] * v[t - back]
                    for back in range(min(width, t + 1))
                )
                for t in range(len(v))
            ]
        )

    return run


RULES: dict[str, Callable[[dict[str, Any]], Callable[[Tensor], Tensor]]] = {
    "torch_chunk_gated_delta_rule": delta_rule,
    "chunk_kimi_delta_attention": delta_rule,
    "mamba2_chunk_scan": mamba2,
    "mamba_selective_scan": mamba,
    "rwkv_linear_attention": rwkv,
    "causal_conv1d_fn": convolution,
}


def signature_of(function: Any) -> inspect.Signature:
    """A function's signature; transformers 5.25 wraps it in a module that takes any arguments."""
    if isinstance(function, torch.nn.Module):
        function = inspect.getclosurevars(type(function).forward).nonlocals.get("func", function)
    return inspect.signature(function)


class Caught:
    """One call of a function that mixes the tokens of a layer.

    Attributes:
        name: of the function.
        arguments: by name.
        output: what it returned, without a state.
    """

    def __init__(self, name: str, arguments: dict[str, Any], output: Tensor) -> None:
        self.name, self.arguments, self.output = name, arguments, output

    @property
    def values(self) -> Tensor:
        """[row, head, width]"""
        a = self.arguments
        value = a["value"] if "value" in a else a["hidden_states"]
        return self._by_head(value)

    def given(self) -> Tensor:
        """What the function gave. [row, head, width]"""
        return self._by_head(self.output)

    def _by_head(self, tensor: Tensor) -> Tensor:
        if tensor.dim() == 4:
            return _double(tensor)
        rows_first = self.name == "rwkv_linear_attention"
        return (_double(tensor) if rows_first else _double(tensor).T)[..., None]

    def map(self) -> Tensor:
        """The weights: what comes out of a value of 1 at one token and 0 at all others.

        [head, query, key]
        """
        run = RULES[self.name](self.arguments)
        length, heads = self.values.shape[:2]
        columns = []
        for s in range(length):
            values = torch.zeros(length, heads, 1, dtype=torch.float64)
            values[s] = 1.0
            columns.append(run(values)[..., 0].T)  # [head, query]
        return torch.stack(columns, -1)

    def after(self, mixed: Tensor) -> Tensor:
        """What the function gives for weights times values: a gate or a bias is its own."""
        gate, bias = self.arguments.get("z"), self.arguments.get("bias")
        if gate is not None:
            mixed = mixed * silu(_double(gate)).T[..., None]
        return mixed if bias is None else mixed + bias.detach().double()[:, None]


def caught_in(model: Any, layers: Sequence[Any], ids: Sequence[int]) -> dict[int, list[Caught]]:
    """The calls of a pass over ids, by the number of the layer they are made in."""
    calls: dict[int, list[Caught]] = defaultdict(list)
    running: list[int] = []
    hooks = []
    for index, layer in enumerate(layers):
        hooks.append(layer.register_forward_pre_hook(lambda *_, at=index: running.append(at)))
        hooks.append(layer.register_forward_hook(lambda *_: running.clear()))

    def catching(name: str, function: Any) -> Any:
        signature = signature_of(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            output = result[0] if isinstance(result, tuple) else result
            if running:
                calls[running[-1]].append(Caught(name, dict(bound.arguments), output))
            return result

        return call

    files = {type(module).__module__ for layer in layers for module in layer.modules()}
    patches = [
        patch(f"{file}.{name}", catching(name, function))
        for file in files
        if file.startswith("transformers.models.")
        for name in RULES
        if (function := getattr(inspect.importlib.import_module(file), name, None)) is not None
    ]
    for one in patches:
        one.start()
    try:
        with torch.no_grad():
            model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for one in patches:
            one.stop()
        for hook in hooks:
            hook.remove()
    # A convolution before another rule is not how that layer mixes its tokens.
    return {
        at: [one for one in found if one.name != "causal_conv1d_fn"] or found
        for at, found in calls.items()
    }
