"""Write figures or rows of cells to files, with one module per format."""

from llmscope.export.dataframe import data_array, data_frame, polars_frame, tidy
from llmscope.export.edits_caption import EditsCaption
from llmscope.export.formats import Document, Format, formats, pictures
from llmscope.export.json import about_dict, json_text, snapshot_dict, snapshot_schema
from llmscope.export.notebook import mimebundle
from llmscope.export.page.widget import widget
from llmscope.export.paper import (
    PAPER,
    PAPER_FORMATS,
    PLAIN_STYLE,
    Paper,
    PaperStyle,
    need_matplotlib,
    plot,
    prepare_matplotlib,
)
from llmscope.export.provenance import provenance_of
from llmscope.export.render import (
    AUTO,
    Size,
    content,
    format_of,
    render,
    render_rows,
    save,
)
from llmscope.export.safetensors import FilePair, pair, sidecar_path
from llmscope.support.atomic_write import write, write_all

__all__ = [
    "AUTO",
    "PAPER",
    "PAPER_FORMATS",
    "PLAIN_STYLE",
    "Document",
    "EditsCaption",
    "FilePair",
    "Format",
    "Paper",
    "PaperStyle",
    "Size",
    "about_dict",
    "content",
    "data_array",
    "data_frame",
    "format_of",
    "formats",
    "json_text",
    "mimebundle",
    "need_matplotlib",
    "pair",
    "pictures",
    "plot",
    "polars_frame",
    "prepare_matplotlib",
    "provenance_of",
    "render",
    "render_rows",
    "save",
    "sidecar_path",
    "snapshot_dict",
    "snapshot_schema",
    "tidy",
    "widget",
    "write",
    "write_all",
]
