"""The provenance of a file: enough to compute its numbers again.

It contains no timestamps, so that the same command writes the same bytes.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from llmscope.models.loaded_model import Progress
from llmscope.version import __version__, installed

if TYPE_CHECKING:
    from llmscope.models.provenance import Origin

_PACKAGES = ("torch", "transformers")


def provenance_of(
    origin: Origin, command: str | None, progress: Progress | None = None
) -> dict[str, Any]:
    """Return where a snapshot comes from, as JSON types: versions, device, weights and command.

    `seed` is None, because a snapshot samples nothing. `verdicts` are those of the model, one per
    capability; each figure has a verdict of its own.

    Args:
        origin: the origin of the model.
        command: the command line that writes the same snapshot; None: not known.
        progress: called with how much of the weights is hashed (once per file); None: not reported.

    Raises:
        ScopeError: a file of weights cannot be read.
    """
    return {
        "llmscope": __version__,
        **{package: installed(package) for package in _PACKAGES},
        "python": platform.python_version(),
        **origin.to_dict(progress),
        "seed": None,
        "verdicts": {
            name: {"status": verdict.status, "reason": verdict.reason}
            for name, verdict in origin.verdicts.items()
        },
        "command": command,
    }
