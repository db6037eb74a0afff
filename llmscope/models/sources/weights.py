"""The input options and the result of every source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmscope.models.loaded_model import Progress


@dataclass(frozen=True)
class Options:
    """The user's permissions and the progress callback.

    Attributes:
        trust_remote_code: code that comes with a model may be fetched.
        allow_pickle: pickled weights may be fetched.
        progress: called with the description of the stage, bytes done, and total bytes or None.
    """

    trust_remote_code: bool = False
    allow_pickle: bool = False
    progress: Progress | None = None


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file on this machine.

    Attributes:
        path: where it is.
        name: a short name for titles.
        notices: notices for the user about how it was found.
    """

    path: Path
    name: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """A folder with config.json, weights and usually a tokenizer.

    Attributes:
        folder: the folder's path.
        name: a short name for titles.
        revision: its commit, digest or version, if known.
        notices: notices for the user about how it was found.
        family: the built-in adapters and checkpoints that were trained from it, in order.
        upon: for an adapter in such a family, the member that it was trained on and applies to.
    """

    folder: Path
    name: str
    revision: str | None = None
    notices: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    upon: str | None = None
