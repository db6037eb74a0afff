"""Split a figure into its arrays and a JSON record of everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Figure

VALUES = "values"


def halves(figure: Figure, *, scalars: bool) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of a figure by name, `values` first, and its record without them.

    Args:
        figure: the figure.
        scalars: treat single numbers in `extra` as arrays too.
    """
    arrays: dict[str, NDArray[Any]] = {VALUES: figure.values}
    rest: dict[str, Any] = {}
    for key, value in figure.extra.items():
        array = None if isinstance(value, str | Mapping) else _numeric(value)
        if array is not None and (scalars or array.ndim) and str(key) != VALUES:
            arrays[str(key)] = array
        else:
            rest[key] = value
    record = replace(figure, extra=rest).to_dict(values=False)
    return arrays, record


def _numeric(value: Any) -> NDArray[Any] | None:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        return None
    return array if array.dtype.kind in "biuf" else None
