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


def difference(
    first: Recording, second: Recording, position: int = -1, other: int = -1
) -> Difference:
    """Return how the next token after two recordings differs.

    Args:
        first: the first recording, A.
        second: the second one, B, whose logits are of the same tokens; a vocabulary that is padded
            is cut to the shorter of the two.
        position: the token of A after which it comes.
        other: the token of B.
    """
    from llmscope.record.derive.kl import exact64, kl_both_ways
    from llmscope.record.derive.tensors import logits_after

    pair = [
        logits_after(recording, at % len(recording)).cpu()
        for recording, at in ((first, position), (second, other))
    ]
    count = min(map(len, pair))
    ours, theirs = (logits[:count] for logits in pair)
    kl, reverse = kl_both_ways(ours[None], theirs[None])[:, 0].tolist()
    shares = [exact64(logits).softmax(-1) for logits in (ours, theirs)]
    ids = list(
        dict.fromkeys(
            int(token) for share in shares for token in share.topk(min(LISTED, count)).indices
        )
    )
    label = first.subject.label

    def change(token: int) -> TokenChange:
        return TokenChange(label(token), token, *(float(share[token]) for share in shares))

    changes = sorted(map(change, ids), key=lambda token: -abs(token.second - token.first))
    tops = (change(int(shares[0].argmax())), change(int(shares[1].argmax())))
    return Difference(kl, reverse, tuple(changes), tops)
