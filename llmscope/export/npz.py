"""NPZ: the arrays of figures, for numpy."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmscope.export.edits_caption import PLAIN, EditsCaption
from llmscope.export.json import json_text
from llmscope.export.split import halves
from llmscope.figure import Figure


def npz_bytes(
    figures: Sequence[Figure], whatif: EditsCaption = PLAIN, about: Mapping[str, Any] | None = None
) -> bytes:
    """Return an npz file with `values`, each numeric array of `extra`, and the rest as `figure`.

    `figure` is JSON. With several figures each name starts with the index and the lens:
    `0.tokens.values`. An edited pass adds `edits`. `snapshot` and `provenance` hold the metadata
    `about` of a snapshot as JSON, unless it is None.
    """
    arrays: dict[str, Any] = {}
    if whatif.edits:
        arrays["edits"] = np.array(whatif.edits)
    if about is not None:
        rest = {key: value for key, value in about.items() if key != "provenance"}
        arrays["snapshot"] = np.array(json_text(rest))
        if "provenance" in about:
            arrays["provenance"] = np.array(json_text(about["provenance"]))
    for place, figure in enumerate(figures):
        prefix = f"{place}.{figure.lens}." if len(figures) > 1 else ""
        figure_arrays, record = halves(figure, scalars=True)
        arrays |= {f"{prefix}{name}": array for name, array in figure_arrays.items()}
        arrays[f"{prefix}figure"] = np.array(json_text(record))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
