"""Hooks on every layer that keep exactly what a recording needs.

They are on the model only while one of llmscope's passes runs: in between, `scope.model` is as it
was, to be used, changed or saved.
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
from llmscope.models.fast_linear import fast_rows
from llmscope.models.module_calls import hidden_input, hidden_output
from llmscope.record.capture.attention_hook import AttentionSettings, listen
from llmscope.record.capture.mlp_input import MlpInput
from llmscope.record.capture.prefetch import ACTIVATIONS
from llmscope.record.capture.random_state import random_states
from llmscope.record.capture.recording import LayerRows, Segment
from llmscope.record.capture.restored_buffers import RestoredBuffers
from llmscope.record.mixer_calls import MixerCalls, begin, changed_heads, end, listening
from llmscope.support.sandbox import Cancelled

if TYPE_CHECKING:
    from llmscope.record.derive.output_gate import OutputGate


class Hooks:
    """Hooks that are registered once, then put on and taken off their modules all together.

    A pass over one token takes some milliseconds, and a model has hundreds of hooks: registering
    each again for every pass would be noticeable. So each is registered with torch once, and its
    entries in the modules' hook tables are moved in and out.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[dict[int, Any], int, Any]] = []

    def before(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call `hook` with module, arguments and keywords before the module runs."""
        handle = module.register_forward_pre_hook(hook, with_kwargs=True)
        self._take(handle.id, module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs)

    def after(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call `hook` with module, arguments and output after the module ran."""
        handle = module.register_forward_hook(hook)
        self._take(handle.id, module._forward_hooks)

    def _take(self, number: int, *places: dict[int, Any]) -> None:
        self._entries += [(place, number, place.pop(number)) for place in places]

    def place(self) -> None:
        """Put the hooks on, after all others, so that they see the results of those."""
        for place, number, entry in self._entries:
            place[number] = entry

    def remove(self) -> None:
        """Take the hooks off."""
        for place, number, _ in self._entries:
            place.pop(number, None)


class LayerTap:
    """The hooks of one layer, which hold its rows until the pass is over."""

    def __init__(self, taps: LayerHooks, layer: Layer) -> None:
        self.taps = taps
        self.settings: AttentionSettings | None = None
        self.kept: dict[str, Tensor] = {}
        self.keys: Tensor | None = None  # [key head, row, head width], of the whole prompt
        self.values: Tensor | None = None
        self.entry: MlpInput | None = None  # set once the way to derive the MLP's input is known
        self.output_gate: OutputGate = "nothing"  # until it is measured
        self.in_sight = False  # whether the MLP's activations are kept
        self.recurrence = layer.recurrence
        self.mixing: MixerCalls | None = None
        self._mixed_rows: int | None = None
        self._versions: dict[str, int] = {}
        self._copied: set[str] = set()
        self._out = layer.attention_out
        hooks = taps.hooks
        hooks.before(layer.module, self._enter)
        for module, name in (
            (layer.attention_write, "attention_write"),
            (layer.mixer_write, "mixer_write"),
            (layer.mlp_write, "mlp_write"),
            (layer.mlp_parallel, "mlp_parallel"),
            (layer.embedded_write, "embedded_write"),
        ):
            if module is not None:
                scale = layer.scale("mlp_write" if name == "mlp_parallel" else name)
                hooks.after(module, self._keeper(name, scale))
        if layer.mlp_input_module is not None:
            hooks.before(layer.mlp_input_module, self._entry)
        if layer.down is not None:
            hooks.before(layer.down, self._activity)
        if layer.router is not None:
            hooks.after(layer.router, self._keep_routing)
        if layer.neurons is not None:
            self._read_choice = layer.neurons.weights.choice
            place, before = layer.neurons.weights.place
            if before:
                hooks.before(place, self._keep_choice)
            else:
                hooks.after(place, lambda _, args, output: self._keep_choice(_, args, {}, output))
        if layer.recurrence is not None:
            hooks.before(layer.recurrence.module, self._begin_mixing)
            hooks.after(layer.recurrence.module, self._end_mixing)

    def _enter(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.cancelled():
            raise Cancelled
        if self.taps.active:
            self._keep("stream", hidden_input(args, kwargs))

    def _keeper(self, name: str, scale: float) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, args: Any, output: Any) -> None:
            if self.taps.whole:
                self._keep(name, hidden_output(output), scale)

        return keep

    def _keep(self, name: str, tensor: Any, scale: float = 1.0) -> None:
        rows = _rows(tensor)
        if scale != 1.0:
            rows = rows * scale
        elif name in self._copied or rows.is_inference():
            rows = rows.clone()  # a tensor of inference mode has no version that shows changes
        self.kept[name], self._versions[name] = rows, rows._version

    def _entry(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.whole and self.entry is None:
            self._keep("mlp_input_module", hidden_input(args, kwargs))

    def _activity(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.taps.whole:
            activations = hidden_input(args, kwargs).detach()
            rows = activations.reshape(-1, activations.shape[-1])
            exact = torch.promote_types(rows.dtype, torch.float32)
            self.kept["activity"] = torch.linalg.vector_norm(rows, dim=-1, dtype=exact).float()
            if self.in_sight:
                self._keep("activations", rows)

    def _keep_routing(self, _: nn.Module, args: Any, output: Any) -> None:
        """Keep a router's logits, weights and choice; ignore a router with any other output."""
        if self.taps.whole and isinstance(output, tuple) and len(output) == 3:
            logits, weights, chosen = output
            if weights.shape == chosen.shape and not chosen.is_floating_point():
                for name, tensor in (("router", logits), ("routed", weights), ("chosen", chosen)):
                    self._keep(name, tensor)

    def _keep_choice(self, _: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
        """Keep the choice that experts are handed, whatever their router returned."""
        choice = self._read_choice(args, kwargs, output) if self.taps.whole else None
        if choice is not None:
            for name, tensor in zip(("routed", "chosen"), choice, strict=True):
                self._keep(name, tensor)

    def attention_called(
        self, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
    ) -> None:
        """Keep the queries. Copy a view of a fused projection: it would keep all of that alive."""
        if self.taps.whole:
            query, key, value = query.detach(), key.detach(), value.detach()
            if not self.taps.together:
                query, key, value = query[0], key[0], value[0]
            whole = query.untyped_storage().nbytes() == query.numel() * query.element_size()
            self.kept["query"] = query if whole else query.clone()
            self.keys, self.values = key, value
            if settings.first is not None:
                self.kept["visible_from"] = settings.first
                settings = replace(settings, first=None)
            if settings.bias is not None:
                self.kept["key_bias"] = settings.bias
                settings = replace(settings, bias=None)
            self.settings = settings

    def attention_gave(self, output: Tensor) -> Tensor:
        """Keep what `output_gate` requires of the step before the output projection."""
        if self.taps.whole and self.output_gate != "nothing":
            mixed = output.detach()[0].flatten(1)
            if self.output_gate == "more":
                self.kept["mixed"] = mixed
            elif self._out is not None:
                self._catch_gate(self._out, mixed)
        return output

    def _catch_gate(self, out: nn.Module, mixed: Tensor) -> None:
        """Keep the gate applied before the next call of the output projection.

        The hook is registered during the pass, so that it runs before those of edits, which change
        the projection's input.
        """

        def catch(_: nn.Module, args: Any) -> None:
            handle.remove()
            joined = args[0].detach().reshape(mixed.shape).float()
            gate = joined / mixed.float()
            # Where pattern · values is 0, the projection's input is 0 for any gate.
            self.kept["gate"] = torch.where(mixed == 0, torch.zeros_like(gate), gate)

        handle = out.register_forward_pre_hook(catch, prepend=True)

    def _begin_mixing(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        rows = hidden_input(args, kwargs)  # [prompt, row, width]
        self.mixing, self._mixed_rows = None, rows.shape[1] if rows.shape[0] == 1 else None
        begin(self)

    def _end_mixing(self, *_: Any) -> None:
        end()

    def mixer_called(self, name: str, arguments: dict[str, Any], output: Tensor) -> Tensor:
        """Keep what the recurrence received and gave; return that after changes of its heads."""
        assert self.recurrence is not None
        if self.taps.whole:
            if self.mixing is None:
                self.mixing = MixerCalls()
            self.mixing.add(name, arguments, output, self._mixed_rows)
        return changed_heads(self.recurrence, output)

    def overwritten(self) -> bool:
        """Return whether the model changed kept tensors in place; copy those from now on."""
        changed = {
            name
            for name, version in self._versions.items()
            if name in self.kept and self.kept[name]._version != version
        }
        self._copied |= changed
        return bool(changed)

    def activations(self) -> Tensor | None:
        """Remove and return the MLP's activations; None if not kept or changed by the model.

        `[row, neuron]`
        """
        rows, stream = self.kept.pop("activations", None), self.kept["stream"]
        if rows is None or len(rows) != len(stream):
            return None
        return rows if rows._version == self._versions["activations"] else None

    def rows(self) -> LayerRows:
        """Remove and return the kept rows."""
        tensors, self.kept = self.kept, {}
        names = (
            *("stream", "query", "attention_write", "mixer_write"),
            *("mlp_input_module", "mlp_write", "activity"),
            *("router", "routed", "chosen", "gate", "mixed"),
        )
        beside = tensors.pop("mlp_parallel", None)
        if beside is not None:
            tensors["mlp_write"] = tensors["mlp_write"] + beside
        for name in ("mlp_input_module", "mlp_write", "activity", "router", "routed", "chosen"):
            if name in tensors and len(tensors[name]) != len(tensors["stream"]):
                del tensors[name]  # the MLP runs in chunks, and only the last one was kept
        stream, *others = (tensors.get(name) for name in names)
        assert stream is not None
        named = {name: tensors.get(name) for name in ("embedded_write", "visible_from", "key_bias")}
        mixing, self.mixing = self.mixing, None
        return LayerRows(stream, *others, **named, entry=self.entry, mixing=mixing)


class LayerHooks:
    """The hooks on all layers of one model."""

    def __init__(self, model: Any, anatomy: Anatomy) -> None:
        self.active = False
        self.whole = False  # whether more than the streams is kept
        self.together = False  # whether a pass holds several prompts
        self.cancelled: Callable[[], bool] = _never
        self._final: Tensor | None = None
        self.hooks = Hooks()
        self.layers = [LayerTap(self, layer) for layer in anatomy.layers]
        self.hooks.after(anatomy.layers[-1].module, self._leave)
        self._route = listen(model, anatomy, list(self.layers))
        self._recurrences = [
            layer.recurrence for layer in anatomy.layers if layer.recurrence is not None
        ]
        self._readout = anatomy.readout
        self._depth = 0
        self._state = RestoredBuffers(model)
        self._device = next(model.parameters()).device
        self.draws = 0  # how many passes drew random numbers
        _taps[model] = ref(self)

    @property
    def routed(self) -> bool:
        """Whether the model's attention goes through `llmscope.record.capture.attention_hook`."""
        return bool(self._route.listeners)

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Install the hooks and the attention function in a context, and remove them after it.

        Within it, the unembedding computes several rows by `fast_rows`, faster than PyTorch's own.
        """
        matrix = None if self._readout is None else self._readout.matrix
        before = None if self._depth else random_states(self._device)
        self._depth += 1
        try:
            with (
                self._route.taken(),
                self._state.restored(),
                nullcontext() if matrix is None else fast_rows(matrix),
                listening(self._recurrences) if self._recurrences else nullcontext(),
            ):
                if self._depth == 1:
                    self.hooks.place()
                yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.hooks.remove()
                self.draws += before != random_states(self._device)

    def _leave(self, _: nn.Module, args: Any, output: Any) -> None:
        if self.active:
            self._final = _rows(hidden_output(output))

    @contextmanager
    def open(
        self,
        cancelled: Callable[[], bool] | None = None,
        activations: int | None = None,
        *,
        streams_only: bool = False,
        together: bool = False,
    ) -> Iterator[None]:
        """Record the passes of the model within the context.

        Args:
            cancelled: called before each layer; None keeps the current one.
            activations: the layer whose MLP's activations are kept with the rows; None: no layer.
            streams_only: keep only the stream before each layer.
            together: several prompts run, one after the other in the rows of each tensor; queries,
                keys and values are kept as [prompt, head, row, head width].

        Raises:
            Cancelled: at the next layer, once `cancelled` returns true.
        """
        in_sight = () if activations is None else self.layers[activations : activations + 1]
        with self.interruptible(cancelled or self.cancelled), self.placed():
            self.active, self.whole, self.together = True, not streams_only, together
            for tap in in_sight:
                tap.in_sight = True
            try:
                yield
            finally:
                self.active = self.whole = self.together = False
                for tap in in_sight:
                    tap.in_sight = False

    @contextmanager
    def interruptible(self, cancelled: Callable[[], bool] | None) -> Iterator[None]:
        """Raise `Cancelled` in passes within, at the next layer once `cancelled` returns true."""
        before, self.cancelled = self.cancelled, cancelled or _never
        try:
            yield
        finally:
            self.cancelled = before

    def streams_of_one(self) -> Tensor | None:
        """Return the stream before each layer, in a pass over one token. `[layer, width]`

        None outside of a recorded pass, and in a pass of more rows.
        """
        if not self.whole or self.together or self._final is None:
            return None
        streams = [tap.kept.get("stream") for tap in self.layers]
        if any(rows is None or len(rows) != 1 for rows in streams):
            return None
        rows = [rows for rows in streams if rows is not None]
        return torch.cat(rows) if len({row.device for row in rows}) == 1 else None

    def overwritten(self) -> bool:
        """Return whether the model changed kept tensors in place, so the pass must run again."""
        return sum(tap.overwritten() for tap in self.layers) > 0

    def segment(self) -> Segment:
        """Remove and return the rows of the pass."""
        assert self._final is not None
        final, self._final = self._final, None
        memo = {}
        for index, tap in enumerate(self.layers):
            activations = tap.activations()
            if activations is not None:
                memo[ACTIVATIONS] = (index, activations)
        return Segment(tuple(tap.rows() for tap in self.layers), final, memo)

    def drop(self) -> None:
        """Discard the rows of an unfinished pass."""
        self._final = None
        for tap in self.layers:
            tap.kept, tap.keys, tap.values, tap.mixing = {}, None, None, None


_taps: WeakKeyDictionary[Any, ref[LayerHooks]] = WeakKeyDictionary()
"""By model. The `LoadedModel` holds the hooks, which hold the layers: all are freed together."""


def placed(model: Any) -> AbstractContextManager[None]:
    """Make direct calls of the model behave like its recorder's passes within the context.

    They compute attention in the same way, and end when they are cancelled.
    """
    known = _taps.get(model)
    taps = None if known is None else known()
    return nullcontext() if taps is None else taps.placed()


def _never() -> bool:
    return False


def _rows(tensor: Any) -> Tensor:
    """Return `[1, row, width]`, or the same without the batch dimension, as [row, width].

    Models with several residual streams pass on `[1, row, stream, width]` (hyper-connections) or
    `[stream, 1, row, width]` (AltUp): a row's streams are concatenated. [row, stream · width]
    """
    rows: Tensor = tensor.detach()
    if rows.dim() == 4:
        batch_first = rows.shape[0] == 1
        return (rows if batch_first else rows.movedim(0, 2)).flatten(2).flatten(0, 1)
    return rows.reshape(-1, rows.shape[-1])
