"""From figures, or rows of cells, to files: json, npz, txt, ansi, svg and png."""

from llmscope.export.files import write
from llmscope.export.json import about_dict, json_text, snapshot_dict
from llmscope.export.provenance import provenance
from llmscope.export.render import BARE, FORMATS, format_of, render, render_rows, save
from llmscope.export.whatif import WhatIf

__all__ = [
    "BARE",
    "FORMATS",
    "WhatIf",
    "about_dict",
    "format_of",
    "json_text",
    "provenance",
    "render",
    "render_rows",
    "save",
    "snapshot_dict",
    "write",
]
