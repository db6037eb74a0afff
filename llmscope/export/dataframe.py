"""Convert a figure to tidy (long) form, one row per value, for data frames."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.errors import ScopeError
from llmscope.figure import Figure

if TYPE_CHECKING:
    import pandas as pandas_types
    import polars as polars_types
    import xarray as xarray_types

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


def _free(name: str, columns: dict[str, Any]) -> str:
    count, free = 1, name
    while free in columns or free == VALUE:
        count += 1
        free = f"{name}_{count}"
    return free


def data_frame(figure: Figure) -> pandas_types.DataFrame:
    """Return the columns of `tidy` as a data frame, with lens, title, unit and verdict in `attrs`.

    Raises:
        ScopeError: pandas is not installed.
    """
    pandas: Any = _import_library("pandas", "a data frame")
    frame: pandas_types.DataFrame = pandas.DataFrame(tidy(figure))
    frame.attrs |= _facts(figure)
    return frame


def polars_frame(figure: Figure) -> polars_types.DataFrame:
    """Return the columns of `tidy` as a data frame of polars, which holds no facts beside them.

    Raises:
        ScopeError: polars is not installed.
    """
    polars: Any = _import_library("polars", "a data frame of polars")
    frame: polars_types.DataFrame = polars.DataFrame(tidy(figure))
    return frame


def data_array(figure: Figure) -> xarray_types.DataArray:
    """Return the values as an array with named dimensions.

    Each axis is a dimension; the coordinate of its name holds positions, `NAME_label` labels.
    `attrs` holds lens, title, unit and verdict.

    Raises:
        ScopeError: xarray is not installed, or the figure is refused.
    """
    xarray: Any = _import_library("xarray", "an array with named dimensions")
    if figure.verdict.status == "refused":
        raise ScopeError(f"{figure.lens} is refused: {figure.verdict.reason}")
    names: list[str] = []
    coords: dict[str, Any] = {}
    for axis in figure.axes:
        name = _free(axis.name, coords)
        names.append(name)
        coords[name] = axis.start + np.arange(len(axis)) * axis.step
        coords[f"{name}_label"] = (name, list(axis.labels))
    array: xarray_types.DataArray = xarray.DataArray(
        figure.values.copy(), dims=names, coords=coords, name=figure.lens, attrs=_facts(figure)
    )
    return array


def _facts(figure: Figure) -> dict[str, str]:
    verdict = figure.verdict
    return {
        "lens": figure.lens,
        "title": figure.title,
        "unit": figure.unit,
        "verdict": verdict.status,
        "reason": verdict.reason,
    }


def _import_library(name: str, what: str) -> Any:
    """Import a library.

    Raises:
        ScopeError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ScopeError(
            f"{what} needs {name}, which is not installed",
            f"pip install {name}, or Figure.tidy() for plain columns",
        ) from None
