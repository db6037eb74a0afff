"""What every source takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmscope.models.loaded_model import Progress


@dataclass(frozen=True)
class Options:
    """What a person allows, and whom to tell.

    Attributes:
        trust_remote_code: code that comes with a model may be fetched.
        allow_pickle: pickled weights may be fetched.
        progress: called with what is being done, bytes done, and bytes in all or None.
    """

    trust_remote_code: bool = False
    allow_pickle: bool = False
    progress: Progress | None = None


@dataclass(frozen=True)
class Weights:
    """A folder with config.json, weights and usually a tokenizer.

    Attributes:
        folder: where it is.
        name: a short name for titles.
        revision: the commit, digest or version that it is, if known.
        notices: what a person should know about how it was found.
        family: the built-in adapters and checkpoints that were trained from it, in order.
        upon: of an adapter in such a family, the member that it was trained on and belongs on.
    """

    folder: Path
    name: str
    revision: str | None = None
    notices: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    upon: str | None = None
