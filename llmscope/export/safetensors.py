"""safetensors: the arrays of figures, and a JSON sidecar with everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from llmscope.export.json import json_text
from llmscope.export.split import halves
from llmscope.figure import Figure


def safetensors_bytes(figures: Sequence[Figure]) -> bytes:
    """Return a safetensors file with `values` and each numeric array of `extra`, types unchanged.

    Each name starts with the index and the lens: `0.tokens.values`. A figure's values are float32,
    ids int64. Missing values are NaN.
    """
    arrays = {
        f"{place}.{figure.lens}.{name}": np.asarray(array, order="C")
        for place, figure in enumerate(figures)
        for name, array in halves(figure, scalars=False)[0].items()
    }
    return bytes(save(arrays))


@dataclass(frozen=True)
class FilePair:
    """Two files that belong together: the arrays, and everything else as JSON."""

    tensors: bytes
    sidecar: str

    def at(self, path: Path) -> dict[Path, str | bytes]:
        """Return the content of each file by path, for `write_all`."""
        return {path: self.tensors, sidecar_path(path): self.sidecar}


def pair(figures: Sequence[Figure], about: Mapping[str, Any] | None = None) -> FilePair:
    """Return the arrays of figures, and a sidecar that contains their SHA-256 digest.

    The digest shows whether two files belong together or were written by different commands.

    Args:
        figures: the figures.
        about: the metadata of a snapshot; None for none.
    """
    data = safetensors_bytes(figures)
    records = [halves(figure, scalars=False)[1] for figure in figures]
    tensors = {"sha256": hashlib.sha256(data).hexdigest()}
    return FilePair(data, json_text({**(about or {}), "tensors": tensors, "figures": records}))


def sidecar_path(path: Path) -> Path:
    """Return the path of a file's sidecar: the suffix `.safetensors` replaced by `.json`."""
    if path.suffix.lower() == ".safetensors":
        return path.with_suffix(".json")
    return path.with_name(f"{path.name}.json")
