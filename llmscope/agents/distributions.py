"""Two distributions of the next token beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.agents.answer import cell

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording

LISTED = 5
"""The likeliest tokens of each side that are listed."""


@dataclass(frozen=True)
class TokenChange:
    """A token in two distributions.

    Attributes:
        label: its text.
        token: its id.
        first, second: its probability in each.
    """

    label: str
    token: int
    first: float
    second: float

    @property
    def row(self) -> str:
        """The cells of a table, parted by tabs."""
        change = self.second - self.first
        return f"{cell(self.label)}\t{self.first:.4g}\t{self.second:.4g}\t{change:+.4g}"


@dataclass(frozen=True)
class Difference:
    """How the next token of two recordings of one vocabulary differs.

    Attributes:
        kl: KL(first ‖ second) in nats.
        reverse: KL(second ‖ first).
        tokens: the likeliest of each, those whose probability differs most first.
        tops: the likeliest token of each.
    """

    kl: float
    reverse: float
    tokens: tuple[TokenChange, ...]
    tops: tuple[TokenChange, TokenChange]

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of a table: token, first, second, change."""
        return tuple(token.row for token in self.tokens)

    @property
    def divergence(self) -> str:
        """Both divergences in a line."""
        return f"KL(A ‖ B) {self.kl:.4g} nats, KL(B ‖ A) {self.reverse:.4g} nats"


def difference(first: Recording, second: Recording) -> Difference:
    """Return how the next token after the ends of two recordings differs.

    Args:
        first: the first recording, A.
        second: the second one, B, whose logits are of the same tokens; a vocabulary that is padded
            is cut to the shorter of the two.
    """
    import numpy as np

    from llmscope.record.compare.pair import Pair, predictions, probabilities

    last = len(first) - 1
    pair = Pair(first, second, ((last, len(second) - 1),))
    both = probabilities(pair, last)  # [A | B, token]
    likeliest = np.argsort(-both, axis=1, kind="stable")[:, :LISTED]

    def change(token: int) -> TokenChange:
        return TokenChange(first.model.label(token), token, *both[:, token].tolist())

    changes = sorted(
        map(change, dict.fromkeys(likeliest.ravel().tolist())),
        key=lambda token: -abs(token.second - token.first),
    )
    compared = predictions(pair)
    tops = (change(int(likeliest[0, 0])), change(int(likeliest[1, 0])))
    return Difference(float(compared.kl[last]), float(compared.reverse[last]), tuple(changes), tops)
