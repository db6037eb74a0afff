"""The page of a snapshot's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.cli.options.appearance import picture_look
from llmscope.cli.output.destination import Output
from llmscope.errors import ScopeError
from llmscope.export import AUTO, EditsCaption, render
from llmscope.support.text import error_line
from llmscope.tui.modes.replay.normalize import HINT
from llmscope.tui.modes.replay.reader import read_snapshot

if TYPE_CHECKING:
    from llmscope.draw import Tier


def file_page(
    path: Path,
    theme: str | None,
    tier: Tier | None,
    ascii: bool | None,  # noqa: A002
) -> str:
    """Return the HTML page that shows the figures of a file.

    Args:
        path: what `llmscope snapshot` wrote as json, npz or safetensors.
        theme, tier, ascii: see `picture_look`.

    Raises:
        ScopeError: the file cannot be read or shown, or the theme does not exist.
    """
    look = picture_look(theme, tier, ascii, Output(path, "html", force=False))
    recorded_file = read_snapshot(path)
    edits = EditsCaption(
        tuple(map(str, recorded_file.edits)), recorded_file.other, recorded_file.other is not None
    )
    try:
        page = render(
            recorded_file.figures,
            "html",
            size=AUTO,
            look=look,
            focus=recorded_file.focus,
            whatif=edits,
            about=recorded_file.about,
        )
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ScopeError(
            f"the figures of this file cannot be drawn: {error_line(error)}", HINT
        ) from error
    assert isinstance(page, str)
    return page
