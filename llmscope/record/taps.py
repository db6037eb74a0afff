"""The taps: hooks on every layer that keep what a recording needs, and nothing else.

They stay on the model and do nothing unless a recording is being made, so `scope.model` can be
used for anything in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Anatomy, Layer
from llmscope.record.attention import AttentionSettings, listen
from llmscope.record.recording import LayerRows, Segment


class Cancelled(Exception):  # noqa: N818 - it is no error: somebody changed their mind
    """A pass was given up because its result is no longer wanted."""


class LayerTap:
    """Listens to one layer, and holds its rows until the pass is over."""

    def __init__(self, taps: Taps, layer: Layer) -> None:
        self.taps = taps
        self.settings: AttentionSettings | None = None
        self.kept: dict[str, Tensor] = {}
        layer.module.register_forward_pre_hook(self._enter, with_kwargs=True)
        for module, name in (
            (layer.attention_write, "attention_write"),
            (layer.mlp_write, "mlp_write"),
        ):
            if module is not None:
                module.register_forward_hook(self._keeper(name))
        if layer.mlp_entry is not None:
            layer.mlp_entry.register_forward_pre_hook(self._entry, with_kwargs=True)
        if layer.down is not None:
            layer.down.register_forward_pre_hook(self._activity)

    def _enter(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.active:
            if self.taps.cancelled():
                raise Cancelled
            self.kept["stream"] = _rows(_input(args, kwargs))

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, args: Any, output: Any) -> None:
            if self.taps.active:
                self.kept[name] = _rows(output[0] if isinstance(output, tuple) else output)

        return keep

    def _entry(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.active:
            self.kept["mlp_entry"] = _rows(_input(args, kwargs))

    def _activity(self, _: nn.Module, args: Any) -> None:
        if self.taps.active:
            activations = args[0].detach()
            rows = activations.reshape(-1, activations.shape[-1])
            self.kept["activity"] = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float32)

    def attention_called(self, query: Tensor, settings: AttentionSettings) -> None:
        """Keep the queries. A view of a fused projection is copied: it would keep it all alive."""
        if self.taps.active:
            query = query.detach()[0]
            whole = query.untyped_storage().nbytes() == query.numel() * query.element_size()
            self.kept["query"] = query if whole else query.clone()
            self.settings = settings

    def rows(self) -> LayerRows:
        """What was kept, handed over."""
        kept, self.kept = self.kept, {}
        names = ("query", "attention_write", "mlp_entry", "mlp_write", "activity")
        return LayerRows(kept["stream"], *(kept.get(name) for name in names))


class Taps:
    """All taps of one model.

    `unrouted` says why its attention cannot be recorded; empty when it can.
    """

    def __init__(self, model: Any, anatomy: Anatomy) -> None:
        self.active = False
        self.cancelled: Callable[[], bool] = _never
        self._final: Tensor | None = None
        self.layers = [LayerTap(self, layer) for layer in anatomy.layers]
        self.unrouted = listen(model, anatomy, list(self.layers))
        anatomy.layers[-1].module.register_forward_hook(self._leave)

    def _leave(self, _: nn.Module, args: Any, output: Any) -> None:
        if self.active:
            self._final = _rows(output[0] if isinstance(output, tuple) else output)

    @contextmanager
    def open(self, cancelled: Callable[[], bool] | None = None) -> Iterator[None]:
        """Record what passes through the model within.

        Raises:
            Cancelled: at the next layer, once `cancelled` says so.
        """
        self.active, self.cancelled = True, cancelled or _never
        try:
            yield
        finally:
            self.active, self.cancelled = False, _never

    def segment(self) -> Segment:
        """What the pass left, handed over."""
        assert self._final is not None
        final, self._final = self._final, None
        return Segment(tuple(tap.rows() for tap in self.layers), final)

    def drop(self) -> None:
        """Forget what an unfinished pass left."""
        self._final = None
        for tap in self.layers:
            tap.kept = {}


def _never() -> bool:
    return False


def _input(args: Any, kwargs: Any) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def _rows(tensor: Any) -> Tensor:
    """`[1, row, width]`, or without the batch where a layer folds it away. [row, width]"""
    rows: Tensor = tensor.detach()
    return rows.reshape(-1, rows.shape[-1])
