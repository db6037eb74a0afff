"""Figures as the data that `page.js` draws: plain JSON, texts sanitised, numbers exact."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.cells import plain_text
from llmscope.draw.grid.labels import PROMPT_AXES, TOKEN_AXES, axis_labels, prompt_texts
from llmscope.draw.kinds import kind_of
from llmscope.draw.numbers import column
from llmscope.draw.painters.walkthrough.values import visible_cell
from llmscope.draw.scale import ENDS, Scale, is_difference, largest_magnitude
from llmscope.draw.symbols import quoting_text
from llmscope.export.page.colors import colors_of
from llmscope.figure import Figure, Focus, Form
from llmscope.figure.cursor import focused_index
from llmscope.figure.kinds import text_in_place
from llmscope.support.numbers import percent

LONGEST_AXIS = 8_192
"""The most labels of an axis that the script draws; a browser's canvas holds 16,384 pixels."""
MOST_VALUES = 1 << 23
"""The most values of all figures of a page: 32 MB before they are compressed."""
MOST_DETAILS = 1 << 20
"""The most values of a figure whose further arrays are told beside them."""
NAMES = {"ids": "token id", "ranks": "rank", "logits": "logit", "top": "top probability"}
"""By name in `extra`: what an array beside the values is called in the line of a value."""
WIDTH = 8
"""Characters of a number beside a bar."""


def page_data(
    figures: Sequence[Figure],
    look: RenderOptions,
    focus: Focus | None = None,
    about: Mapping[str, Any] | None = None,
    *,
    scale: float = 1.0,
) -> dict[str, Any]:
    """Return what `page.js` draws of some figures, as JSON types.

    Args:
        figures: the figures.
        look: the render options, of which colours and characters are used.
        focus: where the cursor starts; None: at the last token.
        about: the metadata of a snapshot, for the tokens of the prompt; None: they are taken from a
            figure that shows all of them.
        scale: magnification of letters and cells.
    """
    focus = focus or Focus()
    tokens = _tokens(figures, about, look.ascii)
    place = focus.position + (len(tokens) if focus.position < 0 else 0)
    room, records = MOST_VALUES, []
    for figure in figures:
        room -= figure.values.size
        records.append(record := figure_data(figure, look, focus, fits=room >= 0))
        if "seen" in figure.extra and focus.cell is not None:  # a cell of a step: its own token
            along = [axis for axis in record.get("axes", ()) if axis["along"]]
            place = next(
                (slider["start"] + slider["at"] for slider in along if slider["at"] is not None),
                place,
            )
    return {
        "colors": colors_of(look),
        "scale": scale,
        "tokens": tokens,
        "cursor": min(max(place, 0), max(len(tokens) - 1, 0)),
        "figures": records,
    }


def figure_data(
    figure: Figure, look: RenderOptions, focus: Focus, *, fits: bool = True
) -> dict[str, Any]:
    """Return what `page.js` draws of one figure.

    Args:
        figure: the figure.
        look: the render options.
        focus: the indices that are selected at first.
        fits: whether its values fit on the page; otherwise only its picture is shown.
    """
    ascii_, verdict = look.ascii, figure.verdict
    record: dict[str, Any] = {
        "lens": plain_text(figure.lens, ascii_),
        "title": plain_text(figure.title, ascii_),
        "unit": plain_text(figure.unit, ascii_),
        "verdict": {
            "status": verdict.status,
            "reason": plain_text(verdict.reason, ascii_),
            "within": plain_text(verdict.within, ascii_),
        },
        "notes": [],
    }
    text = text_in_place(figure, digits=9)
    if text is not None:
        message = plain_text(text.rstrip() or verdict.status, ascii_)
        return record | {"draw": "message", "message": message}
    if any(len(axis) > LONGEST_AXIS for axis in figure.axes) or not fits:
        sizes = " × ".join(f"{axis.name} {len(axis):,}" for axis in figure.axes)
        return record | {"draw": "picture", "message": plain_text(sizes, ascii_)}
    notes = [quoting_text(str(line), ascii_) for line in figure.extra.get("caption", ())]
    infinite = int(np.isinf(figure.values).sum())
    if infinite:
        notes.append(f"{infinite} of the values are infinite")
    kind = kind_of(figure, focus)
    return {
        **record,
        "draw": figure.kind,
        "notes": notes,
        "axes": _axes(figure, focus, ascii_),
        "values": pack_numbers(figure.values, "<f4"),
        "details": _details(figure, ascii_),
        **BY_FORM[figure.kind](figure, look, kind.even),
        **(kind.page(figure, look) if kind.page is not None else {}),
    }


def pack_numbers(values: Any, dtype: str) -> dict[str, str]:
    """Return numbers as base64 of their compressed bytes, which keeps all of them exactly.

    Args:
        values: an array.
        dtype: `<f4` or `<f8`.
    """
    data = np.ascontiguousarray(np.asarray(values), dtype=dtype).tobytes()
    return {"type": dtype[1:], "data": b64encode(zlib.compress(data, 6)).decode("ascii")}


def _tokens(
    figures: Sequence[Figure],
    about: Mapping[str, Any] | None,
    ascii: bool,  # noqa: A002
) -> list[str]:
    """Return the prompt's tokens as they are shown; empty where no figure has them as an axis."""
    axes = [axis for figure in figures for axis in figure.axes if axis.name in PROMPT_AXES]
    if not axes:
        return []
    known = (about or {}).get("tokens") or ()
    special = next(
        (tuple(figure.extra["special"]) for figure in figures if "special" in figure.extra), ()
    )
    if known:
        return prompt_texts([str(token["text"]) for token in known], special, ascii)
    count = max(axis.stop for axis in axes)
    whole = next((axis for axis in axes if len(axis) == count and axis.start == 0), None)
    if whole is not None and count <= LONGEST_AXIS:
        return prompt_texts(whole.labels, special, ascii)
    return [str(place) for place in range(min(max(count, 0), LONGEST_AXIS))]


def _axes(figure: Figure, focus: Focus, ascii: bool) -> list[dict[str, Any]]:  # noqa: A002
    """Return the axes: `along` the tokens of the prompt or not, and `at`, what is selected."""
    at = [focused_index(axis, focus) for axis in figure.axes]
    if "seen" in figure.extra and focus.cell is not None and len(at) == 2:
        at = list(visible_cell(figure, focus.cell))
    return [
        {
            "name": plain_text(axis.name, ascii),
            "labels": axis_labels(figure, index, ascii),
            "start": axis.start,
            "step": axis.step,
            "along": axis.name in PROMPT_AXES,
            "quoted": axis.name in TOKEN_AXES,
            "at": None if (place := at[index]) is None else int(place),
        }
        for index, axis in enumerate(figure.axes)
    ]


def _details(figure: Figure, ascii: bool) -> list[dict[str, Any]]:  # noqa: A002
    """Return the further arrays of a figure with a number for each of its values; no flags."""
    if figure.values.size > MOST_DETAILS:
        return []
    details = []
    for name, value in figure.extra.items():
        if isinstance(value, list | tuple) and figure.values.shape == (len(value),):
            plain = all(type(item) in (int, float) for item in value)
            value = np.asarray(value if plain else ())
        if not isinstance(value, np.ndarray) or value.shape != figure.values.shape:
            continue
        if value.dtype.kind in "iuf":
            label = plain_text(NAMES.get(name, str(name).replace("_", " ")), ascii)
            details.append({"name": label, **pack_numbers(value, "<f8")})
    return details


def _scale(figure: Figure, even: bool) -> dict[str, Any]:
    scale = Scale.of_figure(figure, even=even)
    return {"kind": scale.kind, "low": scale.low, "high": scale.high}


def _heatmap(figure: Figure, look: RenderOptions, even: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"scale": _scale(figure, even)}
    record |= {"rows": None, "columns": None, "legend": ""}
    marked = figure.extra.get("marked")
    if marked is not None and np.shape(marked) == figure.values.shape:
        record["marked"] = np.flatnonzero(np.asarray(marked)).tolist()
    return record


def _bars(figure: Figure, look: RenderOptions, even: bool) -> dict[str, Any]:
    values, extra, styles = figure.values, figure.extra, styles_for(look)
    record: dict[str, Any] = {
        "top": ENDS.get(figure.unit, largest_magnitude(values)),
        "signed": bool((values < 0).any()),
        "scale": _scale(figure, even),
        "numbers": _numbers(figure, styles.glyphs.missing),
        "beside": [quoting_text(str(text), look.ascii) for text in extra.get("beside", ())],
        "kept": [bool(flag) for flag in extra.get("kept", ())],
        "chosen": None,
        "remarks": [],
    }
    if isinstance(extra.get("chosen"), int):
        record["chosen"] = extra["chosen"] % max(len(figure.axes[-1]), 1)
    return record


def _numbers(figure: Figure, missing: str) -> list[str]:
    """Return the numbers beside the bars."""
    values = figure.values.ravel()
    if figure.unit == "probability" and not is_difference(figure):
        smallest = float(values[values > 0].min(initial=1.0))
        places = None if len(figure.axes) > 1 else 1 if smallest >= 0.0005 else 2
        return [percent(number, places) or missing for number in values.tolist()]
    return [number.strip() for number in column(values, WIDTH, missing)]


def _lines(figure: Figure, look: RenderOptions, even: bool) -> dict[str, Any]:
    finite = figure.values[np.isfinite(figure.values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return {"low": low, "high": high}


def _strip(figure: Figure, look: RenderOptions, even: bool) -> dict[str, Any]:
    special = [bool(flag) for flag in figure.extra.get("special", ())]
    scale = Scale.of(figure.values, figure.unit, even=True, signed=is_difference(figure))
    low = 0.0 if scale.kind == "linear" and scale.low >= 0 else scale.low
    return {"scale": {"kind": scale.kind, "low": low, "high": scale.high}, "special": special}


def _table(figure: Figure, look: RenderOptions, even: bool) -> dict[str, Any]:
    """Return the entries that draw a table of more than two axes as heatmaps; empty for fewer."""
    if len(figure.axes) <= 2:
        return {}
    return {"draw": "heatmap", **_heatmap(figure, look, even)}


BY_FORM: dict[Form, Callable[[Figure, RenderOptions, bool], dict[str, Any]]] = {
    "heatmap": _heatmap,
    "bars": _bars,
    "lines": _lines,
    "tokens": _strip,
    "table": _table,
}
"""By form: what returns the usual entries of a record, given whether the scale is linear."""
