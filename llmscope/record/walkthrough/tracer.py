"""Tracing of a forward pass: module calls outside the layers and in one layer, in order.

Inputs and outputs of modules are copied, because a later module may change them in place. For
attention, the trace keeps the queries, keys and values as passed to the attention function, and
the input and output of the softmax where the model computes attention patterns as matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from llmscope.models.loaded_model import LoadedModel
from llmscope.models.module_calls import hidden_input
from llmscope.record.capture.attention_hook import AttentionSettings, eagerly, listening
from llmscope.record.walkthrough.softmax_probe import Products

MOST_CELLS = 2**26
"""Most cells of a layer's patterns, over all heads, for which they are computed as matrices."""

ALL = 2**22
"""Most logits for which all positions are kept, so that moving the cursor needs no new pass."""

Run = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module.

    Attributes:
        module: the module.
        name: the module's full name.
        args, kwargs: the call's arguments.
        given: a copy of the first tensor among the arguments; None if there was no tensor.
        gave: a copy of the first tensor of the output; None likewise.
        output: the whole output.
    """

    module: nn.Module
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: Tensor | None
    gave: Tensor | None
    output: Any


@dataclass(eq=False)
class Watched:
    """The trace of one forward pass.

    Attributes:
        before, inside, after: calls before the first layer, in the traced layer, and after the last
            layer, in the order in which they returned.
        entered, left: the stream before and after the traced layer. [row, width]
        first, final: the stream before the first layer and after the last. [row, width]
        earlier, later: sum of what the layers before and after the traced one added to the stream,
            in float64; None: no such layers, or their writes were not seen. [row, width]
        query, key, value: arguments of the attention function. [head, row, head width]
        mixed: output of the attention function: pattern · values. [row, input]
        settings: settings of that call; None if no attention function was called.
        scores, pattern: input and output of the softmax. [head, query, key]
        logits: logits after the positions from `told` on. [row, token]
        told: the first position whose logits are kept.
    """

    before: list[Call] = field(default_factory=list)
    inside: list[Call] = field(default_factory=list)
    after: list[Call] = field(default_factory=list)
    entered: Tensor | None = None
    left: Tensor | None = None
    first: Tensor | None = None
    final: Tensor | None = None
    earlier: Tensor | None = None
    later: Tensor | None = None
    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    mixed: Tensor | None = None
    settings: AttentionSettings | None = None
    scores: Tensor | None = None
    pattern: Tensor | None = None
    logits: Tensor | None = None
    told: int = 0

    def attention_called(
        self, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
    ) -> None:
        """Keep the attention function's arguments; called as a listener of the attention."""
        self.query, self.key, self.value = (
            tensor.detach()[0].clone() for tensor in (query, key, value)
        )
        self.settings = settings

    def attention_gave(self, output: Tensor) -> Tensor:
        """Keep the attention function's output; called as a listener of the attention."""
        self.mixed = output.detach()[0].flatten(1).clone()
        return output

    def forget(self) -> None:
        """Free everything that the steps after the last layer do not need."""
        self.before, self.inside = [], []
        for name in ("query", "key", "value", "mixed", "scores", "pattern", "earlier", "later"):
            setattr(self, name, None)

    def call_of(self, module: nn.Module | None) -> Call | None:
        """Return the latest call of a module in the traced layer; None if it was not called."""
        return next((call for call in reversed(self.inside) if call.module is module), None)


def watch(
    model: LoadedModel, run: Run, ids: tuple[int, ...], layer: int, position: int, *, inside: bool
) -> Watched:
    """Run a prompt and trace one layer, and the modules before and after the layers.

    Args:
        model: the model.
        run: runs extra forward passes (`Passes`).
        ids: token ids of the prompt.
        layer: the layer to trace.
        position: the first position whose logits are needed.
        inside: True if the layer's module computes attention itself, without calling the
            attention function.
    """
    seen, products = Watched(), Products(factors=inside)
    attention = model.anatomy.layers[layer].attention
    with ExitStack() as stack:
        watcher = _Watcher(model, seen, layer, stack)
        if attention is not None:
            watcher.within(attention, products)
            stack.enter_context(listening(attention, seen))
            if model.anatomy.heads * len(ids) ** 2 <= MOST_CELLS:
                stack.enter_context(eagerly(model.module, attention))
        first_row = 0 if len(ids) * model.anatomy.vocabulary <= ALL else position
        output = run([ids], last=len(ids) - first_row)
    seen.scores, seen.pattern = products.scores, products.pattern
    if inside and products.value is not None:
        seen.query, seen.key, seen.value = products.query, products.key, products.value
    seen.logits, seen.told = output.logits[0, first_row - len(ids) :].detach().clone(), first_row
    return seen


class _Watcher:
    """The hooks that fill a trace; they are removed when the exit stack closes."""

    def __init__(self, model: LoadedModel, seen: Watched, layer: int, stack: ExitStack) -> None:
        self.seen, self.stack, self.phase = seen, stack, "before"
        self.given: dict[nn.Module, list[Tensor | None]] = {}
        layers = model.anatomy.layers
        ends = [parts.module for parts in layers]
        within = {module: index for index, end in enumerate(ends) for module in end.modules()}
        for name, module in model.module.named_modules():
            around = module not in within and any(inner in within for inner in module.modules())
            if within.get(module, layer) == layer and not around and module is not ends[layer]:
                self._pre(module, self._enter)
                self._post(module, self._leave(name))
        for index, parts in enumerate(layers):
            self._pre(parts.module, self._begin(index, layer))
            self._post(parts.module, self._end(index, layer, len(layers)))
            if index != layer:
                total = "earlier" if index < layer else "later"
                scales = {
                    parts.attention_write: parts.scale("attention_write"),
                    parts.mixer_write: parts.scale("mixer_write"),
                    parts.mlp_write: parts.scale("mlp_write"),
                    parts.mlp_parallel: parts.scale("mlp_write"),
                    parts.embedded_write: parts.scale("embedded_write"),
                }
                for write, scale in scales.items():
                    if write is not None:
                        self._post(write, self._add(total, scale))

    def within(self, attention: nn.Module, products: Products) -> None:
        """Trace the matrix products of an attention module."""
        self._pre(attention, products.begin)
        self._post(attention, products.end)
        self.stack.callback(products.end)

    def _pre(self, module: nn.Module, hook: Any) -> None:
        self.stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def _post(self, module: nn.Module | None, hook: Any) -> None:
        assert module is not None
        self.stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.phase != "between":
            self.given.setdefault(module, []).append(_copy(first((*args, *kwargs.values()))))

    def _leave(self, name: str) -> Any:
        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if self.phase != "between":
                waiting = self.given.get(module)
                inputs = waiting.pop() if waiting else None
                call = Call(module, name, args, kwargs, inputs, _copy(first(output)), output)
                getattr(self.seen, self.phase).append(call)

        return leave

    def _begin(self, index: int, layer: int) -> Any:
        def begin(_: nn.Module, args: Any, kwargs: Any) -> None:
            stream = _rows(hidden_input(args, kwargs))
            if index == 0:
                self.seen.first = stream
            if index == layer:
                self.seen.entered = stream
            self.phase = "inside" if index == layer else "between"

        return begin

    def _end(self, index: int, layer: int, count: int) -> Any:
        def end(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if index == layer:
                self.seen.left = _rows(first(output))
            if index == count - 1:
                self.seen.final = _rows(first(output))
            self.phase = "after" if index == count - 1 else "between"

        return end

    def _add(self, total: str, scale: float) -> Any:
        def add(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            rows = _rows(first(output)).cpu().double() * scale
            so_far = getattr(self.seen, total)
            setattr(self.seen, total, rows if so_far is None else so_far + rows)

        return add


def first(values: Any) -> Tensor | None:
    """Return a tensor itself, or the first tensor of a tuple or list; None if it has no tensor."""
    if isinstance(values, Tensor):
        return values
    several = values if isinstance(values, tuple | list) else ()
    return next((value for value in several if isinstance(value, Tensor)), None)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _rows(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.detach().reshape(-1, tensor.shape[-1]).clone()
