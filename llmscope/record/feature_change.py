"""Changes along a feature of a dictionary, computed from the tensor that it reads in the same pass.

    new = old + (f' - f) · row        f = encode(x), f' = 0, factor · f, or a number

`row` is the feature's decoder row. What the dictionary does not reconstruct stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError
from llmscope.learned.dictionaries.dictionary import Dictionary
from llmscope.learned.dictionaries.place import Place
from llmscope.record.norms import NormParts
from llmscope.record.sites import Site


@dataclass(frozen=True)
class SeenTensor:
    """A tensor that passed a site, of the rows of a change.

    Attributes:
        rows: [row, column]
        inputs: for a norm's output, the norm's inputs. [row, width]
    """

    rows: Tensor
    inputs: Tensor | None = None


@dataclass(frozen=True, eq=False)
class LiveNorm:
    """The norm before an MLP, as `ln2.hook_normalized` of TransformerLens needs it.

    Attributes:
        module: the norm.
        parts: its gain, its bias, and whether it subtracts the mean.
    """

    module: nn.Module
    parts: NormParts

    def normed(self, seen: SeenTensor, entry: Tensor) -> Tensor:
        """Return the norm's output before gain and bias, in float32. [row, width]

        Args:
            seen: what passed the norm.
            entry: what the MLP reads, which earlier edits may have changed since.
        """
        assert seen.inputs is not None
        inputs, outputs = exact(seen.inputs), exact(seen.rows)
        gain, bias = self.parts.gain.to(inputs), self.parts.bias.to(inputs)
        centred = inputs - inputs.mean(-1, keepdim=True) if self.parts.centred else inputs
        before = gain * centred
        scale = ((outputs - bias) * before).sum(-1) / before.square().sum(-1)
        edited = (exact(entry) - outputs) / torch.where(gain == 0, torch.inf, gain)
        return (scale[:, None] * centred + edited).float()


def exact(tensor: Tensor) -> Tensor:
    """Convert to float64 where the device has it, else to float32."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


@dataclass(frozen=True, eq=False)
class LivePlace:
    """How a tensor that a dictionary reads or writes is computed and changed in a running pass.

    Attributes:
        place: which tensor.
        sites: the sites, each with its layer, from which the tensor is computed, in the order of
            the pass. A change of the tensor is made at the last one.
        columns: the columns of the last site that the tensor consists of.
        scale: the factor by which the model multiplies the last site's value before it adds it to
            the stream.
        norm: the norm before the MLP for the place `mlp_normed`; None for other places.
    """

    place: Place
    sites: tuple[tuple[Site, int], ...]
    columns: slice = field(default_factory=lambda: slice(None))
    scale: float = 1.0
    norm: LiveNorm | None = None

    def value(self, seen: Mapping[Site, SeenTensor], last: Tensor) -> Tensor:
        """Return the value of the tensor. [row, column]

        Args:
            seen: the tensors of the sites before the last one.
            last: the tensor of the last site, in `columns`. [row, column]
        """
        if self.norm is not None:
            return self.norm.normed(seen["norm"], last)
        scaled = last if self.scale == 1.0 else last * self.scale
        return seen["stream"].rows + scaled if self.place.kind == "resid_mid" else scaled

    def back(self, change: Tensor) -> Tensor:
        """Return by how much the last site must change for a change of the tensor. [row, column]"""
        if self.norm is not None:
            return change * self.norm.parts.gain.to(change)
        return change if self.scale == 1.0 else change / self.scale


@dataclass(frozen=True, eq=False)
class FeatureChange:
    """A change of a feature's activation, and with it of the tensor that its dictionary predicts.

    Exactly one of factor and value is set.

    Attributes:
        dictionary: with its weights on the model's device.
        feature: the index of the feature.
        reads, writes: the tensor that the dictionary reads, and the one that it predicts.
        centred: whether the mean over the width is subtracted from what it reads.
        factor: multiplies the activation.
        value: replaces the activation.
    """

    dictionary: Dictionary
    feature: int
    reads: LivePlace
    writes: LivePlace
    centred: bool
    factor: float | None = None
    value: float | None = None

    @property
    def before(self) -> tuple[tuple[Site, int], ...]:
        """The sites whose tensors have to be seen before one is changed."""
        if self.in_place:
            return self.writes.sites[:-1]
        return tuple(dict.fromkeys((*self.reads.sites, *self.writes.sites[:-1])))

    @property
    def in_place(self) -> bool:
        """Whether the dictionary predicts the tensor that it reads."""
        return self.reads.place == self.writes.place

    def same(self, other: FeatureChange | None) -> bool:
        """Return whether another change applies the same dictionary in the same way."""
        return (
            other is not None
            and self.dictionary is other.dictionary
            and self.centred == other.centred
        )

    def _activation_change(self, active: Tensor) -> Tensor:
        """Return the change of an activation."""
        if self.factor is not None:
            return self.factor * active - active
        assert self.value is not None
        return self.value - active

    def added(self, seen: Mapping[Site, SeenTensor], here: Tensor) -> Tensor:
        """Return what is added at the site that is changed, in float32. [row, column]

        Args:
            seen: what passed the sites of `before`.
            here: what is in its place. [row, column]

        Raises:
            ScopeError: the tensor that the dictionary reads did not pass before.
        """
        reads = self.reads
        try:
            last = here if self.in_place else seen[reads.sites[-1][0]].rows[:, reads.columns]
            seen_values = reads.value(seen, last)
        except KeyError:
            raise ScopeError(
                f"the {reads.place.title} is not computed before the {self.writes.place.title}",
                "another dictionary",
            ) from None
        if len(seen_values) != len(here):
            raise ScopeError(
                f"the {reads.place.title} has other rows than the {self.writes.place.title}",
                "another dictionary",
            )
        inputs = seen_values.float().to(self.dictionary.decoder.device)
        if self.centred:
            inputs = inputs - inputs.mean(-1, keepdim=True)
        ids = [self.feature]
        active = self.dictionary.activations(inputs, ids).float()  # [row, 1]
        moved = self.dictionary.written(ids, self._activation_change(active), inputs).float()
        return self.writes.back(moved.to(here.device))
