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
from llmscope.record.between import Between
from llmscope.record.entries import Entry
from llmscope.record.foreseen import ACTIVATIONS
from llmscope.record.recording import LayerRows, Segment


class Cancelled(Exception):  # noqa: N818 - it is no error: somebody changed their mind
    """A pass was given up because its result is no longer wanted."""


class LayerTap:
    """Listens to one layer, and holds its rows until the pass is over."""

    def __init__(self, taps: Taps, layer: Layer) -> None:
        self.taps = taps
        self.settings: AttentionSettings | None = None
        self.kept: dict[str, Tensor] = {}
        self.keys: Tensor | None = None  # [key head, row, head width], of the whole prompt
        self.values: Tensor | None = None
        self.entry: Entry | None = (
            None  # once it is known how the MLP's input follows from the rest
        )
        self.between: Between = "nothing"  # until it is measured
        self.in_sight = False  # whether its MLP's activations are kept
        self._versions: dict[str, int] = {}
        self._copied: set[str] = set()
        self._scale = layer.scale
        self._out = layer.attention_out
        layer.module.register_forward_pre_hook(self._enter, with_kwargs=True)
        for module, name in (
            (layer.attention_write, "attention_write"),
            (layer.mixer_write, "mixer_write"),
            (layer.mlp_write, "mlp_write"),
            (layer.mlp_beside, "mlp_beside"),
        ):
            if module is not None:
                module.register_forward_hook(self._keeper(name))
        if layer.mlp_entry is not None:
            layer.mlp_entry.register_forward_pre_hook(self._entry, with_kwargs=True)
        if layer.down is not None:
            layer.down.register_forward_pre_hook(self._activity)
        if layer.router is not None:
            layer.router.register_forward_hook(self._routed)

    def _enter(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.cancelled():
            raise Cancelled
        if self.taps.active:
            self._keep("stream", _input(args, kwargs))

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, args: Any, output: Any) -> None:
            if self.taps.whole:
                self._keep(name, _first(output), self._scale)

        return keep

    def _keep(self, name: str, tensor: Any, scale: float = 1.0) -> None:
        rows = _rows(tensor)
        if scale != 1.0:
            rows = rows * scale
        elif name in self._copied:
            rows = rows.clone()
        self.kept[name], self._versions[name] = rows, rows._version

    def _entry(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.whole and self.entry is None:
            self._keep("mlp_entry", _input(args, kwargs))

    def _activity(self, _: nn.Module, args: Any) -> None:
        if self.taps.whole:
            activations = args[0].detach()
            rows = activations.reshape(-1, activations.shape[-1])
            exact = torch.promote_types(rows.dtype, torch.float32)
            self.kept["activity"] = torch.linalg.vector_norm(rows, dim=-1, dtype=exact).float()
            if self.in_sight:
                self._keep("activations", rows)

    def _routed(self, _: nn.Module, args: Any, output: Any) -> None:
        """Keep logits, weights and choice of a router; nothing of one that gives anything else."""
        if self.taps.whole and isinstance(output, tuple) and len(output) == 3:
            logits, weights, chosen = output
            if weights.shape == chosen.shape and not chosen.is_floating_point():
                for name, tensor in (("router", logits), ("routed", weights), ("chosen", chosen)):
                    self._keep(name, tensor)

    def attention_called(
        self, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
    ) -> None:
        """Keep the queries. A view of a fused projection is copied: it would keep it all alive."""
        if self.taps.whole:
            query = query.detach()[0]
            whole = query.untyped_storage().nbytes() == query.numel() * query.element_size()
            self.kept["query"] = query if whole else query.clone()
            self.keys, self.values = key.detach()[0], value.detach()[0]
            self.settings = settings

    def attention_gave(self, output: Tensor) -> Tensor:
        """Keep what is needed of what stands between it and the output projection."""
        if self.taps.whole and self.between != "nothing":
            mixed = output.detach()[0].flatten(1)
            if self.between == "more":
                self.kept["mixed"] = mixed
            elif self._out is not None:
                self._catch_gate(self._out, mixed)
        return output

    def _catch_gate(self, out: nn.Module, mixed: Tensor) -> None:
        """Keep the gate in front of the next call of the output projection.

        The hook is put on during the pass, so that it comes before those of edits, which change
        what the projection is handed.
        """

        def catch(_: nn.Module, args: Any) -> None:
            handle.remove()
            joined = args[0].detach().reshape(mixed.shape).float()
            gate = joined / mixed.float()
            # Where pattern · values is 0, so is what is handed on, whatever the gate.
            self.kept["gate"] = torch.where(mixed == 0, torch.zeros_like(gate), gate)

        handle = out.register_forward_pre_hook(catch, prepend=True)

    def overwritten(self) -> bool:
        """Whether the model changed in place what was kept; it will be copied from now on."""
        changed = {
            name
            for name, version in self._versions.items()
            if name in self.kept and self.kept[name]._version != version
        }
        self._copied |= changed
        return bool(changed)

    def activations(self) -> Tensor | None:
        """The MLP's activations, handed over; None where none were kept, or the model changed them.

        `[row, neuron]`
        """
        rows, stream = self.kept.pop("activations", None), self.kept["stream"]
        if rows is None or len(rows) != len(stream):
            return None
        return rows if rows._version == self._versions["activations"] else None

    def rows(self) -> LayerRows:
        """What was kept, handed over."""
        kept, self.kept = self.kept, {}
        names = (
            *("stream", "query", "attention_write", "mixer_write"),
            *("mlp_entry", "mlp_write", "activity"),
            *("router", "routed", "chosen", "gate", "mixed"),
        )
        beside = kept.pop("mlp_beside", None)
        if beside is not None:
            kept["mlp_write"] = kept["mlp_write"] + beside
        stream, *others = (kept.get(name) for name in names)
        assert stream is not None
        return LayerRows(stream, *others, entry=self.entry)


class Taps:
    """All taps of one model.

    `routed` says whether its attention passes through `llmscope.record.attention`.
    """

    def __init__(self, model: Any, anatomy: Anatomy) -> None:
        self.active = False
        self.whole = False  # whether more is kept than the streams
        self.cancelled: Callable[[], bool] = _never
        self._final: Tensor | None = None
        self.layers = [LayerTap(self, layer) for layer in anatomy.layers]
        self.routed = listen(model, anatomy, list(self.layers))
        anatomy.layers[-1].module.register_forward_hook(self._leave)

    def _leave(self, _: nn.Module, args: Any, output: Any) -> None:
        if self.active:
            self._final = _rows(_first(output))

    @contextmanager
    def open(
        self,
        cancelled: Callable[[], bool] | None = None,
        activations: int | None = None,
        *,
        streams_only: bool = False,
    ) -> Iterator[None]:
        """Record what passes through the model within.

        Args:
            activations: the layer whose MLP's activations are kept with the rows.
            streams_only: keep nothing else of a layer than the stream before it.

        Raises:
            Cancelled: at the next layer, once `cancelled` says so.
        """
        in_sight = () if activations is None else self.layers[activations : activations + 1]
        with self.interruptible(cancelled or self.cancelled):
            self.active, self.whole = True, not streams_only
            for tap in in_sight:
                tap.in_sight = True
            try:
                yield
            finally:
                self.active = self.whole = False
                for tap in in_sight:
                    tap.in_sight = False

    @contextmanager
    def interruptible(self, cancelled: Callable[[], bool] | None) -> Iterator[None]:
        """Passes within end at the next layer once `cancelled` says so, with `Cancelled`."""
        before, self.cancelled = self.cancelled, cancelled or _never
        try:
            yield
        finally:
            self.cancelled = before

    def overwritten(self) -> bool:
        """Whether the model changed in place what was kept, so that the pass must be run again."""
        return sum(tap.overwritten() for tap in self.layers) > 0

    def segment(self) -> Segment:
        """What the pass left, handed over."""
        assert self._final is not None
        final, self._final = self._final, None
        memo = {}
        for index, tap in enumerate(self.layers):
            activations = tap.activations()
            if activations is not None:
                memo[ACTIVATIONS] = (index, activations)
        return Segment(tuple(tap.rows() for tap in self.layers), final, memo)

    def drop(self) -> None:
        """Forget what an unfinished pass left."""
        self._final = None
        for tap in self.layers:
            tap.kept, tap.keys, tap.values = {}, None, None


def _never() -> bool:
    return False


def _input(args: Any, kwargs: Any) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def _first(output: Any) -> Any:
    """The hidden states, where a module gives more than them."""
    return output[0] if isinstance(output, tuple | list) else output


def _rows(tensor: Any) -> Tensor:
    """`[1, row, width]`, or without the batch where a layer folds it away. [row, width]"""
    rows: Tensor = tensor.detach()
    return rows.reshape(-1, rows.shape[-1])
