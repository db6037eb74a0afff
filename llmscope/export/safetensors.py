"""safetensors: the arrays of figures, and a JSON sidecar with all else."""

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
    """`values` and every array of numbers of `extra`, in the type that they are computed in.

    Each name starts with the place and the lens: `0.tokens.values`. A figure's values are float32,
    ids int64. NaN stands where there is no value.
    """
    arrays = {
        f"{place}.{figure.lens}.{name}": np.asarray(array, order="C")
        for place, figure in enumerate(figures)
        for name, array in halves(figure, scalars=False)[0].items()
    }
    return bytes(save(arrays))


@dataclass(frozen=True)
class FilePair:
    """Two files that belong together: the arrays, and all else as JSON."""

    tensors: bytes
    sidecar: str

    def at(self, path: Path) -> dict[Path, str | bytes]:
        """The content of each file, for `write_all`."""
        return {path: self.tensors, sidecar_path(path): self.sidecar}


def pair(figures: Sequence[Figure], about: Mapping[str, Any] | None = None) -> FilePair:
    """Figures as arrays, and a sidecar that names their digest.

    By the digest a pair is told from two files that different commands wrote.

    Args:
        about: what a snapshot says beside its figures.
    """
    data = safetensors_bytes(figures)
    records = [halves(figure, scalars=False)[1] for figure in figures]
    tensors = {"sha256": hashlib.sha256(data).hexdigest()}
    return FilePair(data, json_text({**(about or {}), "tensors": tensors, "figures": records}))


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a file stands: beside it, `.json` in the place of `.safetensors`."""
    if path.suffix.lower() == ".safetensors":
        return path.with_suffix(".json")
    return path.with_name(f"{path.name}.json")
