"""Tuned lens translators, loaded from the folder that their training wrote.

The folder holds `config.json` and `params.pt`, as the package tuned-lens saves them, or the same
tensors as `params.safetensors`, which needs no permission to unpickle. They are a matrix and a bias
for the stream before each layer, `stream + W stream + b`, which map it to the basis of the final
stream. Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.models.files.json_file import read_json
from llmscope.text import display_text, told

CONFIG, PARAMETERS, SAFE = "config.json", "params.pt", "params.safetensors"


@dataclass(frozen=True, eq=False)
class Translators:
    """One translator for the stream before each layer; the final stream needs no translator.

    Attributes:
        base: the name of the model that they were trained for; empty if unknown.
        weights: [width, width] each.
        biases: [width] each; zero where they were trained without biases.
    """

    base: str
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __call__(self, streams: Tensor, layers: Sequence[int]) -> Tensor:
        """Translate streams before these layers to the basis of the final stream. [row, width]

        Args:
            layers: the layer of each row; the number of layers for the stream after the last one.
        """
        translated = streams.clone()
        for layer in sorted(set(layers) - {len(self.weights)}):
            rows = [row for row, its in enumerate(layers) if its == layer]
            weight, bias = self.weights[layer].to(streams), self.biases[layer].to(streams)
            translated[rows] += streams[rows] @ weight.T + bias
        return translated

    def misfit(self, layers: int, width: int) -> str:
        """Return why they do not fit a model of this size; empty if they do."""
        own = len(self.weights), self.weights[0].shape[0]
        if own == (layers, width):
            return ""
        return (
            f"the translators are for {own[0]} layers of width {own[1]}, "
            f"and the model has {layers} of width {width}"
        )


def translators(folder: str, *, allow_pickle: bool = False) -> Translators:
    """Return the translators in a folder, cached until the file changes.

    Args:
        folder: a folder with config.json, and params.safetensors or params.pt.
        allow_pickle: also accept params.pt, a pickle of tensors.

    Raises:
        ScopeError: the folder has no translators that may be read, or reading them failed.
    """
    shown = display_text(folder)
    file = Path(folder) / SAFE
    if not file.is_file():
        file = Path(folder) / PARAMETERS
        if not file.is_file():
            raise ScopeError(
                f"{shown} has no {PARAMETERS}",
                f"a folder with {CONFIG} and {PARAMETERS} of tuned-lens",
            )
        if not allow_pickle:
            raise ScopeError(
                f"the translators in {shown} are pickled, and loading those can run any code",
                f"--allow-pickle, if you trust whoever made them, or the same as {SAFE}",
            )
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(file: Path, changed: int) -> Translators:
    try:
        config = read_json(file.parent / CONFIG)
        state = _state(file)
        count, width = int(config["num_hidden_layers"]), int(config["d_model"])
        if not 0 < count <= len(state):
            raise ValueError("they are not as many as config.json says")
        weights = tuple(state[f"{layer}.weight"] for layer in range(count))
        if not all(part.shape == (width, width) for part in weights):
            raise ValueError("their shapes are not those that config.json says")
        biases = tuple(state.get(f"{layer}.bias", torch.zeros(width)) for layer in range(count))
        if not all(part.shape == (width,) for part in biases):
            raise ValueError("their shapes are not those that config.json says")
    except Exception as error:  # json and torch may raise anything for a file of another kind
        raise ScopeError(
            f"the translators in {display_text(str(file.parent))} cannot be read: {told(error)}",
            "a folder that TunedLens.save of tuned-lens wrote",
        ) from error
    return Translators(str(config.get("base_model_name_or_path") or ""), weights, biases)


def _state(file: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a file by name."""
    if file.name == SAFE:
        from safetensors.torch import load_file

        found: Mapping[str, Tensor] = load_file(file)
        return found
    # `weights_only`: torch refuses a pickle of anything but tensors, and runs no code from it.
    state: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state
