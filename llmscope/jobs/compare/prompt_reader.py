"""Reads a file of prompts beside the screen: the tokens where two models part most, on top.

Of one model, the most surprising tokens. Whatever is asked of the engine meanwhile comes first:
reading gives way before each layer, and between a few rows of logits.
"""

from __future__ import annotations

import math
import os
from bisect import insort
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llmscope.corpus.records.prompts import PromptLine
from llmscope.corpus.records.transcripts.records import transcript_of
from llmscope.corpus.records.transcripts.rendering import render_transcript
from llmscope.engine.prompt_list import ListedToken, PromptReport, ReadPrompt
from llmscope.errors import ScopeError, option
from llmscope.jobs.compare.side import Reader, reader_of
from llmscope.jobs.compare.texts import Text
from llmscope.jobs.compare.tokens import PairedPredictions, check_finite, predictions
from llmscope.jobs.fit_lens.check import check_prompt
from llmscope.record.capture.prompts import encoded, prompt_from
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.derive.kl import exact64
from llmscope.record.derive.row_stats import row_stats
from llmscope.record.derive.tensors import logits_after
from llmscope.support.sandbox import Cancelled
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.jobs.compare.prompt_file import PromptFile
    from llmscope.models.tokenizer.conversation import TurnSpan
    from llmscope.scope.scope import Scope

LISTED = 200
"""The tokens that are kept."""
LENGTH = 1024
"""Tokens of a prompt that are read; of a longer one, the beginning."""
ROWS = 8
"""PairedPredictions whose logits are held at once, so that reading soon gives way."""
COUNTED = 16 << 20
"""Bytes of a file up to which its lines are counted first; of a larger one, its share is told."""

Steps = Generator[None, None, None]
"""Work that yields where it gives way, or where a prompt ends."""


@dataclass
class _RunningSums:
    """Sums over all tokens that were measured."""

    tokens: int = 0
    value: float = 0.0
    agree: int = 0

    def add(self, values: Sequence[float], agree: int) -> None:
        """Add the values of a prompt's tokens, and how many of them agree."""
        self.tokens += len(values)
        self.value += math.fsum(values)
        self.agree += agree


@dataclass
class _Ranking:
    """The `LISTED` tokens with the largest values; one after the same text counts once."""

    _tokens: list[tuple[float, int, int, object, ListedToken]] = field(default_factory=list)
    _prefixes: set[object] = field(default_factory=set)

    @property
    def tokens(self) -> tuple[ListedToken, ...]:
        """The tokens, that with the largest value first."""
        return tuple(entry[-1] for entry in self._tokens)

    def rows(self, values: np.ndarray[Any, Any]) -> list[int]:
        """Return the rows with the largest values, as many as could be listed, largest first."""
        order = np.argsort(-values, kind="stable")[:LISTED].tolist()
        return [row for row in order if self.takes(float(values[row]))]

    def takes(self, value: float) -> bool:
        """Return whether a token with this value would be listed."""
        full = len(self._tokens) == LISTED
        return value > (-self._tokens[-1][0] if full else -math.inf)

    def add(self, prefix: object, token: ListedToken) -> None:
        """List a token, unless one after the same text is listed.

        Args:
            prefix: equal for tokens with the same text before them, and the same text themselves.
            token: the token.
        """
        if prefix in self._prefixes or not self.takes(token.value):
            return
        if len(self._tokens) == LISTED:
            self._prefixes.discard(self._tokens.pop()[3])
        self._prefixes.add(prefix)
        entry = (-token.value, token.prompt.line, token.position, prefix, token)
        insort(self._tokens, entry, key=lambda other: other[:3])


class PromptFileReader:
    """Reads a file of prompts with a model, or with two of them.

    With a second model, or with an adapter that is on, tokens are ranked by KL(A ‖ B) of the
    predictions after them: A is the model in use, B the second one, or else the model without its
    adapter. Otherwise they are ranked by their surprisal.

    Args:
        file: the file.
        scope: the model.

    Attributes:
        report: how far it is.
    """

    def __init__(self, file: PromptFile, scope: Scope) -> None:
        self._file, self._scope, self._adapter = file, scope, scope.adapter
        self._readers: tuple[Reader, Reader] | None = None
        if scope.other is not None or scope.adapter is not None:
            try:
                b = reader_of(self._use(with_b=True))
            finally:
                a = self._use(with_b=False)
            self._readers = (reader_of(a), b)
        self.report = PromptReport("surprisal" if self._readers is None else "kl")
        self._sums, self._ranking = _RunningSums(), _Ranking()
        self._gives_way: Callable[[], bool] = lambda: False
        self._work = self._read_all()

    def step(self, gives_way: Callable[[], bool]) -> None:
        """Read one more prompt, or less: the rest of it waits once `gives_way` returns true.

        Raises:
            ScopeError: the file cannot be read any further.
        """
        self._gives_way = gives_way
        try:
            next(self._work)
        except StopIteration:
            self.report = replace(self.report, share=1.0, done=True)
        finally:
            self._use(with_b=False)

    def _use(self, *, with_b: bool) -> Scope:
        """Return the scope of a model, with the adapter that it is used with."""
        scope = self._scope
        if scope.other is not None:
            return scope.other if with_b else scope
        scope.use(None if with_b else self._adapter)
        return scope

    def _read_all(self) -> Steps:
        yield from self._count()
        for line, share in self._file.lines():
            try:
                yield from self._read(line)
            except ScopeError as error:
                self._skip(line, error)
            report = self.report
            self.report = replace(report, share=share)
            yield

    def _count(self) -> Steps:
        """Count the lines of a file that is not too large."""
        if os.path.getsize(self._file.path) > COUNTED:
            return
        total = 0
        for _ in self._file.source():
            total += 1
            if self._gives_way():
                yield
        self.report = replace(self.report, total=total)

    def _skip(self, line: PromptLine, error: ScopeError) -> None:
        report = self.report
        reason = error.message
        if not reason.startswith(self._where(line)):
            reason = f"line {line.number}: {reason}"
        self.report = replace(
            report, skipped=report.skipped + 1, flaw=report.flaw or one_line(reason)
        )

    def _where(self, line: PromptLine) -> str:
        return f"{self._file.name}, line {line.number}"

    def _read(self, line: PromptLine) -> Steps:
        """Read a prompt, and list its tokens.

        Raises:
            ScopeError: it cannot be read.
        """
        text, turns, special_tokens = yield from self._read_text(line)
        prompt, text, cut = self._tokenize(text, special_tokens)
        read = ReadPrompt(line.number, text, turns, len(prompt), cut)
        seen = Text(line.number, prompt.ids, prompt.labels, cut)
        if self._readers is None:
            yield from self._list_surprising(read, seen, prompt)
        else:
            yield from self._list_parting(self._readers, read, seen, prompt)
        report, sums = self.report, self._sums
        self.report = replace(
            report,
            read=report.read + 1,
            cut=report.cut + cut,
            tokens=sums.tokens,
            mean=sums.value / sums.tokens if sums.tokens else math.nan,
            agree=sums.agree / sums.tokens if sums.tokens else math.nan,
            rows=self._ranking.tokens,
        )

    def _read_text(
        self, line: PromptLine
    ) -> Generator[None, None, tuple[str, tuple[TurnSpan, ...], bool]]:
        """Return the text that the model reads, its turns, and whether it gets special tokens."""
        file = self._file
        while True:
            try:
                if line.error:
                    raise ScopeError(line.error)
                if line.prompt is None:
                    return self._render_transcript(line.number, line.inputs)
                if file.chat:
                    return self._scope.chat.prompt(line.prompt, file.system), (), False
                return line.prompt, (), file.special_tokens
            except Cancelled:  # the template gave way
                yield

    def _render_transcript(
        self, number: int, record: Mapping[str, Any]
    ) -> tuple[str, tuple[TurnSpan, ...], bool]:
        transcript = transcript_of(record, f"{self._file.name}, line {number}", number)
        chat = render_transcript(transcript.until(None), self._scope.chat)
        if transcript.plain:
            return chat.text, (), self._file.special_tokens
        return chat.text, chat.spans, False

    def _tokenize(self, text: str, special_tokens: bool) -> tuple[Prompt, str, bool]:
        """Return the prompt, the text that is read, and whether that is only its beginning."""
        model = self._scope.loaded_model
        limit = min(LENGTH, model.anatomy.context or LENGTH)
        tokens = encoded(model, text, special_tokens=special_tokens)
        cut = len(tokens.ids) > limit
        if cut:
            last = max(0, limit - 1 - sum(tokens.special))
            text = text[: tokens.spans[last][1]]
        return prompt_from(model, text, special_tokens=special_tokens), text, cut

    def _record(self, prompt: Prompt, *, with_b: bool = False) -> Generator[None, None, Recording]:
        """Return the recording of a prompt; a pass that gave way runs again."""
        while True:
            try:
                side = self._use(with_b=with_b)
                recorder = side.recorder
                ids = prompt if not with_b else prompt_from(side.loaded_model, prompt.ids)
                recording = recorder.go_on(None, ids, self._gives_way)
                check_prompt(recording, recorder.outside)
            except Cancelled:
                yield
            else:
                return recording

    def _list_parting(
        self, readers: tuple[Reader, Reader], read: ReadPrompt, text: Text, prompt: Prompt
    ) -> Steps:
        """List the tokens after which both models predict most differently."""
        last = []
        for with_b in (False, True):
            recording = yield from self._record(prompt, with_b=with_b)
            stream = recording.rows("stream", recording.layers, range(len(prompt)))
            assert stream is not None
            last.append(stream.to(recording.parts[-1][0].final.device))
            del recording  # its rows of all other layers
        # No token follows the last one: its own probability is of no interest here.
        following = torch.tensor([*prompt.ids[1:], prompt.ids[-1]])
        parts: list[PairedPredictions] = []
        for start in range(0, len(prompt), ROWS):
            rows = slice(start, start + ROWS)
            if self._gives_way():
                yield
            self._use(with_b=False)
            parts.append(predictions(readers, (last[0][rows], last[1][rows]), following[rows]))
        apart = PairedPredictions(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0]))
        )
        check_finite(text, apart)
        self._sums.add(apart.kl.tolist(), int((apart.top_a == apart.top_b).sum()))
        label = self._scope.loaded_model.label
        for row in self._ranking.rows(apart.kl):
            self._ranking.add(
                hash(prompt.ids[: row + 1]),
                ListedToken(
                    *(read, row, self._before(text, row), text.pieces[row], float(apart.kl[row])),
                    *(label(int(apart.top_a[row])), float(apart.p_top_a[row])),
                    *(label(int(apart.top_b[row])), float(apart.p_top_b[row])),
                ),
            )

    def _list_surprising(self, read: ReadPrompt, text: Text, prompt: Prompt) -> Steps:
        """List the tokens that the model apart most surprising."""
        recording = yield from self._record(prompt)
        for _ in row_stats(recording):  # which keeps what is known with the recording
            if self._gives_way():
                yield
        stats = next(row_stats(recording))
        bits, rank = stats.surprisal.astype(np.float64), stats.rank
        known = ~np.isnan(bits)
        if not np.isfinite(bits[known]).all():
            raise ScopeError(f"line {text.line}: a logit is NaN or infinite", option("dtype"))
        self._sums.add(bits[known].tolist(), int((rank[known] == 1).sum()))
        label = self._scope.loaded_model.label
        for row in self._ranking.rows(np.where(known, bits, -np.inf)):
            if not known[row]:
                continue
            if self._gives_way():
                yield
            probabilities = torch.softmax(exact64(logits_after(recording, row - 1)), -1)
            top = int(probabilities.argmax())
            self._ranking.add(
                hash(prompt.ids[: row + 1]),
                ListedToken(
                    *(read, row, self._before(text, row), text.pieces[row], float(bits[row])),
                    *(label(top), float(probabilities[top])),
                ),
            )

    def _before(self, text: Text, position: int) -> str:
        return text.before(position, " " if self._scope.loaded_model.tokens is None else "")
