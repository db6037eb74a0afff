"""Turn figures into columns: each cell is a row, and the axes say where it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import LAYER_HEAD, Axis, Figure
from llmscope.figure.tables.column import Column

WORD, CONTINUATION, NUMBER, PUNCTUATION, SPACE, SPECIAL, OTHER = (
    *("word", "continuation", "number", "punctuation", "space", "special", "other"),
)
"""Classes of tokens: see `token_classes`."""

Read = Callable[[Axis, NDArray[np.intp]], NDArray[Any]]
"""Returns the values of a column at some indices of an axis."""
_NUMBERED = (
    *("layer", "head", "neuron", "feature", "dimension", "expert", "examples", "row", "column"),
)
"""Axes whose labels are numbers."""
_HELP = {
    "part": "attention, MLP or another part",
    "matrix": "weight matrix",
    "prefix": "what the context ends with there",
    "divergence": "KL(A‖B) or KL(B‖A)",
    "what": "which likeness",
    "prompt": "A or B",
    "component": "head, attention or MLP",
    "direction": "singular direction of a matrix",
    "reconstruction": "dictionary, or chance",
    "lens": "which lens",
    "model": "A or B",
    "example": "text around the token, which is in ‹›",
    "step": "name of the step",
    "statistic": "mean, std, min, max or norm",
}
"""What axes of labels hold."""
_DIGITS = re.compile(r"\d+([.,:]\d+)*|[.,:]\d+")


def axis_columns(names: Sequence[str], own_names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns that axes give.

    Args:
        names: the names of the axes.
        own_names: the names of the columns that the lens declares.
    """
    return tuple(column for name in names for column, _ in _of_axis(name, own_names))


def _of_axis(name: str, own_names: Sequence[str]) -> Iterator[tuple[Column, Read]]:
    """Yield the columns of an axis, each with what returns its values.

    Args:
        name: the name of the axis; an axis of one may have none, and gives no column.
        own_names: the names of the columns that the lens declares.
    """
    if name == LAYER_HEAD:
        for place, part in enumerate(("layer", "head")):
            yield Column(part, "int32", "key", f"{part}, from 0"), partial(_numbers_at, place)
    elif name == "token":
        yield Column("rank", "int32", "key", "place among the candidates, from 1"), _ranks
        yield Column("token", "string", "label", "the candidate"), _labels
    elif name in ("position", "query", "key"):
        yield Column(name, "int32", "key", "token of the prompt, from 0"), _positions
        yield Column(_text_of(name, own_names), "string", "label", f"text at that {name}"), _labels
    elif name in _NUMBERED:
        embedding = "; −1 is the embedding" if name == "layer" else ""
        yield Column(name, "int32", "key", f"{name}, from 0{embedding}"), partial(_numbers_at, 0)
    elif name:
        yield Column(_plain(name), "string", "key", _HELP.get(name, name)), _labels


def _text_of(axis: str, own_names: Sequence[str]) -> str:
    """Return the name of the column with the texts of a token axis."""
    if axis != "position":
        return f"{axis}_token"
    return "prompt_token" if "token" in own_names else "token"


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "axis"


def rows(figure: Figure, columns: Sequence[Column]) -> dict[str, Any]:
    """Return the columns of a figure by name, all of one length: arrays, or lists of texts.

    Cells that were not computed have no row: those whose numbers are all NaN.

    Args:
        figure: a figure that is not refused.
        columns: the lens's columns for the figure's mode.
    """
    shape = figure.values.shape
    is_row = _cells_with_row(figure, columns)
    places = np.flatnonzero(is_row.reshape(-1))
    columns_read: dict[str, Any] = {}
    names = [column.name for column in columns]
    for at, axis in enumerate(figure.axes):
        index = np.unravel_index(places, shape)[at] if shape else places
        for column, read in _of_axis(axis.name, names):
            columns_read[column.name] = read(axis, index)
    for column in columns:
        assert column.of is not None
        columns_read[column.name] = _values(column.of(figure), column, shape, places)
    return columns_read


def _cells_with_row(figure: Figure, columns: Sequence[Column]) -> NDArray[np.bool_]:
    """Return which cells have a row: those with a number in any column that varies."""
    known = np.zeros(figure.values.shape, bool)
    for column in columns:
        values = column.of(figure) if column.of is not None else None
        if column.type == "float32" and isinstance(values, np.ndarray) and values.ndim:
            known |= np.broadcast_to(~np.isnan(values), known.shape)
    return known


def _ranks(axis: Axis, index: NDArray[np.intp]) -> NDArray[Any]:
    return index + 1


def _positions(axis: Axis, index: NDArray[np.intp]) -> NDArray[Any]:
    return axis.start + index * axis.step


def _numbers_at(place: int, axis: Axis, index: NDArray[np.intp]) -> NDArray[Any]:
    """Return a number of each label, by its place there; −1 for the embedding, or without one."""
    numbers = (re.findall(r"\d+", label) for label in axis.labels)
    return np.array([int(place_of[place]) if place_of else -1 for place_of in numbers], np.int64)[
        index
    ]


def _labels(axis: Axis, index: NDArray[np.intp]) -> NDArray[Any]:
    texts = np.empty(len(axis.labels), dtype=object)
    texts[:] = [plain_text(label) for label in axis.labels]
    return np.asarray(texts[index])


def plain_text(word: str) -> str:
    r"""Return a text that is valid Unicode: lone surrogates become `\udc80`."""
    return word.encode("utf-8", "backslashreplace").decode("utf-8")


def _values(
    content: Any, column: Column, shape: tuple[int, ...], places: NDArray[np.intp]
) -> NDArray[Any] | list[Any]:
    """Return a column's values at some cells."""
    if column.type == "string":
        if content is None or isinstance(content, str):
            return [content if content is None else plain_text(content)] * len(places)
        texts = np.empty(len(content), dtype=object)
        texts[:] = [plain_text(item) for item in content]
        whole = texts.size == math.prod(shape)
        array = texts.reshape(shape) if whole else np.broadcast_to(texts, shape)
        at_places: NDArray[Any] = array.reshape(-1)[places]
        return at_places
    if content is None:
        return [None] * len(places)
    array = np.broadcast_to(np.asarray(content), shape)
    chosen: NDArray[Any] = array.reshape(-1)[places]
    return chosen


def texts_of_ids(ids: NDArray[np.integer[Any]], names: Mapping[int, str]) -> list[str]:
    """Return the texts of ids, in the order of `ids.ravel()`; empty for ids without a name."""
    return [names.get(token, "") for token in ids.ravel().tolist()]


def token_classes(labels: Sequence[str], special: Sequence[bool]) -> list[str]:
    """Return the class of each token of a prompt.

    `word`: letters that begin a word; `continuation`: letters that go on one; `number`;
    `punctuation`: neither letters nor digits; `space`; `special`: a token that is no text;
    `other`: all else, such as letters with digits.

    Args:
        labels: the texts of the tokens.
        special: whether each is special.
    """
    classes, before = [], ""
    for word, control in zip(labels, special, strict=True):
        bare = word.strip()
        letters = bare.replace("'", "").replace("’", "").replace("-", "")
        if control:
            kind = SPECIAL
        elif not bare:
            kind = SPACE
        elif _DIGITS.fullmatch(bare):
            kind = NUMBER
        elif letters.isalpha():
            inside = not word[0].isspace() and before[-1:].isalpha()
            kind = CONTINUATION if inside else WORD
        elif not any(char.isalnum() for char in bare):
            kind = PUNCTUATION
        else:
            kind = OTHER
        classes.append(kind)
        before = "" if control else word
    return classes
