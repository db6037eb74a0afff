"""The prompts that a lens is fitted on: which tokens count, and which prompts are held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.corpus.counting import Counting
from llmscope.errors import ScopeError, option
from llmscope.support.arguments import LONGEST_TEXT

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope

SKIP, LENGTH, HELD_OUT, MOST_HELD_OUT = 16, 128, 10, 100
"""Published rules: the first tokens of a prompt are attention sinks and left out, prompts are cut
at this length. The first of every ten prompts is held out, until there are a hundred."""


@dataclass(frozen=True)
class CorpusRules(Counting):
    """How prompts become tokens.

    Attributes:
        held_out: one of this many prompts is held out, the first; 0: none.
        shard, shards: of the others, take each one of `shards`, from the one at `shard` on.
    """

    skip: int = SKIP
    length: int | None = LENGTH
    last: bool = False
    held_out: int = HELD_OUT
    shard: int = 0
    shards: int = 1

    def holds_out(self, number: int) -> bool:
        """Return whether the prompt of a number, among those that count, is held out."""
        if not self.held_out or number >= MOST_HELD_OUT * self.held_out:
            return False
        return number % self.held_out == 0


RULES = CorpusRules()
"""The published rules."""


@dataclass(frozen=True)
class CorpusPrompt:
    """A prompt that counts.

    Attributes:
        number: its number among those that count, from 0.
        ids: its tokens.
        places: the positions of those that count.
        held_out: whether it is held out.
    """

    number: int
    ids: tuple[int, ...]
    places: range
    held_out: bool


def corpus(scope: Scope, texts: Iterable[str], rules: CorpusRules) -> Iterator[CorpusPrompt]:
    """Yield the prompts of this shard that are long enough to count.

    Held-out prompts are the same in every shard, so that no shard is fitted on them.

    Raises:
        ScopeError: a text cannot be tokenized.
    """
    number = fitted = 0
    for text in texts:
        if not text:
            continue
        ids = tuple(scope.encode(text[:LONGEST_TEXT]).ids[: rules.length])
        places = rules.places(len(ids))
        if not places:
            continue
        held_out = rules.holds_out(number)
        if held_out or fitted % rules.shards == rules.shard:
            yield CorpusPrompt(number, ids, places, held_out)
        number += 1
        fitted += not held_out


def every_one_is_held_out() -> ScopeError:
    """Return the error for a corpus or shard whose prompts are all held out."""
    return ScopeError(
        "every prompt that counts is held out", f"more prompts, or {option('held-out', 0)}"
    )
