"""llmscope's attention function: the one place that sees the queries after their rotation (RoPE).

transformers lets a model choose its attention function by name. Ours delegates each call to the
function the model would have used and, during a recording, keeps the queries and the settings.
The mask function must be registered under the same name: without it transformers makes no mask,
and the model silently sees the future. The model's configs hold our name only while a pass runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmscope.models.anatomy import Anatomy
from llmscope.models.outside_code import from_outside
from llmscope.record.capture.masks import first_visible, key_bias
from llmscope.record.edge_hooks import edges_at
from llmscope.record.knockouts import knockouts_at

SDPA = "llmscope_sdpa"
EAGER = "llmscope_eager"


class StandIn(str):
    """A name of ours that also compares equal to the standard name it replaces.

    Model files test `if config._attn_implementation in ("eager", "sdpa")` before they mask what an
    indexer did not choose, and silently skip that masking under any other name.
    """

    standard: str

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True or other == self.standard

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def _stand_in(name: str, standard: str) -> StandIn:
    stand_in = StandIn(name)
    stand_in.standard = standard
    return stand_in


STAND_INS = {
    name: _stand_in(name, standard) for name, standard in ((SDPA, "sdpa"), (EAGER, "eager"))
}
"""The value a config holds while a pass runs, by our name."""
OTHER = "llmscope_"
"""Prefix added to the name of an attention function registered by the user."""
NAME = "_attn_implementation_internal"
"""The attribute in which a transformers config keeps the name."""
STANDARD = ("sdpa", "eager", "flash", "flex", "paged", "kernels-community")
"""Prefixes of the names of attention functions that all compute the same result."""


@dataclass(frozen=True)
class AttentionSettings:
    """The arguments of an attention call besides queries, keys and values.

    `softmax(softcap(scale · q kᵀ) + bias + mask)`; `sinks` are extra logits that take part in the
    softmax and have no key. `window` w: a query sees its own key and the w − 1 before it. `bias`
    belongs to the key at each row of this pass, and is the same for all queries. [query, head]
    """

    scale: float
    softcap: float | None = None
    window: int | None = None
    sinks: Tensor | None = None
    bias: Tensor | None = None
    first: Tensor | None = None  # [query]: the first key that each query of this pass may see


class Listener(Protocol):
    """An object that is notified of an attention module's calls."""

    def attention_called(
        self, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
    ) -> None:
        """Receive the inputs before attention runs, each `[1, head, row, head width]`."""

    def attention_gave(self, output: Tensor) -> Tensor:
        """Receive the output of attention: pattern · values. `[1, row, head, head width]`

        Returns:
            The output that the model continues with.
        """


_listeners: dict[nn.Module, Listener] = {}
"""The listener of each module, while a pass runs."""


def _record_calls(
    forward: Callable[[nn.Module], Callable[..., Any]], *, by_row: bool = True
) -> Callable[..., Any]:
    """Return an attention function that notifies the module's listener, then delegates the call.

    Args:
        forward: returns the attention function that a module's calls are delegated to.
        by_row: whether that function can be called for some rows of the queries alone.
    """

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **options: Any,
    ) -> Any:
        listener, edges = _listeners.get(module), edges_at(module)
        knockouts = knockouts_at(module)
        if edges is not None:
            edges.reached(query, key, value)
            if edges.again:
                listener = edges = None
        if listener is not None:
            first = first_visible(attention_mask)
            biased = key_bias(attention_mask) if first is None else None
            settings = AttentionSettings(
                scale=float(scaling) if scaling is not None else query.shape[-1] ** -0.5,
                softcap=options.get("softcap"),
                window=options.get("sliding_window"),
                sinks=options.get("s_aux"),
                bias=None if biased is None else biased[0][:, -query.shape[2] :].T,
                first=first if biased is None else first_visible(biased[1]),
            )
            inputs = (query, key, value)
            if edges is not None:
                inputs = edges.read(query, key, value)
            listener.attention_called(*inputs, settings)
        run = forward(module)

        def call(query: Tensor, key: Tensor, value: Tensor) -> Any:
            result = run(module, query, key, value, attention_mask, scaling=scaling, **options)
            if knockouts is None:
                return result

            def attend(rows: Tensor, mask: Tensor) -> Tensor:
                again = run(module, rows, key, value, mask, scaling=scaling, **options)
                output: Tensor = again[0]
                return output

            whole = not by_row or options.get("position_bias") is not None
            output = knockouts.attended(
                result[0], query, key, attention_mask, attend, together=whole
            )
            return (output, *result[1:])

        output, *others = call(query, key, value)
        if edges is not None:
            output = edges.attended(output, query, key, value, lambda *inputs: call(*inputs)[0])
        if listener is not None:
            output = listener.attention_gave(output)
        return (output, *others)

    return attend


def _own_eager(module: nn.Module) -> Callable[..., Any]:
    """Return the eager attention function from the file that defines the module's class."""
    eager: Callable[..., Any] = sys.modules[type(module).__module__].eager_attention_forward
    return eager


AttentionInterface.register(SDPA, _record_calls(lambda _: sdpa_attention_forward))
AttentionMaskInterface.register(SDPA, sdpa_mask)
AttentionInterface.register(EAGER, _record_calls(_own_eager))
AttentionMaskInterface.register(EAGER, eager_mask)


@dataclass(eq=False)
class Route:
    """Routing of a model's attention through this module, active only within `taken`.

    Attributes:
        named: the model's configs, each with the attention name it gets while active.
        listeners: one per module; empty where the model computes attention inside the module.
    """

    named: list[tuple[Any, str | None]]
    listeners: Mapping[nn.Module, Listener] = field(default_factory=dict)
    _depth: int = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Route the passes run within. Modules that already have a listener keep it."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        names = [vars(config).get(NAME) for config, _ in self.named]
        new = [module for module in self.listeners if module not in _listeners]
        self._depth = 1
        try:
            for config, name in self.named:
                # Bypass transformers' check of the whole config.
                object.__setattr__(config, NAME, STAND_INS.get(name or "", name))
            for module in new:
                _listeners[module] = self.listeners[module]
            yield
        finally:
            self._depth = 0
            for module in new:
                _listeners.pop(module, None)
            for (config, _), name in zip(self.named, names, strict=True):
                object.__setattr__(config, NAME, name)


_routes: WeakKeyDictionary[Any, ref[Route]] = WeakKeyDictionary()
"""By model; held weakly, since a route holds the model's layers: both are freed together."""


@contextmanager
def listening(module: nn.Module, listener: Listener) -> Iterator[None]:
    """Replace a module's listener within the context."""
    listeners = _listeners.get(module)
    _listeners[module] = listener
    try:
        yield
    finally:
        if listeners is None:
            del _listeners[module]
        else:
            _listeners[module] = listeners


@contextmanager
def eagerly(model: Any, attention: nn.Module) -> Iterator[None]:
    """Use eager attention within, which materializes the patterns, if the model supports it."""
    known = _routes.get(model)
    route = None if known is None else known()
    seen = hasattr(sys.modules[type(attention).__module__], "eager_attention_forward")
    if route is None or not seen:
        yield
        return
    named_before = route.named
    route.named = [(config, EAGER if name == SDPA else name) for config, name in named_before]
    try:
        yield
    finally:
        route.named = named_before


def listen(model: Any, anatomy: Anatomy, listeners: list[Listener]) -> Route:
    """Build the route of a model's attention through this module, with one listener per layer.

    Returns:
        The route; without listeners where the model computes attention inside its module.
    """
    modules = [layer.attention for layer in anatomy.layers]
    attention = next((module for module in modules if module is not None), None)
    route = Route([])
    if attention is not None:
        name = _name(model, attention)
        if name is not None:
            route = Route(_configs_to_set(model, name))
        if name not in (None, "eager"):
            pairs = zip(modules, listeners, strict=True)
            route.listeners = {module: listener for module, listener in pairs if module is not None}
    _routes[model] = ref(route)
    return route


def _name(model: Any, attention: nn.Module) -> str | None:
    """Return the attention name to set while a pass runs; None to keep the model's own."""
    if not model._can_set_attn_implementation():
        # The attention module returns the pattern beside its output, if it materializes one.
        return "eager"
    implementation = str(model.config._attn_implementation)
    eager = hasattr(sys.modules[type(attention).__module__], "eager_attention_forward")
    if implementation in ALL_ATTENTION_FUNCTIONS and (
        not implementation.startswith(STANDARD)
        or from_outside(ALL_ATTENTION_FUNCTIONS[implementation])
    ):
        return _register(implementation)
    softcap = getattr(model.config, "attn_logit_softcapping", None)
    if model._supports_sdpa and not softcap and not (eager and implementation == "eager"):
        return SDPA
    return EAGER if eager else None


def _register(implementation: str) -> str:
    """Register a recorded version of the user's attention function, and return its name."""
    name = OTHER + implementation
    AttentionInterface.register(
        name,
        _record_calls(lambda _: ALL_ATTENTION_FUNCTIONS[implementation], by_row=False),
    )
    if implementation in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[implementation])
    return name


def _configs_to_set(model: Any, name: str) -> list[tuple[Any, str | None]]:
    """Return the configs that select a model's attention, each with the name to set.

    transformers checks part by part whether the model supports the name; once is enough.
    """
    configs = list(_configs(model))
    names = [vars(config).get(NAME) for config in configs]
    try:
        if model._can_set_attn_implementation():
            model.set_attn_implementation(name)
        else:
            model.config._attn_implementation = name
        names_now = [vars(config).get(NAME) for config in configs]
    finally:
        for config, before in zip(configs, names, strict=True):
            object.__setattr__(config, NAME, before)
    every = zip(configs, names, names_now, strict=True)
    return [(config, now) for config, before, now in every if now != before]


def _configs(model: Any) -> Iterator[Any]:
    """Yield every config of a model and of its parts, each once."""
    waiting = [module.config for module in model.modules() if hasattr(module, "config")]
    known: set[int] = set()
    while waiting:
        config = waiting.pop()
        if id(config) in known or not hasattr(config, "sub_configs"):
            continue
        known.add(id(config))
        yield config
        waiting += [getattr(config, key, None) for key in config.sub_configs]
