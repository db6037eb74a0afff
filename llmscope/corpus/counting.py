"""Which tokens of a prompt count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmscope.errors import ScopeError, option


@dataclass(frozen=True)
class Counting:
    """A rule by which tokens of a prompt count.

    Attributes:
        skip: the number of tokens at the beginning that do not count.
        length: prompts are cut after this many tokens; None: they are not.
        last: whether the last token counts; nothing follows it that it could predict.
        special: whether special tokens count.
    """

    skip: int = 0
    length: int | None = None
    last: bool = True
    special: bool = True

    @property
    def shortest(self) -> int:
        """Tokens of the shortest prompt in which one counts."""
        return self.skip + 2 - self.last

    def places(self, tokens: int) -> range:
        """Return the positions that count in a prompt of this many tokens, special ones too."""
        return range(self.skip, tokens - (not self.last))

    def places_among(self, special: Sequence[bool]) -> list[int]:
        """Return the positions that count, where it is known which tokens are special. [token]"""
        places = self.places(len(special))
        return [place for place in places if self.special or not special[place]]

    def check(self) -> None:
        """Check that the rule leaves something.

        Raises:
            ScopeError: no token of any prompt counts.
        """
        if self.length is not None and self.shortest > self.length:
            raise ScopeError(
                f"of prompts of {self.length} tokens, skipping the first {self.skip} leaves none "
                "that counts",
                f"a smaller {option('skip')}",
            )

    def nothing_counts(self) -> ScopeError:
        """Return the error for a corpus without a prompt in which a token counts."""
        return ScopeError(
            f"no prompt is long enough: each needs {self.shortest} tokens or more",
            f"longer prompts, or a smaller {option('skip')}" if self.skip else "longer prompts",
        )


CONTENT = Counting(skip=1, special=False)
"""Neither special tokens, nor the first one, whose stream is often tens of times as long as that of
any other (an attention sink)."""
