"""The running mean of one Jacobian a prompt, with its standard error, kept in a checkpoint.

For each row of each matrix: the sum over prompts, the sum of squared norms, and the count. The
squared standard error of the mean matrix is the sum over rows of

    (Σ ‖r‖² − n ‖mean‖²) / (n (n − 1))

where the r are the n estimates of the row. Random probes enlarge the spread between prompts, so
the error of the probes is in it. It is told relative to the norm of the mean matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmscope.support.fsync import Arrays


@dataclass
class RunningMean:
    """Sums over prompts of one matrix for each stream.

    Attributes:
        sums: by stream. [width, width], float32
        squares: by stream: the sums of the squared norms of the rows. [width], float64
        counts: how many prompts gave each row; the same for all streams. [width]
        prompts: the number of prompts.
        next: the number of the first prompt that is not in it.
        digest: of the tokens of all prompts before that one, held-out ones too.
        latest: the norm of the estimate of the latest prompt, by stream: a model in another state
            than that of the checkpoint gives other ones. Empty in checkpoints of earlier versions.
    """

    sums: dict[int, Tensor]
    squares: dict[int, Tensor]
    counts: Tensor
    prompts: int = 0
    next: int = 0
    digest: str = ""
    latest: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, streams: Sequence[int], width: int) -> RunningMean:
        """Return empty sums."""
        return cls(
            {stream: torch.zeros(width, width) for stream in streams},
            {stream: torch.zeros(width, dtype=torch.float64) for stream in streams},
            torch.zeros(width, dtype=torch.int64),
        )

    def add(
        self, estimates: Mapping[int, Tensor], rows: Tensor, number: int, digest: str = ""
    ) -> None:
        """Add the estimates of one prompt.

        Args:
            estimates: rows of a matrix, for each stream. [row, width]
            rows: which rows they are. [row]
            number: the prompt's number.
            digest: of the tokens of all prompts up to this one.
        """
        for stream, estimate in estimates.items():
            self.sums[stream].index_add_(0, rows, estimate)
            squares = estimate.double().pow(2).sum(-1)
            self.squares[stream].index_add_(0, rows, squares)
        self.counts.index_add_(0, rows, torch.ones_like(rows))
        self.prompts += 1
        self.next, self.digest = number + 1, digest
        self.latest = norms_of(estimates)

    def mean(self, stream: int) -> Tensor:
        """Return the mean matrix of a stream. [width, width]"""
        return self.sums[stream] / self.counts.clamp_min(1)[:, None]

    def error(self, stream: int) -> float:
        """Return the relative standard error of a mean matrix; infinite for one estimate a row."""
        counts = self.counts.double()
        if int(self.counts.min()) < 2:
            return math.inf
        norms = self.mean(stream).double().pow(2).sum(-1)
        spread = (self.squares[stream] - counts * norms).clamp_min(0) / (counts * (counts - 1))
        total = float(norms.sum())
        return math.sqrt(float(spread.sum()) / total) if total else 0.0

    @property
    def bytes(self) -> int:
        """The bytes of all sums."""
        tensors = (*self.sums.values(), *self.squares.values(), self.counts)
        return sum(tensor.nbytes for tensor in tensors)

    @property
    def errors(self) -> dict[int, float]:
        """The relative standard error of each mean matrix."""
        return {stream: self.error(stream) for stream in self.sums}

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the sums as arrays, and the header that they are kept with."""
        arrays = {"counts": self.counts.numpy()}
        for stream in self.sums:
            arrays[f"{stream}.sum"] = self.sums[stream].numpy()
            arrays[f"{stream}.squares"] = self.squares[stream].numpy()
        names = ("prompts", "next", "digest", "latest")
        return arrays, {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, arrays: Arrays, header: Mapping[str, Any]) -> RunningMean:
        """Return the sums that `state` gave.

        Raises:
            LookupError, ValueError: they are of another form.
        """
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        counts = tensors.pop("counts")
        streams = [int(name.partition(".")[0]) for name in tensors if name.endswith(".sum")]
        return cls(
            {stream: tensors[f"{stream}.sum"] for stream in sorted(streams)},
            {stream: tensors[f"{stream}.squares"] for stream in sorted(streams)},
            *(counts, int(header["prompts"]), int(header["next"]), str(header["digest"])),
            {int(stream): float(norm) for stream, norm in header.get("latest", {}).items()},
        )


def norms_of(estimates: Mapping[int, Tensor]) -> dict[int, float]:
    """Return the norm of each stream's estimate. [row, width]"""
    return {stream: float(estimate.double().norm()) for stream, estimate in estimates.items()}
