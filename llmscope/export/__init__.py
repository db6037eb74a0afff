"""From figures, or rows of cells, to files: json, npz, txt, ansi, svg and png."""

from llmscope.export.files import write
from llmscope.export.json import json_text, snapshot_dict
from llmscope.export.render import FORMATS, format_of, render, render_rows, save
from llmscope.export.whatif import WhatIf

__all__ = [
    "FORMATS",
    "WhatIf",
    "format_of",
    "json_text",
    "render",
    "render_rows",
    "save",
    "snapshot_dict",
    "write",
]
