"""What-ifs of routers: experts that have to be chosen for a token, or must not be.

The choice is changed where the model's own code makes it, in its `topk` over all experts, and
nothing before it: the scores of all experts, biases and groups are the model's. What the code does
with the choice afterwards, such as scaling the weights to a sum of 1, it does with the changed one.

- A forbidden expert has the score -inf in the choice alone, and the next best is chosen. Its share
  of a softmax over all experts is not shared out, unless the family scales the weights of those
  that are chosen to a sum of 1.
- A forced expert takes the place of the chosen expert of the lowest score that is not forced; one
  that is chosen anyway changes nothing. Its weight is what the family's gating gives to its own,
  unchanged score: small, if the router did not want it. A bias or a group that decides about the
  choice alone (DeepSeek-V3) has no part in the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from llmscope.errors import ScopeError
from llmscope.models.anatomy import Layer
from llmscope.models.module_calls import hidden_input


@dataclass(frozen=True)
class RouterChoice:
    """An expert that is forced or forbidden at some tokens.

    Attributes:
        expert: the expert.
        forced: whether it has to be chosen; else it must not be.
        rows: the positions.
        name: the edit, for errors.
    """

    expert: int
    forced: bool
    rows: range
    name: str


class LayerRouting(TorchFunctionMode):
    """Changes the choice of one layer's router during a pass.

    Args:
        parts: the layer, whose experts were found.
        choices: each with its prompts of the batch.
        start: the position of the pass's first row.
    """

    def __init__(
        self, parts: Layer, choices: Sequence[tuple[slice, RouterChoice]], start: int
    ) -> None:
        super().__init__()
        assert parts.neurons is not None
        self._weights, self._choices, self._start = parts.neurons.weights, choices, start
        self._shape = (0, 0)  # prompts and rows

    def enter(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        """Take note of the prompts and rows that the layer reads."""
        stream = hidden_input(args, kwargs)
        self._shape = (stream.shape[0], stream.shape[1]) if stream.dim() == 3 else (0, 0)

    def wrap(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return a module's forward, in which the choice is changed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return forward(*args, **kwargs)

        return call

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Change the choice among all experts; leave every other function as it is."""
        kwargs = kwargs or {}
        if func not in (torch.topk, Tensor.topk):
            return func(*args, **kwargs)
        scores = args[0] if args else kwargs["input"]
        rest = dict(zip(("k", "dim", "largest", "sorted"), args[1:], strict=False)) | kwargs
        rest.pop("input", None)
        experts, last = scores.shape[-1], rest.get("dim", -1) in (-1, scores.dim() - 1)
        rows = self._shape[0] * self._shape[1]
        if (
            not (last and rest.get("largest", True) and rows)
            or experts < self._weights.count
            or scores.numel() != rows * experts
        ):
            return func(*args, **kwargs)
        return self._chosen(scores, int(rest["k"]))

    def _chosen(self, scores: Tensor, count: int) -> Any:
        """Return the scores and the numbers of the chosen experts. `[..., choice]` each"""
        by_row = scores.reshape(*self._shape, -1)  # [prompt, row, expert]
        allowed = by_row.clone()
        for prompts, choice in self._choices:
            if not choice.forced:
                allowed[prompts, self._rows(choice), choice.expert] = -torch.inf
        chosen = allowed.topk(count, dim=-1).indices  # [prompt, row, choice]
        stays = torch.zeros_like(chosen, dtype=torch.bool)
        forced = [(prompts, choice) for prompts, choice in self._choices if choice.forced]
        for prompts, choice in forced:
            at = prompts, self._rows(choice)
            stays[at] |= chosen[at] == choice.expert
        for prompts, choice in forced:
            at = prompts, self._rows(choice)
            strength = allowed.gather(-1, chosen).masked_fill(stays, torch.inf)[at]
            missing = ~(chosen[at] == choice.expert).any(-1, keepdim=True)
            weakest = torch.zeros_like(stays[at]).scatter_(
                -1, strength.argmin(-1, keepdim=True), True
            )
            put = weakest & missing & ~stays[at]
            chosen[at] = chosen[at].masked_fill(put, choice.expert)
            stays[at] |= put
        values = by_row.gather(-1, chosen)
        shape = (*scores.shape[:-1], count)
        return torch.return_types.topk((values.reshape(shape), chosen.reshape(shape)))

    def _rows(self, choice: RouterChoice) -> slice:
        first, last = (max(at - self._start, 0) for at in (choice.rows.start, choice.rows.stop))
        return slice(min(first, self._shape[1]), min(last, self._shape[1]))

    def check(self, _: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
        """Check the choice that the experts are handed.

        Raises:
            ScopeError: it is not what was asked for.
        """
        choice_made = self._weights.choice(args, kwargs, output)
        for prompts, choice in self._choices:
            if choice_made is None or not self._shape[0]:
                raise ScopeError(f"{choice.name}: the router's choice cannot be read", "a neuron")
            weights, chosen = (tensor.reshape(*self._shape, -1) for tensor in choice_made)
            at = prompts, self._rows(choice)
            ran = chosen[at] == choice.expert
            if bool((ran.any(-1) != choice.forced).any()):
                refusal = "was not chosen" if choice.forced else "was chosen still"
                raise ScopeError(
                    f"{choice.name}: expert {choice.expert} {refusal}: another edit says "
                    "otherwise, too many are named, or this router chooses in another way",
                    "one of them",
                )
            if choice.forced and bool((ran & (weights[at] == 0)).any()):
                raise ScopeError(
                    f"{choice.name}: this router gives expert {choice.expert} no weight, as its "
                    "group was not chosen",
                    "an expert of a chosen group",
                )


@contextmanager
def rerouted(
    parts: Layer,
    choices: Sequence[tuple[slice, RouterChoice]],
    start: int,
    register: Callable[[nn.Module, Any, bool], Any],
) -> Iterator[None]:
    """Change the choice of a layer's router in passes within.

    Args:
        parts: the layer.
        choices: each with its prompts of the batch.
        start: the position of the pass's first row.
        register: puts a hook before (True) or after a module.
    """
    routing = LayerRouting(parts, choices, start)
    mixture, router = parts.mlp_input_module, parts.router
    assert parts.neurons is not None
    assert mixture is not None
    modules = [mixture]
    if router is not None and router not in set(mixture.modules()):
        modules.append(router)
    place, is_input = parts.neurons.weights.place
    with ExitStack() as stack:
        stack.callback(register(parts.module, routing.enter, True).remove)
        stack.callback(register(place, routing.check, is_input).remove)
        for module in modules:
            before = vars(module).get("forward")
            module.forward = routing.wrap(module.forward)
            stack.callback(_restore_forward, module, before)
        yield


def _restore_forward(module: nn.Module, before: Any) -> None:
    if before is None:
        del module.forward
    else:
        module.forward = before
