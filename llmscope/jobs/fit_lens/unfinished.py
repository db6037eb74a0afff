"""What a fit keeps beside its file until it is done: a checkpoint, and what was finished since."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscope.errors import ScopeError, option
from llmscope.support.arguments import differences
from llmscope.support.fsync import Arrays, Journal, replace_file
from llmscope.support.text import display_text, told

HEADER = "llmscope_fit"
SAVED_EVERY = 30.0
"""Seconds between two checkpoints."""
LONG = 4
"""How many times longer than a checkpoint a journal may be before the next one is due."""
Note = Callable[[str], None]


def ignore(line: str) -> None:
    """Do nothing with a line."""


class Unfinished:
    """The checkpoint of a fit, and a journal of the prompts and steps that came after it.

    Args:
        checkpoint: the file of the checkpoint; None keeps nothing.
        about: what the numbers depend on.
    """

    def __init__(self, checkpoint: Path | None, about: Mapping[str, Any]) -> None:
        self.checkpoint, self._about = checkpoint, dict(about)
        self._journal = None if checkpoint is None else Journal(journal_of(checkpoint), about)
        self._saved = time.monotonic()

    def begun(self) -> Path | None:
        """Return the checkpoint of an earlier run; None without one."""
        path = self.checkpoint
        return path if path is not None and path.is_file() else None

    def records(self, stage: str) -> Iterator[tuple[dict[str, Any], Arrays]]:
        """Yield what an earlier run finished after its checkpoint.

        Args:
            stage: what was done, as given to `append`.

        Raises:
            ScopeError: the file is of another fit, or cannot be read.
        """
        for note, arrays in () if self._journal is None else self._journal.records():
            if note["stage"] == stage:
                yield note, arrays

    def append(self, stage: str, tensors: Mapping[str, Tensor], **note: Any) -> None:
        """Keep a prompt or step that is finished.

        Args:
            stage: what was done.
            tensors: its results, of types that numpy has.
            note: what else is kept of it, as JSON types.

        Raises:
            ScopeError: the file cannot be written.
        """
        if self._journal is not None:
            arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
            self._journal.append({"stage": stage, **note}, arrays)

    def is_due(self, size: int) -> bool:
        """Return whether it is time for a checkpoint.

        Args:
            size: its bytes.
        """
        if self._journal is None:
            return False
        late = time.monotonic() - self._saved > SAVED_EVERY
        return late or self._journal.size > LONG * size

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and the header of the checkpoint; None without one.

        Raises:
            ScopeError: it is of another fit, or cannot be read.
        """
        begun = self.begun()
        return None if begun is None else read_checkpoint(begun, self._about)

    def save(self, tensors: Mapping[str, Tensor], **header: Any) -> None:
        """Write a checkpoint, which holds all that the journal has.

        Raises:
            ScopeError: it cannot be written.
        """
        if self.checkpoint is not None:
            write_checkpoint(self.checkpoint, tensors, {"about": self._about, **header})
            self.saved()

    def saved(self) -> None:
        """Drop the journal, as the checkpoint holds all of it by now.

        Raises:
            ScopeError: the file cannot be written.
        """
        if self._journal is not None:
            self._journal.clear()
        self._saved = time.monotonic()


class MeasuredPrompts:
    """The held-out prompts that an earlier run measured a lens on, and those of this run.

    Args:
        unfinished: where they are kept.
        lens: a digest of what the lens was fitted on.
    """

    def __init__(self, unfinished: Unfinished, lens: str) -> None:
        self._unfinished, self._lens = unfinished, lens
        self._stored = {
            (note["what"], tuple(note["ids"])): arrays["numbers"]
            for note, arrays in unfinished.records("measuring")
            if note["lens"] == lens
        }

    def numbers(self, what: str, ids: Sequence[int], compute: Callable[[], Tensor]) -> Tensor:
        """Return the numbers of a prompt, which are computed and kept unless they are there.

        Args:
            what: which numbers.
            ids: the tokens of the prompt.
            compute: returns them, as a tensor on the CPU.
        """
        stored = self._stored.get((what, tuple(ids)))
        if stored is not None:
            return torch.from_numpy(stored)
        numbers = compute()
        note = {"what": what, "ids": list(ids), "lens": self._lens}
        self._unfinished.append("measuring", {"numbers": numbers}, **note)
        return numbers


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a checkpoint, replacing an earlier one at once.

    Args:
        path: the file.
        tensors: its tensors by name.
        header: what else it holds, as JSON types, with `about`, what the numbers depend on.

    Raises:
        ScopeError: it cannot be written.
    """
    from safetensors.torch import save

    try:
        replace_file(path, save(dict(tensors), metadata={HEADER: json.dumps(dict(header))}))
    except OSError as error:
        raise ScopeError(
            f"cannot write {display_text(str(path))}: {told(error)}", f"another {option('out')}"
        ) from error


def read_checkpoint(
    path: Path, about: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a checkpoint.

    Raises:
        ScopeError: it cannot be read, or is of another fit than `about` tells.
    """
    from safetensors import safe_open

    shown = display_text(str(path))
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(json.loads((file.metadata() or {})[HEADER]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a file of another kind may raise anything
        raise unreadable(path, error) from error
    theirs = header.get("about")
    if theirs != json.loads(json.dumps(dict(about))):
        raise ScopeError(
            f"{shown} was begun with other options{differences(theirs, about)}",
            f"the same options, another {option('out')}, or {option('force')} to begin anew",
        )
    return tensors, header


def unreadable(path: Path, error: Exception) -> ScopeError:
    """Return the error for a checkpoint that cannot be read."""
    return ScopeError(
        f"the checkpoint {display_text(str(path))} cannot be read: {told(error)}",
        f"{option('force')} to begin anew",
    )


def other_prompts() -> ScopeError:
    """Return the error for prompts that are not those of a checkpoint."""
    return ScopeError(
        "the prompts are not those that the checkpoint was made of",
        f"the same prompts, another {option('out')}, or {option('force')} to begin anew",
    )


def journal_of(checkpoint: Path) -> Path:
    """Return the file of the journal beside a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.journal")
