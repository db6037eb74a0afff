"""A pass that is watched: every module called around the layers and in one of them, in order.

What a module was handed and what it gave are copied, for a later one may change them in place. Of
the attention, queries, keys and values are kept as its function is called with, and what goes into
the softmax and comes out of it, where the model works its patterns out as matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.attention_hook import AttentionSettings, eagerly, listening
from llmscope.record.walkthrough.softmax_probe import Products

MOST = 2**26
"""Cells of a layer's patterns, over all heads, up to which they are made as matrices."""

ALL = 2**22
"""Logits up to which those of all positions are kept, so that a cursor may move for free."""

Run = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module.

    Attributes:
        name: the module's full name.
        args, kwargs: as they were handed over.
        given: a copy of the first tensor among them; `gave`: of the first that came out.
        output: all that came out.
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
    """What was seen in one pass.

    Attributes:
        before, inside, after: calls before the first layer, in the layer, and after the last one,
            in the order in which they returned.
        entered, left: the stream before the layer and after it. [row, width]
        first, final: the stream before the first layer and after the last. [row, width]
        earlier, later: what the layers before and after this one added to the stream in all, in
            float64; None: nothing, or it could not be seen. [row, width]
        query, key, value: as attention was called with them. [head, row, head width]
        mixed: what that call gave: pattern · values. [row, input]
        settings: of that call; None where there is no such call.
        scores, pattern: what went into the softmax, and came out. [head, query, key]
        logits: after the last positions, from `told` on. [row, token]
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
        """As a listener of the layer's attention."""
        self.query, self.key, self.value = (
            tensor.detach()[0].clone() for tensor in (query, key, value)
        )
        self.settings = settings

    def attention_gave(self, output: Tensor) -> Tensor:
        """As a listener of the layer's attention."""
        self.mixed = output.detach()[0].flatten(1).clone()
        return output

    def forget(self) -> None:
        """Let go of all that the steps after the last layer do not need."""
        self.before, self.inside = [], []
        for name in ("query", "key", "value", "mixed", "scores", "pattern", "earlier", "later"):
            setattr(self, name, None)

    def call_of(self, module: nn.Module | None) -> Call | None:
        """The latest call of a module of the layer."""
        return next((call for call in reversed(self.inside) if call.module is module), None)


def watch(
    subject: LoadedModel, run: Run, ids: tuple[int, ...], layer: int, position: int, *, inside: bool
) -> Watched:
    """Run a prompt and watch one layer of it, and what is around the layers.

    Args:
        run: a lens's handle for passes.
        position: the first one whose logits are needed.
        inside: the layer's attention is computed in its module, and no function is called.
    """
    seen, products = Watched(), Products(factors=inside)
    attention = subject.anatomy.layers[layer].attention
    with ExitStack() as stack:
        watcher = _Watcher(subject, seen, layer, stack)
        if attention is not None:
            watcher.within(attention, products)
            stack.enter_context(listening(attention, seen))
            if subject.anatomy.heads * len(ids) ** 2 <= MOST:
                stack.enter_context(eagerly(subject.model, attention))
        told = 0 if len(ids) * subject.anatomy.vocabulary <= ALL else position
        output = run([ids], last=len(ids) - told)
    seen.scores, seen.pattern = products.scores, products.pattern
    if inside and products.value is not None:
        seen.query, seen.key, seen.value = products.query, products.key, products.value
    seen.logits, seen.told = output.logits[0, told - len(ids) :].detach().clone(), told
    return seen


class _Watcher:
    """The hooks, which live as long as the stack does."""

    def __init__(self, subject: LoadedModel, seen: Watched, layer: int, stack: ExitStack) -> None:
        self.seen, self.stack, self.phase = seen, stack, "before"
        self.given: dict[nn.Module, list[Tensor | None]] = {}
        layers = subject.anatomy.layers
        ends = [one.module for one in layers]
        within = {module: index for index, one in enumerate(ends) for module in one.modules()}
        for name, module in subject.model.named_modules():
            around = module not in within and any(one in within for one in module.modules())
            if within.get(module, layer) == layer and not around and module is not ends[layer]:
                self._pre(module, self._enter)
                self._post(module, self._leave(name))
        for index, one in enumerate(layers):
            self._pre(one.module, self._begin(index, layer))
            self._post(one.module, self._end(index, layer, len(layers)))
            if index != layer:
                total = "earlier" if index < layer else "later"
                for write in {
                    *(one.attention_write, one.mixer_write),
                    *(one.mlp_write, one.mlp_beside, one.embedded_write),
                } - {None}:
                    self._post(write, self._add(total, one.scale))

    def within(self, attention: nn.Module, products: Products) -> None:
        """Watch what an attention multiplies."""
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
                given = waiting.pop() if waiting else None
                call = Call(module, name, args, kwargs, given, _copy(first(output)), output)
                getattr(self.seen, self.phase).append(call)

        return leave

    def _begin(self, index: int, layer: int) -> Any:
        def begin(_: nn.Module, args: Any, kwargs: Any) -> None:
            stream = _rows(args[0] if args else kwargs["hidden_states"])
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
    """The first tensor of several things, or the one that it is."""
    if isinstance(values, Tensor):
        return values
    several = values if isinstance(values, tuple | list) else ()
    return next((value for value in several if isinstance(value, Tensor)), None)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _rows(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.detach().reshape(-1, tensor.shape[-1]).clone()
