"""Convert a figure to tidy (long) form, one row per value, for data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.errors import ScopeError
from llmscope.figure import Figure

if TYPE_CHECKING:
    import pandas

VALUE = "value"


def tidy(figure: Figure) -> dict[str, Any]:
    """Return the columns, all of the same length, in the order of `figure.values.ravel()`.

    Each axis gives two columns: its labels (str) under its name, and its indices (int64) under
    `NAME_index`, because two tokens may have the same label. The last column is `value` (float32),
    NaN if missing. A refused figure has no rows. A duplicate name gets a number: `token_2`.
    """
    refused = figure.verdict.status == "refused"
    values = figure.values.ravel()[: 0 if refused else None]
    places = np.indices(figure.values.shape).reshape(len(figure.axes), figure.values.size)
    columns: dict[str, Any] = {}
    for axis, place in zip(figure.axes, places, strict=True):
        name = _free(axis.name, columns)
        columns[name] = [axis.labels[index] for index in place]
        columns[_free(f"{name}_index", columns)] = axis.start + place.astype(np.int64) * axis.step
    columns[VALUE] = values.copy()  # the figure's own array is read-only
    return columns


def _free(name: str, taken: dict[str, Any]) -> str:
    count, free = 1, name
    while free in taken or free == VALUE:
        count += 1
        free = f"{name}_{count}"
    return free


def data_frame(figure: Figure) -> pandas.DataFrame:
    """Return the columns of `tidy` as a data frame, with lens, title, unit and verdict in `attrs`.

    Raises:
        ScopeError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ScopeError(
            "a data frame needs pandas, which is not installed",
            "pip install pandas, or Figure.tidy() for plain columns",
        ) from None
    frame = pandas.DataFrame(tidy(figure))
    verdict = figure.verdict
    frame.attrs |= {"lens": figure.lens, "title": figure.title, "unit": figure.unit}
    frame.attrs |= {"verdict": verdict.status, "reason": verdict.reason}
    return frame
