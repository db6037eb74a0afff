"""Progress of a batch, and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmscope.corpus.progress import JobProgress


@dataclass(frozen=True)
class Summary:
    """The result of a batch.

    Attributes:
        prompts, errors: the prompts, and how many of them failed.
        shards: the number of shards.
        kept: the prompts whose shards already existed.
        refused: how many figures each lens refused, by reason.
        lenses: the lenses that have rows.
    """

    prompts: int = 0
    errors: int = 0
    shards: int = 0
    kept: int = 0
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lenses: frozenset[str] = frozenset()


class BatchProgress(JobProgress):
    """Progress of a batch, which also counts what its shards hold.

    Attributes:
        shards: the finished shards.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refused: dict[str, Counter[str]] = {}
        self._lenses: set[str] = set()
        self.shards = 0

    def add_shard(self, lenses: Iterable[str], refused: Mapping[str, Mapping[str, int]]) -> None:
        """Count a finished shard.

        Args:
            lenses: the lenses that have rows in it.
            refused: how many figures each lens refused, by reason.
        """
        self.shards += 1
        self._lenses.update(lenses)
        for lens, reasons in refused.items():
            self._refused.setdefault(lens, Counter()).update(reasons)

    def summary(self) -> Summary:
        """Return the result so far."""
        return Summary(
            *(self.prompts, self.errors, self.shards, self.kept),
            refused=self._refused,
            lenses=frozenset(self._lenses),
        )
