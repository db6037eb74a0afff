"""Where the numbers of a file came from: enough to make them again.

There are no times in it, so that the same command writes the same bytes.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from llmscope.models.loaded_model import Progress

if TYPE_CHECKING:
    from llmscope.models.provenance import Origin
    from llmscope.scope import Scope

_PACKAGES = ("llmscope", "torch", "transformers")


def provenance(
    scope: Scope, command: str | None, progress: Progress | None = None
) -> dict[str, Any]:
    """Versions, device, weights, verdicts and command of a snapshot, as JSON types.

    `seed` is None: a snapshot draws nothing. `verdicts` are the model's, a capability each; what
    they mean for a figure is in its own verdict.

    Args:
        command: the command line that writes the same.
        progress: told how far the weights are read, which happens once for each file.

    Raises:
        ScopeError: a file of weights cannot be read.
    """
    return provenance_of(scope.origin(), command, progress)


def provenance_of(
    origin: Origin, command: str | None, progress: Progress | None = None
) -> dict[str, Any]:
    """The same of a model that another thread has.

    Raises:
        ScopeError: a file of weights cannot be read.
    """
    return {
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


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed. Imports nothing of it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
