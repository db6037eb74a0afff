"""What a pass goes on from where layers keep a state in place of keys: recurrences, convolutions.

A state says what a layer keeps of all tokens so far, and cannot be cut back to fewer. So states are
kept at several lengths of a prompt, and a pass begins at the longest one that an edit leaves as it
was. Keys and values of the attention beside them are cut as always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    DummyLayer,
    DynamicLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionLayer,
)

from llmscope.record.capture.growing_cache import Buffers, Claim, GrowingLayer

EVERY = 128
"""Tokens of a long prompt from one state that is kept to the next."""
MOST = 16
"""Most lengths at which states are kept beside those; the latest are."""
MOST_BYTES = 1 << 28
"""Bytes of states up to which that many are kept; of a model with larger ones, fewer are."""
BOTH = LinearAttentionAndFullAttentionLayer
"""A layer with keys, values and a state."""
KNOWN = (DynamicLayer, LinearAttentionLayer, BOTH, DummyLayer)
"""Kinds of cache layers that a pass can go on from.

Not those of a sliding window: RecurrentGemma, which has states and windows, passed its probe, and
after some sixty edits gave other numbers than a fresh pass."""


@dataclass(frozen=True, eq=False)
class Resume:
    """The states that later passes go on from, and the keys and values beside them.

    Attributes:
        past: keys and values by layer, of those that keep any. [head, row, width]
        states: by number of tokens, the states of each layer that keeps any, as a cache layer.
        claim: keeps the rows of `past` from being overwritten.
    """

    past: Mapping[int, tuple[Tensor, Tensor]]
    states: Mapping[int, Mapping[int, Any]]
    claim: Claim

    def longest(self, length: int) -> int:
        """Return the longest number of tokens, up to a length, that states are kept of; else 0."""
        return max((count for count in self.states if count <= length), default=0)

    def cut(self, length: int) -> Resume:
        """Return what is left for the first `length` tokens."""
        past = {
            layer: (keys[:, :length], values[:, :length])
            for layer, (keys, values) in self.past.items()
        }
        states = {count: state for count, state in self.states.items() if count <= length}
        return Resume(past, states, self.claim.cut(length))


class OwnState(DynamicCache):  # type: ignore[misc]
    """The state of a model that takes and returns one as a list of tensors, as RWKV does.

    Attributes:
        tensors: the state, which a pass changes in place; None: no token was run.
    """

    def __init__(self, tensors: list[Tensor] | None = None) -> None:
        super().__init__()
        self.tensors = tensors

    def copied(self) -> OwnState:
        """Return a copy that can be changed."""
        return OwnState(self.tensors and [tensor.clone() for tensor in self.tensors])


def layers_of(config: Any) -> Sequence[Any] | None:
    """Return empty cache layers as transformers makes them for a model; None if one is unknown."""
    layers = DynamicCache(config=config).layers
    return layers if layers and all(type(layer) in KNOWN for layer in layers) else None


def resumed_cache(
    layers: Sequence[Any], before: Resume | None, length: int, stop: int
) -> tuple[DynamicCache, Claim]:
    """Return a cache that holds the first `length` tokens, and the claim of the pass that goes on.

    Args:
        layers: empty cache layers, as `layers_of` returns them.
        before: what has states of `length` tokens; None: there are no tokens yet.
        length: the number of tokens.
        stop: the number of tokens that the prompt will have.
    """
    free = before is not None and before.claim.buffers.free_from(length)
    claim = Claim(before.claim.buffers if before is not None and free else Buffers(), stop)
    if layers and isinstance(layers[0], OwnState):
        return (layers[0] if before is None else before.states[length][0]).copied(), claim
    cache = DynamicCache()
    for index, layer in enumerate(layers):
        has_state = isinstance(layer, LinearAttentionLayer)
        if not has_state and not isinstance(layer, DummyLayer):
            layer = GrowingLayer(claim, index)
        elif before is not None and has_state:
            layer = _copied(before.states[length][index])
        else:
            layer = _copied(layer)
        if before is not None and index in before.past:
            keys, values = (part[None, :, :length] for part in before.past[index])
            if not layer.is_initialized:
                DynamicLayer.lazy_initialization(layer, keys, values)
            layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    cache.layer_class_to_replicate = None
    return cache, claim


def resume_from(
    cache: DynamicCache, claim: Claim, before: Resume | None, shared: int, length: int
) -> Resume:
    """Return what a pass leaves for those after it.

    Args:
        cache: the cache of the pass, which nothing else uses any more.
        claim: the claim of the pass.
        before: what the pass went on from; None: from nothing.
        shared: the number of tokens that both prompts begin with.
        length: the number of tokens after the pass.
    """
    past, state = {}, {}
    if isinstance(cache, OwnState):
        state[0] = cache
    for index, layer in enumerate(cache.layers):
        if isinstance(layer, DynamicLayer) and layer.keys is not None and layer.keys.dim() == 4:
            past[index] = (layer.keys[0], layer.values[0])
        if isinstance(layer, LinearAttentionLayer):
            state[index] = _copied(layer, tensors=False)
    earlier = {} if before is None else before.states
    lengths = _chosen([count for count in earlier if count <= shared], _bytes_of(state))
    return Resume(past, {**{count: earlier[count] for count in lengths}, length: state}, claim)


def _chosen(lengths: Sequence[int], size: int) -> list[int]:
    """Return the lengths of earlier states that are kept: the latest, and some at `EVERY`.

    Args:
        lengths: the lengths of which there are states.
        size: the bytes of a state.
    """
    room = max(2, MOST_BYTES // max(size, 1))
    regular = sorted(count for count in lengths if count % EVERY == 0)
    others = sorted(count for count in lengths if count % EVERY)
    step = EVERY
    while len(regular) > room:
        step *= 2
        regular = [count for count in regular if count % step == 0]
    latest = min(MOST, room) - 1  # beside that of the pass
    return [*regular, *others[max(len(others) - latest, 0) :]]


def _bytes_of(state: Mapping[int, Any]) -> int:
    """Return the bytes of the states of all layers."""
    tensors: list[Tensor] = []
    for layer in state.values():
        if isinstance(layer, OwnState):
            tensors += layer.tensors or []
            continue
        for value in vars(layer).values():
            if isinstance(value, dict):
                tensors += [part for part in value.values() if isinstance(part, Tensor)]
    return sum(tensor.nbytes for tensor in tensors)


def _copied(layer: Any, *, tensors: bool = True) -> Any:
    """Return a copy of a cache layer without its keys, whose states can be changed in place.

    Args:
        layer: the layer.
        tensors: whether the states are copied too.
    """
    layer = copy(layer)
    if isinstance(layer, BOTH):
        layer.keys = layer.values = None
        layer.is_initialized = False
    for name, value in vars(layer).items():
        if tensors and isinstance(value, Tensor):  # 5.25 counts a state's tokens in one
            setattr(layer, name, value.clone())
        elif isinstance(value, dict):
            copies = {
                key: part.clone() if tensors and isinstance(part, Tensor) else part
                for key, part in value.items()
            }
            setattr(layer, name, copies)
    return layer
