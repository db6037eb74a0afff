"""The formats of files: each says what it holds and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from llmscope.draw import RenderOptions, Row
from llmscope.export.ansi import ansi_text
from llmscope.export.edits_caption import PLAIN, EditsCaption
from llmscope.export.html import html_text
from llmscope.export.json import json_text
from llmscope.export.npz import npz_bytes
from llmscope.export.png import png_bytes
from llmscope.export.safetensors import FilePair, pair
from llmscope.export.svg import svg_text
from llmscope.export.table import csv_text, table_bytes
from llmscope.export.txt import txt_text
from llmscope.figure import Figure, Focus
from llmscope.plugins import with_plugins


@dataclass(frozen=True)
class Document:
    """What is written to a file.

    Attributes:
        figures: the figures; empty for a screen.
        rows: the same as drawn, in rows of cells; empty for formats of numbers.
        look: the render options that the rows were drawn with.
        several: whether a list of figures was given, rather than one.
        about: the metadata of a snapshot, as `about_dict` returns it; None omits it.
        edits: the caption of the edits and of prompt B.
        inline: whether the picture is for a page with other pictures.
        scale: the magnification of a picture.
        focus: the indices that are marked; None: those of the default `Focus`.
    """

    figures: tuple[Figure, ...] = ()
    rows: tuple[Row, ...] = ()
    look: RenderOptions = field(default_factory=RenderOptions)
    several: bool = True
    about: Mapping[str, Any] | None = None
    edits: EditsCaption = PLAIN
    inline: bool = False
    scale: float = 1.0
    focus: Focus | None = None

    @property
    def provenance(self) -> Mapping[str, Any] | None:
        """The origin of the numbers; None if it is not known."""
        return None if self.about is None else self.about.get("provenance")


@dataclass(frozen=True)
class Format:
    """A format of files. Other packages register theirs in the group `llmscope.formats`.

    Attributes:
        name: the value of `--format`, and the suffix of its files.
        holds: numbers of figures, or a picture as rows of cells.
        write: returns the content of a file; of two files if it has a sidecar.
        sidecar: whether it is written as two files.
        binary: whether it is of no use on a terminal.
        provenance: whether it stores where the numbers come from.
        scales: whether the picture can be magnified.
        colors: whether a picture is drawn in colours unless asked otherwise.
    """

    name: str
    holds: Literal["numbers", "picture"]
    write: Callable[[Document], str | bytes | FilePair]
    sidecar: bool = False
    binary: bool = False
    provenance: bool = True
    scales: bool = False
    colors: bool = True


def _json(document: Document) -> str:
    records = [figure.to_dict() for figure in document.figures]
    if document.about is not None:
        return json_text({**document.about, "figures": records})
    return json_text(records if document.several else records[0])


def _html(document: Document) -> str:
    return html_text(
        document.rows,
        document.look,
        document.about,
        figures=document.figures,
        focus=document.focus,
        edits=document.edits.edits,
        scale=document.scale,
    )


BUILT_IN = (
    Format("json", "numbers", _json),
    Format("npz", "numbers", lambda d: npz_bytes(d.figures, d.edits, d.about), binary=True),
    Format(
        "safetensors",
        "numbers",
        lambda d: pair(d.figures, d.about),
        sidecar=True,
        binary=True,
    ),
    Format("csv", "numbers", lambda d: csv_text(d.figures, d.focus), provenance=False),
    Format(
        "parquet",
        "numbers",
        lambda d: table_bytes(d.figures, d.focus, d.about),
        binary=True,
    ),
    Format("txt", "picture", lambda d: txt_text(d.rows), provenance=False, colors=False),
    Format("ansi", "picture", lambda d: ansi_text(d.rows, d.look), provenance=False),
    Format(
        "svg",
        "picture",
        lambda d: svg_text(d.rows, d.look, d.provenance, inline=d.inline, scale=d.scale),
        scales=True,
    ),
    Format(
        "png",
        "picture",
        lambda d: png_bytes(d.rows, d.look, d.provenance, scale=d.scale),
        binary=True,
        scales=True,
    ),
    Format(
        "html",
        "picture",
        _html,
        scales=True,
    ),
)


@cache
def formats() -> dict[str, Format]:
    """Return all formats by name, ours first."""
    return with_plugins("formats", Format, {built_in.name: built_in for built_in in BUILT_IN})


def pictures() -> tuple[str, ...]:
    """Return the names of the formats that hold a picture."""
    return tuple(known.name for known in formats().values() if known.holds == "picture")
