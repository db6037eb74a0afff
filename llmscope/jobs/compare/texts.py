"""The texts of a corpus as token ids, in shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.corpus.records.prompts import PromptText
from llmscope.jobs.compare.request import CorpusComparison
from llmscope.record.capture.prompts import encoded

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel

CONTEXT = 40
"""Characters of the text before a token that are kept with it."""


@dataclass(frozen=True)
class Text:
    """A text that is compared.

    Attributes:
        line: the line where it begins in its file.
        ids, pieces: its tokens.
        cut: whether tokens beyond the length were left out.
    """

    line: int
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    cut: bool

    def before(self, position: int, between: str) -> str:
        """Return the text just before a token.

        Args:
            position: that of the token.
            between: what to put between two tokens: a space for ids, for pieces nothing.
        """
        return between.join(self.pieces[:position])[-CONTEXT:]


def tokenize_texts(
    model: LoadedModel, lines: Sequence[PromptText], how: CorpusComparison
) -> list[Text]:
    """Return the texts of a shard as a model reads them, without those that are too short.

    Raises:
        ScopeError: a text cannot be tokenized.
    """
    texts = []
    for line in lines:
        tokens = encoded(model, line.text)
        if len(tokens.ids) < how.counting.shortest:
            continue
        ids, pieces = tokens.ids[: how.length], tokens.pieces[: how.length]
        texts.append(Text(line.number, tuple(ids), tuple(pieces), len(ids) < len(tokens.ids)))
    return texts
