"""What a comparison over texts measures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from llmscope.corpus.counting import Counting
from llmscope.errors import ScopeError, option

LENGTH = 512
"""Tokens after which texts are cut if nothing else is asked for: llama.cpp's window."""


@dataclass(frozen=True)
class CorpusComparison:
    """What is measured, and of which tokens.

    Attributes:
        length: texts are cut after this many tokens; None: 512, or the context if that is shorter.
        skip: the number of tokens at the beginning of each text after which predictions are not
            compared.
        moved: how many of the tokens that moved most are looked at layer by layer.
        layers: compare the streams too, and not the predictions alone.
        shard_size: the number of texts in a file.
        resamples, level, seed: of the bootstrap intervals.
    """

    length: int | None = None
    skip: int = 0
    moved: int = 20
    layers: bool = True
    shard_size: int = 64
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def within(self, *contexts: int | None) -> CorpusComparison:
        """Return the same with a length that all of the contexts hold.

        Raises:
            ScopeError: the length that was asked for is longer, or leaves no token.
        """
        room = min((context for context in contexts if context is not None), default=None)
        length = self.length
        if length is None:
            length = LENGTH if room is None else min(LENGTH, room)
        if room is not None and length > room:
            raise ScopeError(
                f"texts of {length} tokens are longer than the context of a model, {room}",
                option("length", room),
            )
        measured = replace(self, length=length)
        measured.counting.check()
        return measured

    @property
    def counting(self) -> Counting:
        """Which tokens count: those whose prediction is compared with the token that follows."""
        return Counting(self.skip, self.length, last=False)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        return asdict(self)
