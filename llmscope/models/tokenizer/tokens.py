"""A wrapper of transformers' tokenizer: the offsets of tokens in a text, and the text of ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from llmscope.errors import ScopeError, option
from llmscope.models.tokenizer.chat import Chat
from llmscope.models.tokenizer.token_offsets import Span, align, join, repair, search, uncovered
from llmscope.models.tokenizer.token_text import Pieces
from llmscope.models.tokenizer.worker import failed, worker_for
from llmscope.support.arguments import LONGEST_TEXT
from llmscope.support.text import display_text, shared_length

if TYPE_CHECKING:
    from transformers import BatchEncoding

_SURROGATES = re.compile("[\ud800-\udfff]")
_LISTED = 8  # most characters or words that a notice names
_BROKEN = "the text is not valid Unicode; what is broken became �"


_PER_TOKEN = 16
"""Characters for each token of a context: more than in any text but one of very long words."""


def check_length(text: str, context: int | None = None) -> None:
    """Check that a text is short enough to be tokenized.

    Args:
        text: the text.
        context: maximum tokens of the model; None if it is unlimited or not known.

    Raises:
        ScopeError: it is longer than both `LONGEST_TEXT` and what a context may hold.
    """
    limit = max(LONGEST_TEXT, _PER_TOKEN * (context or 0))
    if len(text) > limit:
        holds = f", and the model's context holds {context} tokens" if context else ""
        raise ScopeError(
            f"the text has {len(text):,} characters, more than {limit:,}{holds}", "a shorter prompt"
        )


@dataclass(frozen=True)
class Encoded:
    """A text as tokens. Every tuple has one entry for each token, in order.

    Attributes:
        text: the text that was encoded.
        ids: the token ids.
        pieces: the raw text of each token, with its leading space; see `Tokens.piece`.
        spans: (start, end) of each token in the text, in characters; equal if it has no place
            there. Several tokens of one character all have that character's span.
        special: whether it is a control token, such as a BOS that the tokenizer added.
        notices: notices for the user, such as characters that no token represents.
    """

    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    spans: tuple[Span, ...]
    special: tuple[bool, ...]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


NO_TOKENS = Encoded("", (), (), (), ())
MARGIN = 8
"""Tokens before the first changed one that are placed again."""


class TextWorker(Protocol):
    """What tokenizes in place of transformers."""

    def encode(self, text: str, special_tokens: bool) -> tuple[list[int], list[Span]]:
        """Return the ids of a text, and where they are in it."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""


class Tokens:
    """A transformers tokenizer.

    Args:
        tokenizer: transformers' own object.
        worker: what gives the ids of texts and the texts of ids in its place; None: it does so
            itself, or in a child process if one of its parts may take any time.

    Attributes:
        tokenizer: transformers' own object, unchanged.
        special_ids: the ids of its control tokens, those of its chat template among them.
    """

    def __init__(self, tokenizer: Any, worker: TextWorker | None = None) -> None:
        self.tokenizer = tokenizer
        self._worker = worker_for(tokenizer) if worker is None else worker
        self._pieces = Pieces(tokenizer)
        self._frame: tuple[list[int], list[int]] | None = None
        self._latest = (False, NO_TOKENS)
        added = tokenizer.added_tokens_decoder.items()
        marked = (token for token, content in added if content.special)
        self.special_ids: frozenset[int] = frozenset((*tokenizer.all_special_ids, *marked))

    @cached_property
    def chat(self) -> Chat:
        """Return the tokenizer's chat template."""
        return Chat(self.tokenizer)

    def encode(self, text: str, special_tokens: bool = True, context: int | None = None) -> Encoded:
        """Encode a text into exactly the tokenizer's own tokens.

        Args:
            text: the text.
            special_tokens: add the special tokens that the tokenizer would add itself.
            context: maximum tokens of the model, which may allow a longer text; see `check_length`.

        Raises:
            ScopeError: the tokenizer fails on the text, or it is too long.
        """
        check_length(text, context)
        # Arguments and files may contain lone surrogates, which no tokenizer accepts.
        clean = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
        fast = bool(self.tokenizer.is_fast)
        ids, offsets = self._cut(clean, special_tokens)
        before, after = self._count_added(clean, ids) if special_tokens else (0, 0)
        same = self._count_same(clean, ids, special_tokens, before, len(ids) - after)
        latest = self._latest[1]
        texts = [*latest.pieces[:same], *self.pieces(ids[same:])]
        special = (*latest.special[:same], *self._which(ids[same:]))
        inner = slice(max(same, before), len(ids) - after)
        place = latest.spans[same][0] if same else 0
        pieces_bytes = [self._pieces.data(token) for token in ids[inner]]
        spans = align(clean, pieces_bytes, special[inner], place)
        if spans is None:  # SentencePiece writes a space as ▁, and so reads a ▁ as a space
            spans = align(clean.replace("▁", " "), pieces_bytes, special[inner], place)
        notices = [] if clean == text else [_BROKEN]
        aligned = spans is not None
        if spans is None:
            own_spans = offsets() if fast else search(clean, texts)
            spans = repair(clean, texts, own_spans, self._normalises)
            notices += _losses(uncovered(clean, spans)) if fast else ()
        else:
            first = latest.spans[:same] or [(0, 0)] * before
            spans = [*first, *spans, *[(len(clean), len(clean))] * after]
        notices += self._unknown(clean, ids, spans)
        notices += self._harms(ids, before, after)
        encoded = Encoded(clean, tuple(ids), tuple(texts), tuple(spans), special, tuple(notices))
        self._latest = (special_tokens, encoded if aligned else NO_TOKENS)
        return encoded

    def _count_same(
        self, text: str, ids: Sequence[int], special_tokens: bool, before: int, end: int
    ) -> int:
        """Return how many tokens are those of the latest text, at the same places in it.

        Args:
            text: the text.
            ids: its tokens.
            special_tokens: whether the tokenizer adds its own.
            before: the number of tokens that it added at the start.
            end: the position of the first token that it added at the end.
        """
        with_special, latest = self._latest
        if with_special != special_tokens:
            return 0
        # The last ones may have been placed with a look at the text after them.
        same = min(shared_length(tuple(ids), latest.ids), end) - MARGIN
        while same > before:
            start = latest.spans[same][0]
            # Between two tokens of one character there is no place in the text.
            apart = start == latest.spans[same - 1][1] and not latest.special[same - 1]
            if apart and latest.text[:start] == text[:start]:
                return same
            same -= MARGIN
        return 0

    def describe(self, ids: Sequence[int]) -> Encoded:
        r"""Return the tokens of ids that came without a text; the text is their concatenation.

        Encoding that text need not give the same ids. Bytes that form no character appear as
        `\xe2`.
        """
        text, spans = join([self._pieces.data(token) for token in ids])
        return Encoded(text, tuple(ids), tuple(self.pieces(ids)), tuple(spans), self._which(ids))

    def _which(self, ids: Sequence[int]) -> tuple[bool, ...]:
        return tuple(token in self.special_ids for token in ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, including special tokens, with white space unchanged.

        Raises:
            ScopeError: the tokenizer fails on the ids.
        """
        if self._worker is not None:
            return self._worker.decode(ids)
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def _cut(
        self, text: str, special_tokens: bool
    ) -> tuple[list[int], Callable[[], Sequence[Span]]]:
        """Return the ids of a text, and a function that returns a fast tokenizer's offsets.

        Few tokenizers need them, and for Python they take three times as long as the ids.

        Raises:
            ScopeError: the tokenizer fails on the text.
        """
        if self._worker is not None:
            ids, spans = self._worker.encode(text, special_tokens)
            return ids, lambda: spans
        batch = self._call(text, special_tokens)

        def offsets() -> Sequence[Span]:
            encodings = batch.encodings
            if encodings is None:  # a class with its own code
                again = self._call(text, special_tokens, return_offsets_mapping=True)
                offsets_found: Sequence[Span] = again["offset_mapping"]
            else:
                offsets_found = encodings[0].offsets
            return offsets_found

        return [int(token) for token in batch["input_ids"]], offsets

    def _call(self, text: str, special_tokens: bool, **settings: bool) -> BatchEncoding:
        try:
            batch: BatchEncoding = self.tokenizer(
                text,
                add_special_tokens=special_tokens,
                return_attention_mask=False,
                return_token_type_ids=False,
                truncation=False,
                verbose=False,
                **settings,
            )
        except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
            raise
        except BaseException as error:  # a Rust panic is not an Exception
            raise failed(error) from error
        return batch

    def piece(self, token: int) -> str:
        r"""Return the raw text of one id, with its leading space.

        Bytes that form no character alone appear as `\xe2`, an id without text as `<id 7>`.
        """
        return self._pieces[token]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the raw text of each id."""
        return [self._pieces[token] for token in ids]

    @property
    def _normalises(self) -> bool:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return backend is None or backend.normalizer is not None

    def _framing(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids that the tokenizer adds before and after any text."""
        if self._frame is None:
            for probe in ("a", "A", text):
                bare, framed = (self._cut(probe, special)[0] for special in (False, True))
                if bare:  # the tokenizer knows some of this text
                    break
            starts = range(len(framed) - len(bare) + 1) if bare else ()
            matches = (start for start in starts if framed[start : start + len(bare)] == bare)
            start = next(matches, None)
            if start is None:
                return [], []
            self._frame = framed[:start], framed[start + len(bare) :]
        return self._frame

    def _count_added(self, text: str, ids: Sequence[int]) -> tuple[int, int]:
        """Return how many tokens the tokenizer added at the start and at the end of a text."""
        before, after = self._framing(text)
        head = len(before) if list(ids[: len(before)]) == before else 0
        tail = len(after) if list(ids[len(ids) - len(after) :]) == after else 0
        return head, tail

    def _harms(self, ids: Sequence[int], before: int, after: int) -> list[str]:
        """Return notices about harmful added special tokens: a repeated first or a trailing one."""
        notices = []
        if before and list(ids[before : before + 1]) == [ids[before - 1]]:
            notices.append(
                f"{self._quote(ids[before])} twice: the text begins with it and the tokenizer "
                f"adds its own; {option('no-special-tokens')} leaves it out"
            )
        if after:
            notices.append(
                f"the tokenizer adds {self._quote(ids[-after])} after the prompt: what comes "
                f"next, comes after that; {option('no-special-tokens')} leaves it out"
            )
        return notices

    def _unknown(self, text: str, ids: Sequence[int], spans: Sequence[Span]) -> list[str]:
        """Return a notice about words that all become the unknown token."""
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        if unknown is None:
            return []
        pairs = zip(ids, spans, strict=True)
        words_unknown = [
            text[start:end].strip() for token, (start, end) in pairs if token == unknown
        ]
        words = [
            word
            for word in dict.fromkeys(words_unknown)
            if word not in ("", self.tokenizer.unk_token)
        ]
        if not words:
            return []
        listed = ", ".join(display_text(word, whitespace=True) for word in words[:_LISTED])
        more = " …" if len(words) > _LISTED else ""
        return [
            f"this tokenizer does not know {listed}{more}: the model reads {self._quote(unknown)}"
        ]

    def _quote(self, token: int) -> str:
        return display_text(self.piece(token), whitespace=True)


def _losses(dropped: Sequence[str]) -> list[str]:
    """Return a notice about characters that no token represents."""
    if not dropped:
        return []
    distinct = list(dict.fromkeys(dropped))
    listed = " ".join(display_text(char, cells=True) for char in distinct[:_LISTED])
    more = " …" if len(distinct) > _LISTED else ""
    count = "1 character" if len(dropped) == 1 else f"{len(dropped)} characters"
    return [f"dropped {count} that this tokenizer does not know: {listed}{more}"]
