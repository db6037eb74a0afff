"""Where the activations of a group of units come from: a dictionary, an MLP, or attention heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from llmscope.errors import ScopeError
from llmscope.jobs.examples.entries import Entries
from llmscope.learned.dictionaries.dictionary import BLOCK, Dictionary
from llmscope.learned.dictionaries.place import STREAMS, Place
from llmscope.learned.examples.folder import UnitGroup
from llmscope.learned.examples.unit import UnitKind, head, neuron
from llmscope.models.anatomy import Layer
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.tensors import activations, head_outputs, neuron_columns
from llmscope.record.derive.verify import Verdicts
from llmscope.record.features.active import Applied, Misfit, applied
from llmscope.record.features.places import tensor_at
from llmscope.record.sites import NoPlace


class UnitSource(ABC):
    """A group of units of one place.

    Attributes:
        kind, place: see `Unit`.
        indices: the units, ascending.
    """

    kind: UnitKind
    place: str
    indices: Sequence[int]

    @property
    def whole(self) -> bool:
        """Whether it reads more of a pass than the residual stream."""
        return True

    @property
    def group(self) -> UnitGroup:
        """What the index of a folder tells of it."""
        return UnitGroup(self.kind, self.place, tuple(self.indices), len(self.indices))

    def label(self, index: int) -> str:
        """Return what a unit is said to mean; empty if unknown."""
        return ""

    @abstractmethod
    def check(self, recording: Recording, verdicts: Verdicts) -> None:
        """Check on a first recording that the model has these units.

        Raises:
            ScopeError: it has not, or their activations cannot be trusted.
        """

    @abstractmethod
    def entries(self, recording: Recording) -> Entries:
        """Return the activations at all tokens of a prompt."""


@dataclass
class FeatureSource(UnitSource):
    """Features of a dictionary: active where they are not zero.

    Attributes:
        dictionary: with its weights on the model's device.
        chosen: the features, ascending; None: all.
    """

    dictionary: Dictionary
    chosen: tuple[int, ...] | None
    kind: UnitKind = field(default="feature", init=False)
    _way: Applied | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        header = self.dictionary.header
        wrong = [index for index in self.chosen or () if index >= header.features]
        if wrong:
            raise ScopeError(
                f"there is no feature {wrong[0]}: {self.dictionary} has {header.features}",
                f"0 to {header.features - 1}",
            )
        self.place = str(header.reads)
        self.indices = range(header.features) if self.chosen is None else self.chosen

    @property
    def whole(self) -> bool:
        """Whether it reads more of a pass than the residual stream."""
        kinds = {self.dictionary.header.reads.kind, self.dictionary.header.writes.kind}
        return not kinds <= set(STREAMS) - {"resid_mid"}

    @property
    def group(self) -> UnitGroup:
        """What the index of a folder tells of it."""
        dictionary = self.dictionary
        return UnitGroup(
            *(self.kind, self.place, self.chosen, len(self.indices)),
            str(dictionary),
            dictionary.digest,
        )

    def label(self, index: int) -> str:
        """Return what the dictionary says of a feature; empty if nothing."""
        return self.dictionary.labels.get(index, "")

    def check(self, recording: Recording, verdicts: Verdicts) -> None:
        """Check that the dictionary fits the model, and decide how it is applied.

        Raises:
            ScopeError: it does not fit.
        """
        try:
            self._way = applied(self.dictionary, recording)
        except Misfit as finding:
            raise ScopeError(
                f"{self.dictionary} does not fit the model: {finding}", "a dictionary of this model"
            ) from None

    @torch.no_grad()
    def entries(self, recording: Recording) -> Entries:
        """Return the features that are active, at all tokens of a prompt."""
        assert self._way is not None
        inputs, ids = self._way.inputs(recording, range(len(recording))), self.chosen
        tokens, units, values = [], [], []
        size = max(1, BLOCK // self.dictionary.header.features)
        for start in range(0, len(inputs), size):
            dense = self.dictionary.activations(inputs[start : start + size], ids).float()
            at = dense.nonzero()
            tokens.append(at[:, 0] + start)
            units.append(at[:, 1])
            values.append(dense[at[:, 0], at[:, 1]])
        arrays = [torch.cat(parts).cpu().numpy() for parts in (tokens, units, values)]
        return Entries(arrays[0], arrays[1], arrays[2], len(self.indices))


@dataclass
class NeuronSource(UnitSource):
    """Neurons of a layer's MLP: the input of its down projection. They count at each token."""

    layer: int
    indices: tuple[int, ...]
    kind: UnitKind = field(default="neuron", init=False)

    def __post_init__(self) -> None:
        self.place = neuron(self.layer, 0).place

    def check(self, recording: Recording, verdicts: Verdicts) -> None:
        """Check that the layer has these neurons.

        Raises:
            ScopeError: it has not, or their activations cannot be trusted.
        """
        count = _check_readable(recording, self.layer, lambda: self._first(recording)).shape[-1]
        _check_verdict(verdicts, "activations", self.layer, "neurons")
        _check_count("neuron", self.layer, self.indices, count)

    def entries(self, recording: Recording) -> Entries:
        """Return the activations of the neurons, at all tokens of a prompt."""
        if recording.model.anatomy.layers[self.layer].neurons is None:
            values = self._whole(recording)[:, list(self.indices)]
        else:  # 0 where the expert did not run
            numbers = torch.tensor(self.indices, device=recording.model.device)
            values = neuron_columns(recording, self.layer, numbers).nan_to_num(0.0)
        return Entries.of_all(values.float().cpu().numpy())

    def _first(self, recording: Recording) -> Tensor:
        """Return the activations of all neurons at the first token. [1, neuron]"""
        if recording.model.anatomy.layers[self.layer].neurons is not None:
            return activations(recording, self.layer, range(1))
        return tensor_at(recording, Place(self.layer, "mlp_act"), range(1))

    def _whole(self, recording: Recording) -> Tensor:
        return tensor_at(recording, Place(self.layer, "mlp_act"), range(len(recording)))


@dataclass
class HeadSource(UnitSource):
    """Heads of a layer, each by the norm of what it writes to the stream, at each token.

    A head's write is its output times its rows of the output projection, without the bias, times
    the model's factor for writes if it has one, and before any norm that follows the projection.
    """

    layer: int
    indices: tuple[int, ...]
    kind: UnitKind = field(default="head", init=False)
    _rows: Tensor | None = field(default=None, init=False)  # [head, head width, width]

    def __post_init__(self) -> None:
        self.place = head(self.layer, 0).place

    def check(self, recording: Recording, verdicts: Verdicts) -> None:
        """Check that the layer has these heads, and read what they are multiplied by.

        Raises:
            ScopeError: it has not, or their outputs cannot be trusted.
        """
        first = _check_readable(recording, self.layer, lambda: self._outputs(recording, range(1)))
        _check_verdict(verdicts, "patterns", self.layer, "heads")
        _check_count("head", self.layer, self.indices, first.shape[1])
        layer = recording.model.anatomy.layers[self.layer]
        if layer.heads_norm is not None:
            raise ScopeError(
                f"the heads of layer {self.layer} share a norm: none has a write of its own",
                "neurons or features",
            )
        with torch.no_grad():
            rows = [_head_rows(layer, first, index) for index in self.indices]
        self._rows = torch.stack(rows) * layer.scale("attention_write")

    @torch.no_grad()
    def entries(self, recording: Recording) -> Entries:
        """Return the norms of the heads' writes, at all tokens of a prompt."""
        assert self._rows is not None
        outputs = self._outputs(recording, range(len(recording)))[:, list(self.indices)]
        writes = outputs.float().transpose(0, 1) @ self._rows  # [head, token, width]
        return Entries.of_all(np.ascontiguousarray(writes.norm(dim=-1).T.cpu().numpy()))

    def _outputs(self, recording: Recording, rows: range) -> Tensor:
        if recording.model.anatomy.layers[self.layer].attention_out is None:
            raise NoPlace(f"layer {self.layer} has no heads that were found")
        return head_outputs(recording, self.layer, rows)


def _head_rows(layer: Layer, outputs: Tensor, head: int) -> Tensor:
    """Return a head's rows of the output projection, in float32. [head width, width]

    Args:
        layer: the layer.
        outputs: of its heads at some token, for their sizes and type. [row, head, head width]
        head: the head.
    """
    _, heads, width = outputs.shape
    project, rows = layer.attention_out, slice(head * width, (head + 1) * width)
    weight = getattr(project, "weight", None)
    # Other kinds are packed, on another device or adapted: what they do is measured.
    if type(project) in (nn.Linear, Conv1D) and isinstance(weight, Tensor) and not weight.is_meta:
        return (weight[rows] if type(project) is Conv1D else weight[:, rows].T).float()
    probe = outputs.new_zeros(width, heads, width)
    probe[:, head] = torch.eye(width, dtype=outputs.dtype, device=outputs.device)
    bias = layer.projected(outputs.new_zeros(1, heads * width)).float()
    return layer.projected(probe.flatten(1)).float() - bias


def _check_readable(recording: Recording, layer: int, read: Callable[[], Tensor]) -> Tensor:
    """Return what is read of a layer.

    Raises:
        ScopeError: the model has no such layer, or the layer no such part.
    """
    if layer >= recording.layers:
        raise ScopeError(
            f"there is no layer {layer}: the model has {recording.layers}",
            f"0 to {recording.layers - 1}",
        )
    try:
        return read()
    except ValueError as finding:  # NoPlace is one too
        raise ScopeError(f"layer {layer}: {finding}", "another layer") from None


def _check_verdict(verdicts: Verdicts, capability: str, layer: int, what: str) -> None:
    verdict = verdicts(capability, layer)
    if verdict.status == "refused":
        raise ScopeError(
            f"the {what} of layer {layer} cannot be read: {verdict.reason}", "another layer"
        )


def _check_count(kind: UnitKind, layer: int, indices: Sequence[int], count: int) -> None:
    if indices[-1] >= count:
        raise ScopeError(
            f"there is no {kind} {layer}.{indices[-1]}: the layer has {count}",
            f"{layer}.0 to {layer}.{count - 1}",
        )


def check_places(sources: Sequence[UnitSource]) -> None:
    """Check that no two sources are of one place, whose examples would be in one file.

    Raises:
        ScopeError: two are.
    """
    places = [source.place for source in sources]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise ScopeError(f"two dictionaries are for {twice}", "one of them at a time")
