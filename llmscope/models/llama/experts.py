"""A mixture of experts whose routing and output are llama.cpp's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.models.llama.facade import Backend

UNKNOWN = (
    *("ffn_up_shexp.weight", "exp_probs_b.bias", "ffn_gate_up_exps.weight", "ffn_up_exps.bias"),
    *("ffn_gate_inp.bias", "ffn_exp_probs_b.bias"),
)
"""Weights of forms of a mixture that are not computed here."""
SOFTMAX = 1
"""The number of the function in a file that turns scores of experts into weights."""


def check_mixture(backend: Backend, layer: int, gating: object, scale: object) -> None:
    """Check that a mixture is of the form that is computed here.

    Args:
        backend: the backend.
        layer: the layer.
        gating, scale: what the file says of both; None if nothing.

    Raises:
        ScopeError: it has shared experts, biases, or weights that are no softmax.
    """
    named = next((name for name in UNKNOWN if f"blk.{layer}.{name}" in backend.weights), None)
    if named is not None or gating not in (None, 0, SOFTMAX) or scale not in (None, 0.0, 1.0):
        raise ScopeError(
            f"its experts have {named or 'weights of another rule than a softmax'}, which llmscope "
            "does not read of llama.cpp",
            "the file without a backend, which transformers then runs",
        )


class LlamaRouter(nn.Module):
    """The router: which experts run for a token, and by what their outputs are multiplied."""

    def __init__(self, backend: Backend, layer: int, choices: int) -> None:
        super().__init__()
        self._backend, self.top_k = backend, choices
        names = backend.names
        self._names = tuple(
            names.of(part, layer) for part in ("mlp_in", "router", "expert_weights", "chosen")
        )
        self._normalises = names.parts["expert_weights"].endswith("norm")
        self.weight = nn.Parameter(
            backend.weights(f"blk.{layer}.ffn_gate_inp.weight").clone(), requires_grad=False
        )

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores of all experts, and the weights and numbers of the chosen ones.

        `[row, width]` -> `[row, expert]`, `[row, choice]`, `[row, choice]`
        """
        source, *names = self._names
        computed = [self._backend.known(source, rows, name) for name in names]
        if computed[0] is not None:
            scores, weights, chosen = (
                tensor.flatten(0, -2) for tensor in computed if tensor is not None
            )
            return scores, weights, chosen.contiguous().view(torch.int32).long()
        scores = nn.functional.linear(rows.flatten(0, -2), self.weight)
        weights, chosen = scores.softmax(-1).topk(self.top_k, -1)
        if self._normalises:
            weights = weights / weights.sum(-1, keepdim=True)
        return scores, weights, chosen


class LlamaExperts(nn.Module):
    """The experts; their weights are dequantised one expert at a time where a figure reads them."""

    def __init__(self, backend: Backend, layer: int) -> None:
        super().__init__()
        self._backend, self._layer = backend, layer
        self.computed: tuple[Tensor, Tensor, Tensor] | None = None
        """Choice, weights and output of the pass, while it runs."""

    def forward(self, rows: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return Σ weight · expert. `[row, width]`, `[row, choice]` twice -> `[row, width]`"""
        if self.computed is not None:
            own_choice, own_weights, own_output = self.computed
            if torch.equal(chosen, own_choice) and torch.equal(weights, own_weights):
                return own_output
        output = torch.zeros_like(rows)
        for expert in sorted(set(chosen.flatten().tolist())):
            places, choices = (chosen == expert).nonzero(as_tuple=True)
            gate, up, down = (
                self._backend.weights.expert(f"blk.{self._layer}.ffn_{part}_exps.weight", expert)
                for part in ("gate", "up", "down")
            )
            read = rows[places]
            active = self._backend.names.activate(read @ gate.T) * (read @ up.T)
            written = (active @ down.T) * weights[places, choices, None]
            output.index_add_(0, places, written)
        return output


class LlamaMixture(nn.Module):
    """An MLP that is a mixture of experts."""

    def __init__(self, backend: Backend, layer: int, choices: int) -> None:
        super().__init__()
        self._backend, names = backend, backend.names
        self._source, self._result = names.of("mlp_in", layer), names.of("mlp_out", layer)
        self.gate = LlamaRouter(backend, layer, choices)
        self.experts = LlamaExperts(backend, layer)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return what the experts write. `[..., width]`"""
        written = self._backend.known(self._source, hidden_states, self._result)
        _, weights, chosen = self.gate(hidden_states)
        if written is not None:
            self.experts.computed = chosen, weights, written.flatten(0, -2)
        try:
            output: Tensor = self.experts(hidden_states.flatten(0, -2), chosen, weights)
        finally:
            self.experts.computed = None
        return output.view_as(hidden_states)
