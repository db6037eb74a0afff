"""Options for tests that ask every lens the same: each gets those that it has."""

from typing import Any

from llmscope.figure import Figure, Focus
from llmscope.lenses import lens
from llmscope.record.capture.recording import Recording
from llmscope.scope.scope import Scope


def options_for(name: str, **options: Any) -> dict[str, Any]:
    """Return the options that a lens reads in its mode, out of those that all are asked with."""
    read = lens(name).uses_in(options.get("mode", ""))
    return {option: value for option, value in options.items() if option in read}


def figure_at(scope: Scope, name: str, recording: Recording, **focus: Any) -> Figure:
    """Return a figure as the screen asks for it, whose cursor has a place in every lens."""
    *_, figure = scope.figures(name, recording, Focus(**focus))
    return figure
