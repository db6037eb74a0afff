"""A learned lens: an affine map of the residual stream at each layer into that of the last layer.

Jacobian lens: `J x`, where J is the mean Jacobian of the last stream by this one. Gurnee et al.
2026, "Verbalizable Representations Form a Global Workspace in Language Models".

Tuned lens: `x + W x + b`, trained so that the reading predicts the model's own distribution.
Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens".

Streams are counted as on the map: 0 is the embedding, `i + 1` the output of layer i. The maps are
those of raw activations: no norm is folded into a weight, and no weight is centred.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from llmscope.learned.lenses.held_out import HeldOut
from llmscope.models.model_names import alike
from llmscope.support.text import one_line

Kind = Literal["jacobian", "tuned"]
TITLES: dict[Kind, str] = {"jacobian": "Jacobian lens", "tuned": "Tuned lens"}


@dataclass(frozen=True, eq=False)
class AffineMap:
    """`weight x`, plus `x` and a bias for a tuned lens.

    Attributes:
        weight: [width, width], in the dtype of its file.
        bias: [width]; None adds none.
        adds: whether x itself is added.
    """

    weight: Tensor
    bias: Tensor | None = None
    adds: bool = False

    def __call__(self, streams: Tensor) -> Tensor:
        """Return the mapped streams, in float32 or wider. `[..., width] -> [..., width]`"""
        dtype = torch.promote_types(streams.dtype, torch.float32)
        exact = streams.to(dtype)
        mapped = exact @ self.weight.to(dtype).T
        if self.adds:
            mapped = mapped + exact
        return mapped if self.bias is None else mapped + self.bias.to(dtype)

    def back(self, direction: Tensor) -> Tensor:
        """Return the transposed linear part times a direction, in float32. `[width] -> [width]`"""
        exact = direction.float()
        mapped = exact @ self.weight.float()
        return mapped + exact if self.adds else mapped

    def to(self, device: torch.device) -> AffineMap:
        """Return the map on a device: in float32 on a CPU, which is slow in narrower types."""
        dtype = torch.float32 if device.type == "cpu" else self.weight.dtype
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, weight=self.weight.to(device, dtype), bias=bias)


@dataclass(frozen=True, eq=False)
class LearnedLens:
    """A lens that was fitted for one model. Compared by identity.

    Attributes:
        kind: jacobian or tuned.
        maps: the map of each stream that has one.
        width: the width of the streams.
        layers: the number of the model's layers; None if the file does not tell.
        about: what is known of the fit, as JSON types: model_name, model_revision, n_prompts, …
        source: where it was read from, as the user named it; empty for one in memory.
        digest: of its matrices, under which measurements are kept; empty: not known yet.
        held_out: how well it reads held-out text; None if that was not measured.
        state: the serial of the model's state for which that holds; 0: as it was loaded.
    """

    kind: Kind
    maps: Mapping[int, AffineMap]
    width: int
    layers: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    digest: str = ""
    held_out: HeldOut | None = None
    state: int = 0
    _placed: dict[tuple[int, torch.device], AffineMap] = field(
        default_factory=dict, init=False, repr=False
    )

    def __str__(self) -> str:
        return self.source or f"{self.title} in memory"

    @property
    def title(self) -> str:
        """The name of its kind."""
        return TITLES[self.kind]

    @property
    def model(self) -> str:
        """The name of the model that it was fitted for; empty if unknown."""
        return str(self.about.get("model_name") or "")

    def map_at(self, stream: int, device: torch.device) -> AffineMap | None:
        """Return the map of a stream on a device, converted once; None if it has none."""
        stream_map = self.maps.get(stream)
        if stream_map is None:
            return None
        key = stream, device
        if key not in self._placed:
            self._placed[key] = stream_map.to(device)
        return self._placed[key]

    def __call__(self, streams: Tensor, at: Sequence[int]) -> Tensor:
        """Map streams to the basis of the last one; those without a map stay as they are.

        Args:
            streams: [row, width]
            at: which stream of the model each row is.
        """
        mapped = streams.to(torch.promote_types(streams.dtype, torch.float32), copy=True)
        for stream in sorted(set(at)):
            stream_map = self.map_at(stream, streams.device)
            if stream_map is not None:
                rows = [row for row, its in enumerate(at) if its == stream]
                mapped[rows] = stream_map(streams[rows])
        if streams.dtype == torch.float16:  # the final norm ignores the size of a stream
            largest = mapped.abs().amax(-1, keepdim=True)
            mapped = mapped * (LARGEST_HALF / largest).clamp(max=1)
        return mapped.to(streams.dtype)

    def shifted(self) -> LearnedLens:
        """Return the same lens with the maps of other layers: each half of the layers away.

        A lens with one map gets its transpose, as there is no other layer.
        """
        places = sorted(self.maps)
        if len(places) == 1:
            only = self.maps[places[0]]
            turned = replace(only, weight=only.weight.T)
            return replace(self, maps={places[0]: turned}, held_out=None, digest="")
        half = max(1, len(places) // 2)
        others = {
            place: self.maps[places[(index + half) % len(places)]]
            for index, place in enumerate(places)
        }
        return replace(self, maps=others, held_out=None, digest="")

    def misfit(self, *, layers: int, width: int, names: Sequence[str], revision: str | None) -> str:
        """Return why the lens does not fit a model; "" if it may fit.

        Args:
            layers: the number of the model's layers.
            width: the width of its streams.
            names: the names that the model goes by.
            revision: its commit on the hub; None if unknown.
        """
        if self.width != width:
            return f"the lens is for streams of width {self.width}, and the model's have {width}"
        if self.layers is not None and self.layers != layers:
            return f"the lens is for {self.layers} layers, and the model has {layers}"
        last = max(self.maps) - 1 if self.kind == "jacobian" else max(self.maps)
        if last >= layers - (self.kind == "jacobian"):
            return f"the lens has a matrix for layer {last}, and the model has {layers} layers"
        target = self.about.get("target_layer")
        if target is not None and target not in (layers - 1, -1):
            return (
                f"the lens maps to layer {one_line(str(target))}, and the model's last is "
                f"{layers - 1}"
            )
        if target is None and self.layers is None and last != layers - 2:
            return (
                f"the lens ends at layer {last}, so its model has {last + 2} layers, and this one "
                f"has {layers}"
            )
        basis = self.about.get("processing")
        if isinstance(basis, Mapping) and basis.get("weight_basis", RAW) != RAW:
            return f"the lens is for other activations: {one_line(str(basis.get('weight_basis')))}"
        if self.model and not any(alike(self.model, name) for name in names):
            return f"the lens is for the model {one_line(self.model)}"
        theirs = str(self.about.get("model_revision") or self.about.get("model_digest") or "")
        if theirs and revision and theirs != revision and _comparable(theirs, revision):
            return (
                f"the lens is for revision {one_line(theirs)} of the model, and this one is "
                f"{one_line(revision)}"
            )
        return ""


LARGEST_HALF = 60_000.0
"""A little less than the largest number of half precision."""
RAW = "raw_huggingface"
"""How published lenses name the activations of transformers' own model."""
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def _comparable(first: str, other: str) -> bool:
    """Return whether both revisions are commits, or digests, or neither: a branch is no commit."""

    def form(revision: str) -> int:
        return len(revision) if _DIGEST.fullmatch(revision) else 0

    return form(first) == form(other)
