"""Compare the texts of a corpus shard by shard, and write the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmscope.corpus.progress import JobProgress, Tell, ignore
from llmscope.corpus.records.prompts import PromptSource, PromptText, digest_of, windows
from llmscope.errors import ScopeError, option
from llmscope.export import write
from llmscope.jobs.compare.moved import MostMoved
from llmscope.jobs.compare.request import CorpusComparison
from llmscope.jobs.compare.shards import (
    ComparedShard,
    StoredShard,
    TextRecord,
    read_shard,
    shard_bytes,
)
from llmscope.jobs.compare.side import Group, Side
from llmscope.jobs.compare.texts import Text, tokenize_texts
from llmscope.jobs.compare.tokens import (
    LayerSums,
    PairedPredictions,
    StreamDifferences,
    check_finite,
    predictions,
    stream_differences,
)
from llmscope.jobs.snapshots.finished import pack_value, unpack_value
from llmscope.jobs.state import JobPasses
from llmscope.jobs.store import JobShare
from llmscope.record.capture.padded import SIZE, balanced, grouped
from llmscope.support.fsync import Journal, make_folder, remove_left, writing
from llmscope.support.text import display_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

TOKENS = "tokens"
"""The folder of the table."""


def file_of_shard(out: Path, shard: int) -> Path:
    """Return the file of a shard in the folder of a comparison."""
    return out / TOKENS / f"{JobShare().shard(shard)}.parquet"


def begin(out: Path) -> None:
    """Make the folder of the table, and remove what a killed run left in it.

    Raises:
        ScopeError: it cannot be made.
    """
    with writing(out):
        make_folder(out / TOKENS)
        remove_left((out / TOKENS).glob(".shard-[0-9]*.parquet.*"))


def groups(texts: Sequence[Text]) -> Iterator[tuple[int, list[int]]]:
    """Yield the texts that run together: a number, and their indices.

    Texts of two shards never run together, so that a run that goes on has the same passes.
    """
    yield from balanced(list(enumerate(grouped([len(text.ids) for text in texts], SIZE))))


class ComparisonWriter:
    """Compares the texts of a corpus, and writes a row for each token.

    Args:
        model: the first model, perhaps without its weights.
        sides: both models.
        scope_b: the second model.
        how: what is measured.
        out: the folder where the shards go.
        journal: keeps each pass until its shard is written; None keeps nothing.
        tell: called with a line on where a comparison goes on that was stopped.
    """

    def __init__(
        self,
        model: LoadedModel,
        sides: tuple[Side, Side],
        scope_b: Scope,
        how: CorpusComparison,
        out: Path,
        journal: Journal | None = None,
        tell: Tell = ignore,
    ) -> None:
        self._journal, self._tell = journal, tell
        self._model, self._sides, self._how, self._out = model, sides, how, out
        self._readers = (sides[0].reader, sides[1].reader)
        self._scope_b = scope_b

    @property
    def _shown(self) -> str:
        return display_line(self._out)

    def shards(self, source: PromptSource, pace: JobProgress) -> Iterator[StoredShard]:
        """Yield the shards of all texts, after making those that are missing.

        Raises:
            ScopeError: a shard is of other texts, or cannot be written.
        """
        out, size, number, folder = self._out, self._how.shard_size, -1, self._shown
        begin(out)
        for number, lines in enumerate(windows(source.texts(), size)):
            pace.seen += len(lines)
            path = file_of_shard(out, number)
            digest, stored = digest_of(lines), read_shard(path)
            if stored is None:
                write(
                    path, shard_bytes(self._compute_shard(number, lines, digest, pace)), force=True
                )
                stored = read_shard(path)
                if self._journal is not None:
                    self._journal.clear()
            else:
                pace.resumed(len(lines))
            if stored is None or stored.digest != digest:
                raise ScopeError(f"{folder} was made of other texts", _again())
            yield stored
        if file_of_shard(out, number + 1).exists():
            raise ScopeError(f"{folder} was made of more texts", _again())

    def _compute_shard(
        self, number: int, lines: Sequence[PromptText], digest: str, pace: JobProgress
    ) -> ComparedShard:
        texts = tokenize_texts(self._model, lines, self._how)
        lengths = {text.line for text in texts}
        shard = ComparedShard(digest, [line.number for line in lines if line.number not in lengths])
        moved = MostMoved(self._how.moved)
        results: dict[int, _Result] = {}
        finished = JobPasses(self._journal, shard=number, texts=digest)
        count = sum(map(len, finished.stored))
        pace.going_on(self._tell, count, more=f" in {self._shown}")
        alone = all(side.alone for side in self._sides)
        passes = (
            (at, part)
            for at, group in groups(texts)
            for part in ([[index] for index in group] if alone else [group])
        )
        for at, group in passes:
            if (stored := finished.take(group)) is not None:
                note, arrays = stored
                some_results = unpack_value(note["results"], arrays)
                results.update(zip(group, map(_Result.from_list, some_results), strict=True))
                moved.load(unpack_value(note["moved"], arrays), self._readers)
                pace.resumed(len(group))
                continue
            of_group = [texts[index] for index in group]
            rows, key = (
                [self._how.counting.places(len(text.ids)) for text in of_group],
                Group(number, at, digest[:16]),
            )
            ours, theirs = (side.streams(key, of_group, rows) for side in self._sides)
            with self._scope_b.unchanged():  # torch's settings, whether A is in memory or not
                for index, text, a, b in zip(group, of_group, ours, theirs, strict=True):
                    results[index] = self._measure_text(text, (a, b), moved)
            arrays = dict[str, Any]()
            listed = pack_value([results[index].to_list() for index in group], arrays)
            finished.add(group, arrays, results=listed, moved=pack_value(moved.to_list(), arrays))
            pace.done(len(group))
        pace.resumed(len(shard.skipped))
        for index, text in enumerate(texts):
            self._add(shard, text, results[index])
        with self._scope_b.unchanged():
            shard.moved = moved.records(self._readers, self._how.layers, self._model.label)
        return shard

    def _measure_text(
        self, text: Text, streams: tuple[Tensor, Tensor], moved: MostMoved
    ) -> _Result:
        begin = self._how.skip + 1
        following = torch.tensor(text.ids[begin:])
        predicted = predictions(self._readers, (streams[0][-1], streams[1][-1]), following)
        check_finite(text, predicted)
        apart = stream_differences(self._readers, streams) if self._how.layers else None
        between = " " if self._model.tokens is None else ""

        def about(row: int) -> dict[str, Any]:
            position = begin + row
            return {
                "line": text.line,
                "position": position,
                "context": text.before(position, between),
                "token": text.pieces[position],
                "kl": float(predicted.kl[row]),
                "log_p_a": float(predicted.log_p_a[row]),
                "log_p_b": float(predicted.log_p_b[row]),
                "top_a": self._model.label(int(predicted.top_a[row])),
                "p_top_a": float(predicted.p_top_a[row]),
                "top_b": self._model.label(int(predicted.top_b[row])),
                "p_top_b": float(predicted.p_top_b[row]),
                "parts_after": None if apart is None else _after(int(apart.parts[row])),
            }

        moved.add(text, begin, predicted, streams, about)
        return _Result(predicted, apart)

    def _add(self, shard: ComparedShard, text: Text, result: _Result) -> None:
        predicted, apart, begin = result.found, result.apart, self._how.skip + 1
        count = len(predicted.kl)
        parts = None if apart is None else apart.text_parts
        shard.texts.append(TextRecord(text.line, count, text.cut, parts))
        if apart is not None:
            if shard.layers is None:
                shard.layers = LayerSums.of(len(apart.sums.tokens))
            shard.layers.add(apart.sums)
        label = self._model.label
        shard.add(
            line=[text.line] * count,
            position=range(begin, begin + count),
            id=text.ids[begin:],
            token=text.pieces[begin:],
            kl=predicted.kl.tolist(),
            same_top=(predicted.top_a == predicted.top_b).tolist(),
            log_p_a=predicted.log_p_a.tolist(),
            log_p_b=predicted.log_p_b.tolist(),
            top_a_id=predicted.top_a.tolist(),
            top_a=[label(token) for token in predicted.top_a.tolist()],
            p_top_a=predicted.p_top_a.tolist(),
            top_b_id=predicted.top_b.tolist(),
            top_b=[label(token) for token in predicted.top_b.tolist()],
            p_top_b=predicted.p_top_b.tolist(),
            parts_after=[None] * count if apart is None else map(_after, apart.parts.tolist()),
        )


@dataclass(frozen=True)
class _Result:
    found: PairedPredictions
    apart: StreamDifferences | None

    def to_list(self) -> list[Any]:
        """Return the result as arrays, numbers and mappings of these."""
        apart = self.apart
        if apart is None:
            return [vars(self.found), None]
        return [vars(self.found), [apart.parts, apart.text_parts, vars(apart.sums)]]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> _Result:
        """Return the result that `to_list` returned."""
        predicted, apart = values
        if apart is None:
            return cls(PairedPredictions(**predicted), None)
        parts, text_parts, sums = apart
        return cls(
            PairedPredictions(**predicted), StreamDifferences(parts, text_parts, LayerSums(**sums))
        )


def _after(pair: int) -> int | None:
    """Return the layer of A after which streams part, -1 for the embedding; None: they do not."""
    return None if pair < 0 else pair - 1


def _again() -> str:
    return (
        f"the same texts and options, another {option('out')}, or {option('force')} to begin anew"
    )
