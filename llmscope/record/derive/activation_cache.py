"""The tensors of a recording by the names that the field gives them, computed when asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmscope.errors import Error, ScopeError, WrongValueError
from llmscope.record.derive.row_checks import readout_verdict, rows_verdict
from llmscope.record.derive.tensors import (
    activations,
    logits,
    mixed_values,
    pattern,
    values_of,
)
from llmscope.support import arguments
from llmscope.support.text import nearest

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.derive.verify import Verdicts

NEEDS: Mapping[str, tuple[str, ...]] = {
    "resid_pre": (),
    "attn_out": ("writes",),
    "mlp_out": ("writes",),
    "resid_post": (),
    "q": ("patterns",),
    "k": ("patterns",),
    "v": ("patterns",),
    "pattern": ("patterns",),
    "z": ("patterns", "heads"),
    "mlp_act": ("activations",),
}
"""The tensors of a layer, in the order of the pass, and the checks that each must have passed."""
CHECKED = {
    **dict.fromkeys(("q", "k", "v", "pattern", "z"), "patterns"),
    **dict.fromkeys(("attn_out", "mlp_out"), "writes"),
    "mlp_act": "activations",
}
"""The identity that is checked at the rows of the recording, by kind of tensor."""
LAYER = re.compile(r"layers\.(\d{1,9})\.(\w+)", re.ASCII)


class UnknownActivation(Error, KeyError):  # noqa: N818 - it is the name of a tensor
    """No tensor has that name."""

    def __str__(self) -> str:
        return self.message  # a KeyError would quote it


class ActivationCache(Mapping[str, Tensor]):
    """The tensors of a recording by name. Each access computes or copies one; none is kept.

    `embed` and `layers.3.resid_pre`, `.attn_out`, `.mlp_out`, `.resid_post`: [position, width];
    `.q`: [head, position, head width], after its rotation; `.k`, `.v`: [key head, position, head
    width]; `.pattern`: [head, query, key], in float32; `.z`, pattern times values: [position, head,
    head width], in float32; `.mlp_act`, the input of the down projection, of experts times their
    weights: [position, neuron];
    `logits`: [position, token], in float32.

    It holds the names that the model has and that passed their check. Tensors are copies, on the
    model's device.

    Args:
        recording: the recording.
        verdicts: the checks of the model.
        reading: the context in which the model of a recording is read.

    Raises:
        ScopeError: the model has changed since the recording was made.
    """

    def __init__(
        self,
        recording: Recording,
        verdicts: Verdicts,
        reading: Callable[[Recording], AbstractContextManager[None]],
    ) -> None:
        with reading(recording):
            pass
        self._recording = recording
        self._verdicts = verdicts
        self._reading = reading
        self._names: tuple[str, ...] | None = None

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by its name.

        Raises:
            KeyError: there is no such name; the text names the most similar one.
            ScopeError: the model has no such part, its check failed, or the model has changed.
        """
        name = arguments.text("name", name)
        with self._reading(self._recording):
            return self._read(name)

    def _read(self, name: str) -> Tensor:
        layer, kind = self._parse_name(name)
        reason = self._refusal(layer, kind) or self._refusal_here(layer, kind)
        if reason:
            raise ScopeError(f"{name}: {reason}")
        with torch.no_grad():
            try:
                tensor = self._tensor(layer, kind)
            except ValueError as error:
                raise ScopeError(f"{name}: {error}") from error
        if tensor is None:
            raise ScopeError(f"{name}: layer {layer} has no such part")
        return tensor.detach().clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._known_names())

    def __len__(self) -> int:
        return len(self._known_names())

    def __contains__(self, name: object) -> bool:
        return name in self._known_names()

    def __repr__(self) -> str:
        return f"<ActivationCache of {self._recording!r}: {len(self)} tensors>"

    def select(self, names: str) -> dict[str, Tensor]:
        """Return all tensors whose names match a pattern, such as `layers.*.resid_post`.

        Args:
            names: a name in which `*` stands for any text, `?` for a character, `[0-3]` for one of
                several.

        Raises:
            KeyError: no name matches.
            ScopeError: as for one tensor.
        """
        matching = self.matching(names)
        with self._reading(self._recording):
            return {name: self._read(name) for name in matching}

    def matching(self, names: str) -> list[str]:
        """Return the names that match a pattern, as for `select`, without their tensors.

        Raises:
            KeyError: no name matches.
        """
        names = arguments.text("names", names)
        matches = [name for name in self._known_names() if fnmatchcase(name, names)]
        if not matches:
            raise UnknownActivation(
                f"no name matches {arguments.quote_value(names)}{self._near(names)}"
            )
        return matches

    def stack(self, kind: str) -> Tensor:
        """Return one kind of tensor of all layers, such as `resid_post`. [layer, ...]

        Raises:
            KeyError: there is no such kind; the text names the most similar one.
            ScopeError: as for one tensor; or the layers' tensors differ in shape.
        """
        kind = arguments.text("kind", kind)
        with self._reading(self._recording):
            tensors = [self._read(f"layers.{at}.{kind}") for at in range(self._recording.layers)]
        if len({tensor.shape for tensor in tensors}) > 1:
            raise ScopeError(f"{kind} has another shape in some layers", "cache.select")
        return torch.stack(tensors)

    def _known_names(self) -> tuple[str, ...]:
        if self._names is not None:
            return self._names
        with self._reading(self._recording):
            layers = range(self._recording.layers)
            names = [f"layers.{layer}.{kind}" for layer in layers for kind in NEEDS]
            self._names = tuple(
                name for name in ("embed", *names, "logits") if not self._refusal(*split_name(name))
            )
        return self._names

    def _parse_name(self, name: str) -> tuple[int, str]:
        """Return layer and kind of a name; the layer is -1 for tensors of no layer."""
        layer, kind = split_name(name)
        count = self._recording.layers
        if layer < 0 and kind in ("embed", "logits"):
            return layer, kind
        if layer >= count:
            raise UnknownActivation(
                f"{arguments.quote_value(name)}: the model has {count} layers (0 to {count - 1})"
            )
        if layer < 0 or kind not in NEEDS:
            raise UnknownActivation(f"no tensor {arguments.quote_value(name)}{self._near(name)}")
        return layer, kind

    def _near(self, name: str) -> str:
        layer, kind = split_name(name)
        if layer >= 0:
            close = nearest(kind, NEEDS)
            close = close and f"layers.{layer}.{close}"
        else:
            close = nearest(name, ("embed", "logits", *(f"layers.0.{kind}" for kind in NEEDS)))
        return f"; did you mean {close}?" if close else f"; there are {', '.join(NEEDS)}"

    def _refusal(self, layer: int, kind: str) -> str:
        """Return why a tensor cannot be had; empty if it can."""
        if kind == "logits":
            verdict = self._verdicts("readout")
            return verdict.reason if verdict.status == "refused" else ""
        if layer < 0:
            return ""
        for capability in NEEDS[kind]:
            verdict = self._verdicts(capability, layer)
            if verdict.status == "refused":
                return verdict.reason
        return "" if self._has(layer, kind) else f"layer {layer} has no such part"

    def _refusal_here(self, layer: int, kind: str) -> str:
        """Return why a tensor is wrong at the rows and the length of this recording."""
        if kind == "logits":
            verdict = readout_verdict(self._recording)
        elif kind in CHECKED:
            verdict = rows_verdict(self._recording, CHECKED[kind], layer)
        else:
            return ""  # as the hooks saw it
        return verdict.reason if verdict.status == "refused" else ""

    def _has(self, layer: int, kind: str) -> bool:
        rows = self._recording.parts[-1][0].layers[layer]
        if kind == "attn_out":
            return rows.attention_write is not None
        if kind == "mlp_out":
            return rows.mlp_write is not None
        if kind == "q":
            return rows.query is not None
        if kind == "k":
            return self._recording.keys[layer] is not None
        if kind == "mlp_act":
            return rows.entry is not None or rows.kept_entry is not None
        return True

    def _tensor(self, layer: int, kind: str) -> Tensor | None:
        """Return the tensor of a kind in a layer; None where the recording does not hold it."""
        recording = self._recording
        match kind:
            case "embed":
                return recording.rows("stream", 0)
            case "logits":
                return logits(recording, 0, len(recording))
            case "resid_pre":
                return recording.rows("stream", layer)
            case "resid_post":
                return recording.rows("stream", layer + 1)
            case "attn_out":
                return recording.rows("attention_write", layer)
            case "mlp_out":
                return recording.rows("mlp_write", layer)
            case "q":
                return recording.rows("query", layer)
            case "k":
                return recording.keys[layer]
            case "v":
                return values_of(recording, layer)
            case "pattern":
                return pattern(recording, layer)
            case "z":
                return self._head_outputs(layer)
            case "mlp_act":
                return activations(recording, layer)
            case _:
                raise AssertionError(f"{kind} is not a kind of tensor")

    def _head_outputs(self, layer: int) -> Tensor:
        """Return pattern times values with the edits of the heads. [position, head, head width]"""
        recording = self._recording
        heads = mixed_values(recording, layer).float()
        sites = [(change.site, change.layer) for change in recording.changes]
        if ("heads", layer) not in sites:
            return heads
        if recording.rows("gate", layer) is not None:
            raise WrongValueError("a head is edited after the gate that its output passes")
        rows = range(len(recording))
        return recording.changed(heads.flatten(1), "heads", layer, rows).view_as(heads)


def split_name(name: str) -> tuple[int, str]:
    """Return layer and kind of a name; layer -1 if it has none."""
    match = LAYER.fullmatch(name)
    return (-1, name) if match is None else (int(match[1]), match[2])
