"""The tool `export`: write the figure that was looked at last to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import fit_answer, line
from llmscope.agents.parameters import Parameter, Tool
from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession
    from llmscope.export import FilePair

LARGEST_SIDE = 400
"""Maximum width and height of a picture in cells."""


def content_of(
    session: AgentSession,
    form: str,
    *,
    provenance: bool,
    size: tuple[int, int] | None = None,
    theme: str | None = None,
) -> str | bytes | FilePair:
    """Return the content of a file of the figures that were looked at last.

    Args:
        session: the session.
        form: the name of a format.
        provenance: add where the numbers come from, which reads all weights once.
        size: width and height in cells; None: the default.
        theme: of a picture; None: the dark one.

    Raises:
        ScopeError: nothing was looked at yet, the format needs a package that is missing, or no
            theme has that name.
    """
    from llmscope.draw import RenderOptions, load_theme
    from llmscope.export import about_dict, content, formats, provenance_of

    seen = session.seen
    if seen is None:
        raise ScopeError("there is no figure yet", "look first")
    chosen = formats()[form]
    origin = provenance_of(seen.origin, None) if provenance and chosen.provenance else None
    look = None
    if theme is not None:
        look = RenderOptions(load_theme(theme), "truecolor" if chosen.colors else "none")
    return content(
        seen.figures,
        form,
        size=size,
        look=look,
        focus=seen.focus,
        tokens=seen.tokens,
        whatif=seen.edits,
        about=about_dict(seen.info, seen.prompt, seen.cells, seen.focus, seen.edits, origin),
    )


def export(session: AgentSession, arguments: Mapping[str, Any], call: AgentCall) -> str:
    """Write the figure that was looked at last, and return where."""
    from llmscope.export import format_of

    name = arguments["path"]
    path = session.folder.within(name)
    form = format_of(path)
    size = (arguments.get("width", 100), arguments.get("height", 30))
    data = content_of(
        session,
        form,
        provenance=True,
        size=size if {"width", "height"} & arguments.keys() else None,
        theme=arguments.get("theme"),
    )
    call.stop_if_cancelled()
    written = session.folder.put(name, data)
    seen = session.seen
    assert seen is not None
    return fit_answer(
        [
            f"file: {session.folder.shown(written)}",
            f"{form}, {_bytes(written)} bytes",
            line(
                f"figure: {'; '.join(f'{figure.lens} · {figure.title}' for figure in seen.figures)}"
            ),
            line(f"verdict: {', '.join(figure.verdict.status for figure in seen.figures)}"),
        ]
    )


def _bytes(path: Path) -> str:
    return f"{path.stat().st_size:,}"


EXPORT = Tool(
    "export",
    "Write the figure of the latest look to a file in the output folder. The suffix names the "
    "format: json, npz, safetensors, csv, parquet (numbers), svg, png, html, txt or ansi "
    "(pictures). Files of numbers but csv, svg, png and html carry where the numbers come from.",
    (
        Parameter("path", "text", "A file name such as figure.svg.", required=True),
        Parameter("width", "integer", "Width of a picture in cells.", least=20, most=LARGEST_SIDE),
        Parameter("height", "integer", "Height of a picture in cells.", least=5, most=LARGEST_SIDE),
        Parameter("theme", "text", "Colours of a picture, such as dark or light."),
    ),
    export,
)
