"""The state of a collection on the disk, from which a run that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError, option
from llmscope.jobs.examples.collector import Collector
from llmscope.support.arguments import differences
from llmscope.support.fsync import replace_file
from llmscope.support.text import display_text, told

HEADER = "llmscope_examples"


@dataclass
class Progress:
    """How far a collection is.

    Attributes:
        prompts: the prompts that were read.
        digest: of their texts.
    """

    prompts: int = 0
    digest: str = ""


def save(
    path: Path, collectors: Sequence[Collector], progress: Progress, about: Mapping[str, Any]
) -> None:
    """Write the state of collectors, replacing an earlier one at once.

    Raises:
        ScopeError: it cannot be written.
    """
    from safetensors.numpy import save as serialized

    arrays = {f"{at}.{name}": one for at, own in enumerate(collectors) for name, one in _of(own)}
    header = {
        "about": dict(about),
        "prompts": progress.prompts,
        "digest": progress.digest,
        "tokens": [collector.statistics.tokens for collector in collectors],
    }
    try:
        replace_file(path, serialized(arrays, metadata={HEADER: json.dumps(header)}))
    except OSError as error:
        raise ScopeError(
            f"cannot write {display_text(str(path))}: {told(error)}", f"another {option('out')}"
        ) from error


def _of(collector: Collector) -> list[tuple[str, Any]]:
    # Arrays without numbers, such as those of 0 examples, are left out: they hold no state.
    return [(name, one) for name, one in collector.arrays.items() if one.size]


def load(path: Path, collectors: Sequence[Collector], about: Mapping[str, Any]) -> Progress:
    """Fill collectors from a checkpoint, and return how far it is.

    Raises:
        ScopeError: it cannot be read, or is of another job than `about` tells.
    """
    from safetensors import safe_open

    shown = display_text(str(path))
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            theirs = header.get("about")
            if theirs == json.loads(json.dumps(dict(about))):
                for at, (own, tokens) in enumerate(zip(collectors, header["tokens"], strict=True)):
                    arrays = own.arrays
                    for name, _ in _of(own):
                        arrays[name] = file.get_tensor(f"{at}.{name}")
                    own.load(arrays, int(tokens))
                return Progress(int(header["prompts"]), str(header["digest"]))
    except Exception as error:  # a file of another kind may raise anything
        raise ScopeError(
            f"the checkpoint {shown} cannot be read: {told(error)}",
            f"{option('force')} to begin anew",
        ) from error
    raise ScopeError(f"{shown} was begun with other options{differences(theirs, about)}", again())


def again() -> str:
    """Return what to try where a folder or a checkpoint is of another job."""
    return f"the same options, another {option('out')}, or {option('force')} to begin anew"
