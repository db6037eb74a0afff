"""The attention function: the one place where queries pass after their rotation.

transformers lets a model choose its attention by name. Ours hands each call on to what the model
would have used and, while a recording is being made, keeps the queries and the call's settings.
The mask function must be registered under the same name: without one transformers makes no mask,
and the model silently sees the future.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from llmscope.models.anatomy import Anatomy

SDPA = "llmscope_sdpa"
EAGER = "llmscope_eager"


@dataclass(frozen=True)
class AttentionSettings:
    """What an attention call was told besides queries, keys and values.

    `softmax(softcap(scale · q kᵀ) + mask)`; `sinks` are extra logits that take part in the
    softmax and have no key. `window` w: a query sees its own and the w − 1 keys before it.
    """

    scale: float
    softcap: float | None = None
    window: int | None = None
    sinks: Tensor | None = None


class Listener(Protocol):
    """Whoever wants what an attention module was called with."""

    def attention_called(
        self, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
    ) -> None:
        """Called before attention runs, with `[1, head, row, head width]` each."""

    def attention_gave(self, output: Tensor) -> Tensor:
        """Called with what attention returns: pattern · values. `[1, row, head, head width]`

        Returns:
            What the model goes on with.
        """


_listeners: WeakKeyDictionary[nn.Module, Listener] = WeakKeyDictionary()


def _recorded(forward: Callable[[nn.Module], Callable[..., Any]]) -> Callable[..., Any]:
    """An attention function that tells the module's listener of the call, then hands it on.

    Args:
        forward: the function that a module's calls are handed on to.
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
        listener = _listeners.get(module)
        if listener is not None:
            settings = AttentionSettings(
                scale=float(scaling) if scaling is not None else query.shape[-1] ** -0.5,
                softcap=options.get("softcap"),
                window=options.get("sliding_window"),
                sinks=options.get("s_aux"),
            )
            listener.attention_called(query, key, value, settings)
        run = forward(module)
        output, *others = run(module, query, key, value, attention_mask, scaling=scaling, **options)
        if listener is not None:
            output = listener.attention_gave(output)
        return (output, *others)

    return attend


def _own_eager(module: nn.Module) -> Callable[..., Any]:
    """The eager attention of the file that the module's class is from."""
    eager: Callable[..., Any] = sys.modules[type(module).__module__].eager_attention_forward
    return eager


AttentionInterface.register(SDPA, _recorded(lambda _: sdpa_attention_forward))
AttentionMaskInterface.register(SDPA, sdpa_mask)
AttentionInterface.register(EAGER, _recorded(_own_eager))
AttentionMaskInterface.register(EAGER, eager_mask)


@contextmanager
def listening(module: nn.Module, listener: Listener) -> Iterator[None]:
    """Let another one listen to a module within, in the place of its own."""
    own = _listeners.get(module)
    _listeners[module] = listener
    try:
        yield
    finally:
        if own is None:
            del _listeners[module]
        else:
            _listeners[module] = own


@contextmanager
def eagerly(model: Any, attention: nn.Module) -> Iterator[None]:
    """Within, the model works its patterns out as matrices that can be seen, where it can."""
    own = getattr(model.config, "_attn_implementation", "")
    seen = hasattr(sys.modules[type(attention).__module__], "eager_attention_forward")
    if own != SDPA or not seen:
        yield
        return
    model.set_attn_implementation(EAGER)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def listen(model: Any, anatomy: Anatomy, listeners: list[Listener]) -> bool:
    """Route the model's attention through here, one listener a layer.

    Returns:
        Whether it could be routed. Where not, the model computes its attention inside.
    """
    modules = [layer.attention for layer in anatomy.layers]
    attention = next((module for module in modules if module is not None), None)
    if attention is None:
        return False
    if not model._can_set_attn_implementation():
        # Its module gives the pattern beside its output, but only if it makes one.
        model.config._attn_implementation = "eager"
        return False
    own = hasattr(sys.modules[type(attention).__module__], "eager_attention_forward")
    if model._supports_sdpa and not getattr(model.config, "attn_logit_softcapping", None):
        name = SDPA
    elif own:
        name = EAGER
    else:
        return False
    model.set_attn_implementation(name)
    for module, listener in zip(modules, listeners, strict=True):
        if module is not None:
            _listeners[module] = listener
    return True
