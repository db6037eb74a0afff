"""The process that runs llama.cpp, from the side of the program: started anew after each crash.

A crash, an abort or a kill inside llama.cpp ends that process alone. The pass that ran is lost,
with an error of one line, and the next one starts the process again.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.models.llama.cache_types import CACHE_TYPES, DEFAULT
from llmscope.support.sandbox import CallError, FunctionError, Worker
from llmscope.support.text import display_text, one_line

LOGITS = "logits"
LOADING = 600.0
"""Most seconds that loading a model may take."""
PASS = 3600.0
"""Most seconds of one pass."""
ROOM = 64 << 30
"""Most bytes of address space of the process beside the file: its caches are mapped, not filled."""
ALIGNMENT = 64
LEAST = 64 << 20
"""Bytes of shared memory beside what is asked for, with room for the logits of a token."""
SHARED = Path("/dev/shm")  # noqa: S108 - memory, if the system has it as a folder


@dataclass(frozen=True)
class SequenceRun:
    """Tokens that run on top of a prefix.

    Attributes:
        sequence: the sequence of the KV cache that the tokens are added to.
        source: the sequence whose first tokens are the prefix; may be the same.
        keep: the number of tokens of the prefix.
        ids: the tokens.
    """

    sequence: int
    source: int
    keep: int
    ids: Sequence[int]


class LlamaProcess:
    """llama.cpp with one model, in a process of its own.

    Args:
        path: the GGUF file.
        context: the number of tokens that its KV cache holds.
        threads: the number of threads of a pass.
        rows: the number of tokens that run at once.
        library: the path of libllama; empty: that of the binding.
        cache_type: the type of its KV cache.

    Attributes:
        context: the number of tokens that its KV cache holds.
        rotations: of `key` and `value`, how many neighbouring numbers llama.cpp turns together
            before it rounds them for a quantised cache, as surveyed; 0: none.
        starts: how often the process was started; its KV cache is empty after each start.
    """

    def __init__(
        self,
        path: Path,
        context: int,
        threads: int,
        *,
        rows: int = 256,
        library: str = "",
        cache_type: str = DEFAULT,
    ) -> None:
        self.path, self.context, self.cache_type = path, context, CACHE_TYPES[cache_type]
        self.rotations: dict[str, int] = {}
        self.starts = 0
        self._worker = Worker(
            "llmscope.models.llama.native",
            memory=ROOM + 2 * path.stat().st_size,
            setup=(
                *("load", str(path.resolve()), library, context, threads, rows),
                self.cache_type.number,
            ),
            seconds=LOADING,
        )
        self._block: mmap.mmap | None = None
        self._tensors: Tensor | None = None
        self._shared_with = -1
        self._surveyed: list[int] = []

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of `llmscope.models.llama.native`.

        Raises:
            ScopeError: llama.cpp gave no result, or its process ended.
        """
        if not self._worker.running:
            self.starts += 1
        try:
            return self._worker.call(name, *arguments, seconds=PASS)
        except FunctionError as error:
            if error.kind in ("ImportError", "ModuleNotFoundError", "RuntimeError"):
                raise ScopeError(
                    f"llama.cpp cannot be loaded: {display_text(one_line(str(error)))}",
                    "the extra `llama`, which installs llama-cpp-py-sync",
                ) from error
            raise ScopeError(
                f"llama.cpp cannot run {display_text(self.path.name)}: "
                f"{display_text(one_line(str(error)))}",
                "the file without a backend, which transformers then runs",
            ) from error
        except CallError as error:
            raise ScopeError(
                f"the process of llama.cpp ended ({one_line(str(error))})",
                "the same again: it is started anew",
            ) from error

    def ensure(self) -> None:
        """Start the process if it does not run."""
        if not self._worker.running:
            self._reserve(LEAST)

    @property
    def description(self) -> str:
        """What llama.cpp calls the model, such as `llama 256M Q4_1`."""
        text: str = self.call("describe")
        return text

    def survey(self, ids: Sequence[int]) -> dict[str, Any]:
        """Run some tokens, and return what there is in a pass; see `native.survey`."""
        self._reserve(LEAST)
        self._surveyed = list(ids)
        survey: dict[str, Any] = self.call("survey", self._surveyed)
        self.rotations = survey["rotations"]
        return survey

    def as_cached(self, rows: Tensor, part: str) -> Tensor:
        """Return a head's rows as attention reads them. `[..., width]`

        Args:
            rows: the rows before they are rounded for the KV cache, or with it.
            part: `query`, `key` or `value`.
        """
        if part == "query":
            return self.cache_type.rounded_queries(rows, self.rotations.get("key", 0))
        return self.cache_type.rounded(rows, self.rotations.get(part, 0))

    def decode(
        self,
        runs: Sequence[SequenceRun],
        wanted: Sequence[str],
        bytes_per_token: int,
        writes: Sequence[tuple[str, int, Tensor]] = (),
    ) -> dict[str, Tensor]:
        """Run tokens of several sequences at once, and return the tensors that are wanted.

        Args:
            runs: the tokens, each on top of a prefix.
            wanted: the names of the tensors.
            bytes_per_token: the bytes of the wanted tensors of a token.
            writes: what replaces rows of a tensor: its name, the first row, counted over the tokens
                of all runs, and the rows. [row, ...]

        Returns:
            By name, `[row, ...]`, the rows of all runs; `logits` are those after the last token of
            each. [run, token]
        """
        rows = sum(len(run.ids) for run in runs)
        size = sum(_padded(tensor) for _, _, tensor in writes)
        self._reserve(size + rows * bytes_per_token + len(runs) * LEAST)
        places, offset = [], 0
        for name, row, tensor in writes:
            places.append([name, row, offset, tensor.numel() * 4])
            self._at(offset, tensor.numel()).copy_(tensor.reshape(-1))
            offset += _padded(tensor)
        sequences = [[run.sequence, run.source, run.keep, list(run.ids)] for run in runs]
        tensors = {}
        for name, offset, count in self.call("decode", sequences, list(wanted), places):
            length = len(runs) if name == LOGITS else rows
            tensors[name] = self._at(offset, count * length).clone().view(length, count)
        return tensors

    def apply(self, weight: str, rows: Tensor, outputs: int) -> Tensor:
        """Multiply rows by a weight, with llama.cpp's own kernel. `[row, in] -> [row, out]`"""
        count = len(rows)
        self._reserve(_padded(rows) + 4 * count * outputs + ALIGNMENT)
        self._at(0, rows.numel()).copy_(rows.reshape(-1))
        self.call("apply", weight, count, rows.shape[-1], outputs, _padded(rows))
        return self._at(_padded(rows), count * outputs).clone().view(count, outputs)

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def _at(self, offset: int, count: int) -> Tensor:
        assert self._tensors is not None
        return self._tensors[offset // 4 : offset // 4 + count]

    def _reserve(self, size: int) -> None:
        """Make the shared memory at least as large as `size` bytes, and known to the process."""
        if self._block is not None and len(self._block) >= size:
            if self._worker.running and self._shared_with == self.starts:
                return
            size = len(self._block)
        folder = SHARED if SHARED.is_dir() and os.access(SHARED, os.W_OK) else None
        descriptor, name = tempfile.mkstemp(prefix="llmscope-", dir=folder)
        try:
            os.truncate(descriptor, size)
            self._tensors = None
            self._block = mmap.mmap(descriptor, size)
            self._tensors = torch.frombuffer(self._block, dtype=torch.float32)
            self.call("share", name, size)
            if self._shared_with != self.starts and self._surveyed:
                self.call("survey", self._surveyed)  # a new process knows no weight without a pass
            self._shared_with = self.starts
        finally:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(name)


def _padded(tensor: Tensor) -> int:
    return -(-tensor.numel() * 4 // ALIGNMENT) * ALIGNMENT
