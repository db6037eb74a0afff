"""The texts of a corpus as token ids, in shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from llmscope.corpus.records.prompts import PromptSource
from llmscope.errors import ScopeError
from llmscope.jobs.compare.request import CorpusComparison
from llmscope.record.capture.prompts import encoded

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel

CONTEXT = 40
"""Characters of the text before a token that are kept with it."""


@dataclass(frozen=True)
class Line:
    """A text as it is in its file, with the line where it begins, from 1."""

    number: int
    text: str


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


def lines_of(source: PromptSource) -> Iterator[Line]:
    """Yield the texts of a file.

    Raises:
        ScopeError: a line cannot be read.
    """
    for line in source:
        if line.prompt is None:
            raise ScopeError(f"{source.shown}, line {line.number}: {line.error}", "another file")
        yield Line(line.number, line.prompt)


def shards_of(lines: Iterable[Line], size: int) -> Iterator[list[Line]]:
    """Yield the texts of each shard."""
    rest = iter(lines)
    while some := list(islice(rest, size)):
        yield some


def digest_of(lines: Sequence[Line]) -> str:
    """Return a digest of texts and their lines."""
    found = hashlib.sha256()
    for line in lines:
        data = line.text.encode("utf-8", "surrogatepass")
        found.update(f"{line.number} {len(data)} ".encode() + data)
    return found.hexdigest()


def tokenized(subject: LoadedModel, lines: Sequence[Line], how: CorpusComparison) -> list[Text]:
    """Return the texts of a shard as a model reads them, without those that are too short.

    Raises:
        ScopeError: a text cannot be tokenized.
    """
    texts = []
    for line in lines:
        found = encoded(subject, line.text)
        if len(found.ids) < how.skip + 2:
            continue
        ids, pieces = found.ids[: how.length], found.pieces[: how.length]
        texts.append(Text(line.number, tuple(ids), tuple(pieces), len(ids) < len(found.ids)))
    return texts
