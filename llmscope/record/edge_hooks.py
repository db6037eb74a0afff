"""Edges: what one part writes, changed for a single later part, which reads it from the stream.

The receiver reads the stream plus Δ; everything else reads the stream without it. Δ is what the
sender would write if it were changed, minus what it writes in this pass.

The receiver's layer is called a second time on stream + Δ, up to the place where the receiver
reads: the input of attention or of the MLP behind the layer's own norms, or the queries, keys and
values that reach the attention function. What is caught there takes its place in the pass. So no
norm is computed by other code than the model's, whatever a layer does with its stream.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from llmscope.edits import Receiver
from llmscope.models.anatomy import Layer
from llmscope.models.module_calls import hidden_input

Senders = frozenset[int]
"""The edges whose Δ a receiver reads, by their number."""
NOBODY: Senders = frozenset()
Triple = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values. `[prompt, head, row, head width]` each"""
Tap = Callable[..., Any]


class _CaughtTensors(Exception):  # noqa: N818 - not an error
    """Ends the second call of a layer where its receiver reads."""


@dataclass(frozen=True, eq=False)
class Edge:
    """The end of a change that one part alone reads.

    Attributes:
        into: the receiver; the layer of `logits` is the number of all layers.
        delta: Δ of the change's rows, if it is known before the pass. [row, width]
        carried: the factor by which the layers in between multiply their stream.
    """

    into: Receiver
    delta: Tensor | None = None
    carried: float = 1.0

    @property
    def layer(self) -> int:
        """The layer of the receiver."""
        assert self.into.layer is not None
        return self.into.layer


@dataclass
class LayerReaders:
    """Which edges end in a layer, in one prompt of a batch.

    Attributes:
        attention, mlp: the edges that attention and MLP read.
        heads: those that a head's queries, keys or values read, with those of the attention.
    """

    attention: Senders = NOBODY
    mlp: Senders = NOBODY
    heads: dict[tuple[int, str], Senders] = field(default_factory=dict)

    def add(self, number: int, into: Receiver) -> None:
        """Add an edge by its number."""
        if into.part == "attention":
            self.attention |= {number}
        elif into.part == "mlp":
            self.mlp |= {number}
        else:
            assert into.index is not None
            for letter in into.reads or "qkv":
                place = into.index, letter
                self.heads[place] = self.heads.get(place, NOBODY) | {number}

    def senders(self, head: int, letter: str) -> Senders:
        """Return the edges that queries, keys or values of a head read."""
        return self.heads.get((head, letter), NOBODY) | self.attention

    @property
    def apart(self) -> list[Senders]:
        """The different sets of edges that heads read, other than what all of them read."""
        sets = (self.senders(*place) for place in self.heads)
        return list(dict.fromkeys(senders for senders in sets if senders != self.attention))

    @property
    def mixes(self) -> dict[tuple[Senders, Senders, Senders], list[int]]:
        """The heads by what their queries, keys and values read."""
        mixes: dict[tuple[Senders, Senders, Senders], list[int]] = {}
        for head in dict.fromkeys(head for head, _ in self.heads):
            q, k, v = (self.senders(head, letter) for letter in "qkv")
            mixes.setdefault((q, k, v), []).append(head)
        return mixes


class EdgePass:
    """Δ of the edges of one pass, and what their receivers read.

    Args:
        edges: each edge with the prompts of the batch that it is made in.
        batch: number of prompts, each with changes of its own; 1: all have the same.
    """

    def __init__(self, edges: Sequence[tuple[slice, Edge]], batch: int) -> None:
        self._edges = [edge for _, edge in edges]
        self._prompts = [prompts for prompts, _ in edges]
        self._batch = batch
        self._deltas: dict[int, dict[nn.Module | None, Tensor]] = defaultdict(dict)
        self._readers: defaultdict[int, list[LayerReaders]] = defaultdict(
            lambda: [LayerReaders() for _ in range(batch)]
        )
        for number, (prompts, edge) in enumerate(edges):
            if edge.into.part != "logits":
                for readers in self._readers[edge.layer][prompts]:
                    readers.add(number, edge.into)

    def send(self, number: int, module: nn.Module | None, delta: Tensor) -> None:
        """Set what a module adds to Δ of an edge. `[prompt, row, width]`"""
        self._deltas[number][module] = delta * self._edges[number].carried

    def delta(self, number: int) -> Tensor:
        """Return Δ of an edge, in the rows of this pass. `[prompt, row, width]`"""
        first, *others = self._deltas[number].values()
        return sum(others, first)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that hold a receiver."""
        return tuple(self._readers)

    def readers(self, layer: int) -> list[LayerReaders]:
        """Return which edges end in a layer, by prompt."""
        return self._readers[layer]

    def by_prompt(self, tensor: Tensor) -> Tensor:
        """Return a tensor by prompt and row. `[..., column] -> [prompt, row, column]`"""
        if self._batch == 1 and tensor.dim() == 3:
            return tensor
        return tensor.reshape(self._batch, -1, tensor.shape[-1])

    def moved(self, stream: Tensor, senders: Sequence[Senders]) -> Tensor:
        """Return a stream plus Δ of the edges of each prompt, in its own shape and dtype."""
        moved = self.by_prompt(stream).to(torch.promote_types(stream.dtype, torch.float32)).clone()
        for prompts, numbers in self.each(senders):
            for number in sorted(numbers):
                delta = self.delta(number)
                whole = len(delta) == 1 or self._prompts[number] != slice(None)
                moved[prompts] += (delta if whole else delta[prompts]).to(moved)
        return moved.to(stream.dtype).reshape(stream.shape)

    def each(self, senders: Sequence[Senders]) -> Iterator[tuple[slice, Senders]]:
        """Yield the prompts that read an edge, each with its edges."""
        for at, numbers in enumerate(senders):
            if numbers:
                yield (slice(None) if self._batch == 1 else slice(at, at + 1)), numbers

    def put(self, tensor: Tensor, other: Tensor, senders: Sequence[Senders]) -> Tensor:
        """Return a tensor with another in its place, in the prompts that read an edge."""
        if all(senders):
            return other
        mixed = self.by_prompt(tensor).clone()
        for prompts, _ in self.each(senders):
            mixed[prompts] = self.by_prompt(other)[prompts]
        return mixed.reshape(tensor.shape)


@dataclass(eq=False)
class _Call:
    """A call of a layer: its arguments, with a stream that the layer does not write to."""

    args: Any
    kwargs: Any
    stream: Tensor


class LayerEdges:
    """The receivers of one layer during a pass.

    Args:
        parts: the layer.
        edges: Δ of the pass's edges.
        readers: the edges that end here, by prompt.
    """

    def __init__(self, parts: Layer, edges: EdgePass, readers: Sequence[LayerReaders]) -> None:
        self._parts, self._edges, self._readers = parts, edges, readers
        self._call: _Call | None = None
        self._until: str | None = None  # where the second call that is running ends
        self._caught: Any = None
        self._attention_input: Tensor | None = None
        self._mlp_input: Tensor | None = None
        self._triples: list[Triple] = []
        self._written: dict[nn.Module, Any] = {}

    @property
    def attention(self) -> list[Senders]:
        """The edges that attention reads, by prompt."""
        return [readers.attention for readers in self._readers]

    @property
    def mlp(self) -> list[Senders]:
        """The edges that the MLP reads, by prompt."""
        return [readers.mlp for readers in self._readers]

    @contextmanager
    def placed(self, last: Callable[[nn.Module, Tap, bool], Any]) -> Iterator[None]:
        """Put the receivers' hooks on within.

        Args:
            last: places a hook before or after a module, behind those of the changes there.
        """
        parts = self._parts
        with ExitStack() as stack:
            if parts.attention is not None:
                stack.enter_context(_ending_at(parts.attention, self))
            if any(self.mlp):
                for module in self._before_mlp():
                    stack.callback(last(module, self._keep_written, False).remove)
            stack.callback(last(parts.module, self._enter, True).remove)
            yield

    def first_hooks(self) -> Iterator[tuple[nn.Module, Tap]]:
        """Yield modules whose input is replaced, each with its hook, before any change there."""
        parts = self._parts
        if any(self.attention):
            assert parts.attention is not None
            yield parts.attention, self._into_attention
        if any(self.mlp):
            for module in (parts.mlp_input_module, parts.mlp_parallel):
                if module is not None:
                    yield module, self._into_mlp

    def _before_mlp(self) -> list[nn.Module]:
        """Return the modules whose outputs the MLP's input is computed from, besides the stream."""
        parts = self._parts
        modules = [parts.attention_write, parts.mixer_write]
        attention = parts.attention
        # An attention that adds the stream itself runs again, around what it wrote.
        if attention is not None and parts.attention_write not in set(attention.modules()):
            modules.append(attention)
        return [module for module in dict.fromkeys(modules) if module is not None]

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Compute what attention and its heads read, before the layer runs."""
        if self._until is not None:
            return
        stream = hidden_input(args, kwargs)
        self._call = _Call(args, kwargs, stream.clone())
        self._attention_input = self._mlp_input = None
        self._written = {}
        if any(self.attention):
            self._attention_input = self._again(self.attention, "attention input")
        sets = [readers.apart for readers in self._readers]
        self._triples = [
            self._again(
                [apart[turn] if turn < len(apart) else NOBODY for apart in sets], "attention"
            )
            for turn in range(max(map(len, sets), default=0))
        ]

    def _again(self, senders: Sequence[Senders], until: str) -> Any:
        """Call the layer on stream + Δ, and return what is caught where the call ends."""
        call = self._call
        assert call is not None
        moved = self._edges.moved(call.stream, senders)
        # Without a cache: the keys are those of this pass, and the cache holds only its own.
        args = [None if isinstance(value, Cache) else value for value in call.args]
        kwargs = {
            name: None if isinstance(value, Cache) else value for name, value in call.kwargs.items()
        }
        if args:
            args[0] = moved
        else:
            kwargs["hidden_states"] = moved
        self._until = until
        try:
            self._parts.module.forward(*args, **kwargs)
        except _CaughtTensors:
            caught, self._caught = self._caught, None
            return caught
        finally:
            self._until = None
        raise RuntimeError(f"a layer does not reach its {until} when it is called again")

    def _into_attention(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        if self._until == "attention input":
            self._caught = hidden_input(args, kwargs)
            raise _CaughtTensors
        if self._until is not None or self._attention_input is None:
            return None
        return _replace_hidden(args, kwargs, self._put(self._attention_input, self.attention))

    def _put(self, other: Tensor, senders: Sequence[Senders]) -> Callable[[Tensor], Tensor]:
        return lambda tensor: self._edges.put(tensor, other, senders)

    def _into_mlp(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        if self._until == "MLP":
            self._caught = hidden_input(args, kwargs)
            raise _CaughtTensors
        if self._until is not None:
            return None
        if self._mlp_input is None:
            with _standing(self._written):
                self._mlp_input = self._again(self.mlp, "MLP")
        return _replace_hidden(args, kwargs, self._put(self._mlp_input, self.mlp))

    def _keep_written(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Keep a part's output; in a second call of the layer, return the first one's."""
        if self._until is None:
            self._written[module] = _copy_hidden(output)  # a layer may add to it in place
            return None
        return _copy_hidden(self._written[module]) if module in self._written else None

    @property
    def again(self) -> bool:
        """Whether the layer is being called a second time."""
        return self._until is not None

    def reached(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """End a second call of the layer, if queries, keys and values are what it is for."""
        if self._until == "attention":
            self._caught = (query.clone(), key.clone(), value.clone())
            raise _CaughtTensors

    def read(self, query: Tensor, key: Tensor, value: Tensor) -> Triple:
        """Return queries, keys and values as the heads use them.

        Where a receiver's keys or values are no longer those of its group, each head gets its own.
        """
        mixed: list[Tensor] = []
        for which, (letter, tensor) in enumerate(zip("qkv", (query, key, value), strict=True)):
            group = query.shape[1] // tensor.shape[1]
            places = [
                (prompts, head, triple[which])
                for prompts, readers in self._by_prompt()
                for (head, named), senders in readers.heads.items()
                if named == letter and (triple := self._triple(readers, senders)) is not None
            ]
            if places:
                tensor = tensor.repeat_interleave(group, dim=1) if group > 1 else tensor.clone()
            for prompts, head, other in places:
                tensor[prompts, head] = other[prompts, head // group]
            mixed.append(tensor)
        return mixed[0], mixed[1], mixed[2]

    def attended(
        self,
        output: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return the attention function's output with that of the receivers in its place.

        Args:
            output: the output. `[prompt, row, head, head width]`
            query, key, value: its inputs, without edges.
            attend: computes the output from other inputs.
        """
        mixes = [
            (prompts, readers, list(readers.mixes.items()))
            for prompts, readers in self._by_prompt()
        ]
        turns = max(len(mix) for *_, mix in mixes)
        output = output.clone() if turns else output
        for turn in range(turns):
            inputs = [query, key, value]
            chosen = [
                (prompts, readers, *mix[turn]) for prompts, readers, mix in mixes if turn < len(mix)
            ]
            for prompts, readers, sets, _ in chosen:
                for which, senders in enumerate(sets):
                    triple = self._triple(readers, senders)
                    if triple is not None:
                        inputs[which] = inputs[which].clone()
                        inputs[which][prompts] = triple[which][prompts]
            other = attend(*inputs)
            for prompts, _, _, heads in chosen:
                output[prompts, :, heads] = other[prompts][:, :, heads]
        return output

    def _by_prompt(self) -> Iterator[tuple[slice, LayerReaders]]:
        single = len(self._readers) == 1
        for at, readers in enumerate(self._readers):
            yield (slice(None) if single else slice(at, at + 1)), readers

    def _triple(self, readers: LayerReaders, senders: Senders) -> Triple | None:
        """Return what heads read that read these edges; None if it is what all heads read."""
        whole = senders | readers.attention
        return None if whole == readers.attention else self._triples[readers.apart.index(whole)]


_ends: dict[nn.Module, LayerEdges] = {}
"""The edges that end in the layer of an attention module, while a pass runs."""


def edges_at(attention: nn.Module) -> LayerEdges | None:
    """Return the edges that end in the layer of an attention module; None if none do."""
    return _ends.get(attention)


@contextmanager
def _ending_at(attention: nn.Module, edges: LayerEdges) -> Iterator[None]:
    """Let the attention function ask the edges of a layer within."""
    before = _ends.get(attention)
    _ends[attention] = edges
    try:
        yield
    finally:
        if before is None:
            del _ends[attention]
        else:
            _ends[attention] = before


def _replace_hidden(args: Any, kwargs: Any, replace: Callable[[Tensor], Tensor]) -> Any:
    """Return a module's arguments with other hidden states."""
    if args:
        return (replace(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": replace(kwargs["hidden_states"])}


def _copy_hidden(output: Any) -> Any:
    """Return a module's output with a copy of its hidden states, which a layer may write to."""
    if isinstance(output, tuple | list):
        return type(output)((output[0].clone(), *output[1:]))
    return output.clone()


@contextmanager
def _standing(outputs: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Let modules return an earlier output within, without running."""
    before = {module: vars(module).get("forward") for module in outputs}
    try:
        for module, output in outputs.items():
            module.forward = _returning(output)
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _returning(output: Any) -> Callable[..., Any]:
    return lambda *_, **__: _copy_hidden(output)


def head_write(
    parts: Layer, joined: Tensor, alter: Mapping[str, Callable[[Tensor], Tensor]]
) -> Tensor:
    """Return what attention writes to the stream for other outputs of its heads, in float32.

    The modules' hooks do not run.

    Args:
        parts: the layer.
        joined: the heads' outputs. `[..., row, input]`
        alter: changes of what attention gives to the norm behind it, and of what it writes, by
            their site.
    """
    assert parts.attention_out is not None
    if parts.heads_norm is not None:
        joined = parts.heads_norm.forward(joined)
    written: Tensor = parts.attention_out.forward(joined)
    if "attention_module" in alter:
        written = alter["attention_module"](written)
    module = parts.attention_write
    if module is not None and module not in (parts.attention, parts.attention_out):
        written = module.forward(written)
    if "attention_write" in alter:
        written = alter["attention_write"](written)
    wide = torch.promote_types(written.dtype, torch.float32)
    return written.to(wide) * parts.scale("attention_write")
