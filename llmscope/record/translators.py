"""Translators of a tuned lens, read from the folder that its training wrote.

The folder holds `config.json` and `params.pt`, as the package tuned-lens saves them: for the
stream before each layer a matrix and a bias, `stream + W stream + b`, so that the last layer's
language is spoken earlier. Belrose et al. 2023, "Eliciting Latent Predictions from Transformers
with the Tuned Lens".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.text import told

CONFIG, PARAMETERS = "config.json", "params.pt"


@dataclass(frozen=True, eq=False)
class Translators:
    """One translator for the stream before each layer; the last stream needs none.

    Attributes:
        base: the name of the model that they were trained for, if it is known.
        weights: [width, width] each.
        biases: [width] each; zero where they were trained without.
    """

    base: str
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __call__(self, streams: Tensor, layers: Sequence[int]) -> Tensor:
        """Streams before these layers in the language of the last one. [row, width]

        Args:
            layers: of each row; the number of layers for the stream after the last one.
        """
        translated = streams.clone()
        for layer in sorted(set(layers) - {len(self.weights)}):
            rows = [row for row, its in enumerate(layers) if its == layer]
            weight, bias = self.weights[layer].to(streams), self.biases[layer].to(streams)
            translated[rows] += streams[rows] @ weight.T + bias
        return translated

    def misfit(self, layers: int, width: int) -> str:
        """Why they belong to another model; empty if nothing speaks against it."""
        own = len(self.weights), self.weights[0].shape[0]
        if own == (layers, width):
            return ""
        return (
            f"the translators are for {own[0]} layers of width {own[1]}, "
            f"and the model has {layers} of width {width}"
        )


def translators(folder: str) -> Translators:
    """The translators in a folder, read again once the file has changed.

    Raises:
        ScopeError: there are none, or they cannot be read.
    """
    file = Path(folder) / PARAMETERS
    if not file.is_file():
        raise ScopeError(
            f"{folder} has no {PARAMETERS}",
            f"a folder with {CONFIG} and {PARAMETERS} of tuned-lens",
        )
    return _read(folder, file.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(folder: str, changed: int) -> Translators:
    try:
        config = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        # Weights alone: a pickle of anything else is refused by torch, and nothing in it runs.
        state = torch.load(Path(folder) / PARAMETERS, map_location="cpu", weights_only=True)
        count, width = int(config["num_hidden_layers"]), int(config["d_model"])
        weights = tuple(state[f"{layer}.weight"] for layer in range(count))
        biases = tuple(state.get(f"{layer}.bias", torch.zeros(width)) for layer in range(count))
        fits = all(part.shape == (width, width) for part in weights)
        if not fits or not all(part.shape == (width,) for part in biases) or not count:
            raise ValueError("their shapes are not those that config.json says")
    except Exception as error:  # whatever a file that is none of theirs makes json and torch say
        raise ScopeError(
            f"the translators in {folder} cannot be read: {told(error)}",
            "a folder that TunedLens.save of tuned-lens wrote",
        ) from error
    return Translators(str(config.get("base_model_name_or_path") or ""), weights, biases)
