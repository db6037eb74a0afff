"""The taps: hooks on every layer that keep what a recording needs, and nothing else.

They are on the model while a pass of ours runs, and at no other time: `scope.model` is in between
as it was, to be used, changed or saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Anatomy, Layer
from llmscope.record.capture.attention_hook import AttentionSettings, listen
from llmscope.record.capture.mlp_input import MlpInput
from llmscope.record.capture.prefetch import ACTIVATIONS
from llmscope.record.capture.recording import LayerRows, Segment
from llmscope.record.capture.restored_buffers import RestoredBuffers

if TYPE_CHECKING:
    from llmscope.record.derive.output_gate import OutputGate


class Cancelled(Exception):  # noqa: N818 - it is no error: somebody changed their mind
    """A pass was given up because its result is no longer wanted."""


class Hooks:
    """Hooks that were made once, and are put on their modules and taken off again at once.

    A pass over one token takes some milliseconds, and a model has hundreds of them: to register
    each anew would be felt. So torch registers each once, and its entries are moved.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[dict[int, Any], int, Any]] = []

    def before(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call a hook with module, arguments and keywords before the module runs."""
        handle = module.register_forward_pre_hook(hook, with_kwargs=True)
        self._take(handle.id, module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs)

    def after(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call a hook with module, arguments and output after the module ran."""
        handle = module.register_forward_hook(hook)
        self._take(handle.id, module._forward_hooks)

    def _take(self, number: int, *places: dict[int, Any]) -> None:
        self._entries += [(place, number, place.pop(number)) for place in places]

    def place(self) -> None:
        """Put them on: after all others, so that they see what those made."""
        for place, number, entry in self._entries:
            place[number] = entry

    def remove(self) -> None:
        """Take them off."""
        for place, number, _ in self._entries:
            place.pop(number, None)


class LayerTap:
    """Listens to one layer, and holds its rows until the pass is over."""

    def __init__(self, taps: LayerHooks, layer: Layer) -> None:
        self.taps = taps
        self.settings: AttentionSettings | None = None
        self.kept: dict[str, Tensor] = {}
        self.keys: Tensor | None = None  # [key head, row, head width], of the whole prompt
        self.values: Tensor | None = None
        self.entry: MlpInput | None = (
            None  # once it is known how the MLP's input follows from the rest
        )
        self.output_gate: OutputGate = "nothing"  # until it is measured
        self.in_sight = False  # whether its MLP's activations are kept
        self._versions: dict[str, int] = {}
        self._copied: set[str] = set()
        self._scale = layer.scale
        self._out = layer.attention_out
        hooks = taps.hooks
        hooks.before(layer.module, self._enter)
        for module, name in (
            (layer.attention_write, "attention_write"),
            (layer.mixer_write, "mixer_write"),
            (layer.mlp_write, "mlp_write"),
            (layer.mlp_beside, "mlp_beside"),
            (layer.embedded_write, "embedded_write"),
        ):
            if module is not None:
                hooks.after(module, self._keeper(name))
        if layer.mlp_entry is not None:
            hooks.before(layer.mlp_entry, self._entry)
        if layer.down is not None:
            hooks.before(layer.down, self._activity)
        if layer.router is not None:
            hooks.after(layer.router, self._routed)

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
        elif name in self._copied or rows.is_inference():
            rows = rows.clone()  # a tensor of inference mode does not tell whether it was changed
        self.kept[name], self._versions[name] = rows, rows._version

    def _entry(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.whole and self.entry is None:
            self._keep("mlp_entry", _input(args, kwargs))

    def _activity(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.whole:
            activations = _input(args, kwargs).detach()
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
            if settings.first is not None:
                self.kept["visible_from"] = settings.first
            if settings.bias is not None:
                self.kept["key_bias"] = settings.bias
            self.settings = replace(settings, first=None, bias=None)

    def attention_gave(self, output: Tensor) -> Tensor:
        """Keep what is needed of what stands between it and the output projection."""
        if self.taps.whole and self.output_gate != "nothing":
            mixed = output.detach()[0].flatten(1)
            if self.output_gate == "more":
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
        named = {name: kept.get(name) for name in ("embedded_write", "visible_from", "key_bias")}
        return LayerRows(stream, *others, **named, entry=self.entry)


class LayerHooks:
    """All taps of one model."""

    def __init__(self, model: Any, anatomy: Anatomy) -> None:
        self.active = False
        self.whole = False  # whether more is kept than the streams
        self.cancelled: Callable[[], bool] = _never
        self._final: Tensor | None = None
        self.hooks = Hooks()
        self.layers = [LayerTap(self, layer) for layer in anatomy.layers]
        self.hooks.after(anatomy.layers[-1].module, self._leave)
        self._route = listen(model, anatomy, list(self.layers))
        self._depth = 0
        self._state = RestoredBuffers(model)
        _taps[model] = ref(self)

    @property
    def routed(self) -> bool:
        """Whether the model's attention passes through `llmscope.record.capture.attention_hook`."""
        return bool(self._route.listeners)

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Hooks and attention function are on the model within, and gone after it."""
        self._depth += 1
        try:
            with self._route.taken(), self._state.restored():
                if self._depth == 1:
                    self.hooks.place()
                yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.hooks.remove()

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
        with self.interruptible(cancelled or self.cancelled), self.placed():
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


_taps: WeakKeyDictionary[Any, ref[LayerHooks]] = WeakKeyDictionary()
"""By model; its subject holds them, and they the model's layers: all go at once."""


def placed(model: Any) -> AbstractContextManager[None]:
    """For passes that are run on the model itself: as those of its recorder within.

    They compute attention in the same way, and end when they are cancelled.
    """
    known = _taps.get(model)
    taps = None if known is None else known()
    return nullcontext() if taps is None else taps.placed()


def _never() -> bool:
    return False


def _input(args: Any, kwargs: Any) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def _first(output: Any) -> Any:
    """The hidden states, where a module gives more than them."""
    return output[0] if isinstance(output, tuple | list) else output


def _rows(tensor: Any) -> Tensor:
    """`[1, row, width]`, or without the batch where a layer folds it away. [row, width]

    Models with several residual streams hand on `[1, row, stream, width]` (hyper-connections) or
    `[stream, 1, row, width]` (AltUp): those of a row stand side by side. [row, stream · width]
    """
    rows: Tensor = tensor.detach()
    if rows.dim() == 4:
        batch_first = rows.shape[0] == 1
        return (rows if batch_first else rows.movedim(0, 2)).flatten(2).flatten(0, 1)
    return rows.reshape(-1, rows.shape[-1])
