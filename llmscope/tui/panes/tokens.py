"""The tokens pane: a table of the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from llmscope.engine.events import Want
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.figure_store import TOKENS, Shown
from llmscope.tui.state.view_state import ViewState


class TokensPane(FigurePane):
    """Each token with its id, surprisal and rank."""

    key: ClassVar[str] = "tokens"
    snapshots: ClassVar[Mapping[str, tuple[str, ...]]] = {"tokens": ("",)}
    least_rows: ClassVar[int] = 4
    most_rows: ClassVar[int | None] = 12
    words: ClassVar[str] = (
        "tokens, surprisal, perplexity, loss, cross-entropy, negative log-likelihood, NLL, "
        "log-probability, logprob, bits, rank, token ids, tokenizer, tokenization, BPE"
    )
    usage: ClassVar[str] = """\
Up and down move by tokens. A number that is not there yet is a dash."""
    changes: ClassVar[bool] = False

    def want(self, state: ViewState) -> Want:
        """Return the want for all tokens, the same figure that the map needs."""
        return TOKENS

    def heading(self, result: Shown) -> str:
        """Return the title with the number of tokens."""
        return f"Tokens · {len(result.tokens)}"
