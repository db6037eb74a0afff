"""The tokenizer as llmscope needs it: where each token lies in the text, and what each id says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from llmscope.models.pieces import Pieces
from llmscope.text import display_text

_SURROGATES = re.compile("[\ud800-\udfff]")
_LISTED = 8  # how many dropped characters a notice names


Span = tuple[int, int]


@dataclass(frozen=True)
class Encoded:
    """A text as tokens. Every tuple has one entry for each token, in order.

    Attributes:
        text: the text that was encoded.
        ids: numbers in the vocabulary.
        pieces: what each says, raw, with its leading space; see `Tokens.piece`.
        spans: (start, end), each token's place in the text in characters; equal if it has none.
            The byte-level pieces of one character all have that character's place.
        special: whether it is a control token, such as a BOS that the tokenizer added.
        notices: what a person should know, such as characters that no token stands for.
    """

    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    spans: tuple[Span, ...]
    special: tuple[bool, ...]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


class Tokens:
    """A transformers tokenizer.

    Attributes:
        tokenizer: transformers' own object, unchanged.
        special_ids: the ids of its control tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._pieces = Pieces(tokenizer)
        self.special_ids: frozenset[int] = frozenset(tokenizer.all_special_ids)

    def encode(self, text: str, special_tokens: bool = True) -> Encoded:
        """The tokens of a text, exactly the tokenizer's own.

        Args:
            special_tokens: add the special tokens that the tokenizer would add itself.
        """
        # Arguments and files may smuggle lone surrogates in, which no tokenizer takes.
        clean = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
        fast = bool(self.tokenizer.is_fast)
        batch = self.tokenizer(
            clean,
            add_special_tokens=special_tokens,
            return_offsets_mapping=fast,
            return_attention_mask=False,
            return_token_type_ids=False,
            truncation=False,
            verbose=False,
        )
        ids = [int(token) for token in batch["input_ids"]]
        texts = self.pieces(ids)
        spans = batch["offset_mapping"] if fast else _search(clean, texts)
        spans = _with_leading_space(clean, texts, spans)
        notices = self._notices(text, clean, spans)
        return Encoded(clean, tuple(ids), tuple(texts), tuple(spans), self._which(ids), notices)

    def describe(self, ids: Sequence[int]) -> Encoded:
        """The tokens of ids that came without a text; the text is what the pieces say in a row."""
        texts = tuple(self.pieces(ids))
        ends = tuple(accumulate(map(len, texts)))
        spans = tuple(zip((0, *ends[:-1]), ends, strict=True)) if ends else ()
        return Encoded("".join(texts), tuple(ids), texts, spans, self._which(ids))

    def _which(self, ids: Sequence[int]) -> tuple[bool, ...]:
        return tuple(token in self.special_ids for token in ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included, whitespace left as it is."""
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def piece(self, token: int) -> str:
        r"""The raw text of one id, with its leading space.

        Bytes that are no character by themselves appear as `\xe2`, an id without text as `<id 7>`.
        """
        return self._pieces[token]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The raw text of each id."""
        return [self._pieces[token] for token in ids]

    def _notices(self, text: str, clean: str, spans: Sequence[Span]) -> tuple[str, ...]:
        notices = []
        if clean != text:
            notices.append("the text is not valid Unicode; what is broken became �")
        dropped = _dropped(clean, spans)
        if dropped:
            distinct = list(dict.fromkeys(dropped))
            shown = " ".join(display_text(char) for char in distinct[:_LISTED])
            more = " …" if len(distinct) > _LISTED else ""
            count = "1 character" if len(dropped) == 1 else f"{len(dropped)} characters"
            notices.append(f"dropped {count} that this tokenizer does not know: {shown}{more}")
        return tuple(notices)


def _search(text: str, texts: list[str]) -> list[Span]:
    """Places of pieces for a tokenizer that keeps none: each is looked for after the one before."""
    spans: list[Span] = []
    place = 0
    for said in texts:
        bare = said.strip() or said
        found = text.find(bare, place) if bare else -1
        # Only white space may lie between, or a common letter would be found far too late.
        if found < 0 or text[place:found].strip():
            spans.append((place, place))
        else:
            spans.append((found, found + len(bare)))
            place = found + len(bare)
    return spans


def _with_leading_space(text: str, texts: list[str], spans: Sequence[Span]) -> list[Span]:
    """list[Span] that include the white space a piece begins with, and never step backwards.

    Many tokenizers trim it from their offsets though it is part of the token.
    """
    widened: list[Span] = []
    last_start = last_end = 0
    for said, (start, end) in zip(texts, spans, strict=True):
        if start == end:  # a special token: it stands where the one before ended
            start = end = last_end
        else:
            space = len(said) - len(said.lstrip())
            while space and start > last_end and text[start - 1].isspace():
                start, space = start - 1, space - 1
        start = max(start, last_start)
        end = max(end, start)
        widened.append((start, end))
        last_start, last_end = start, max(last_end, end)
    return widened


def _dropped(text: str, spans: Sequence[Span]) -> list[str]:
    """The visible characters that lie in no token."""
    missing = ""
    place = 0
    for start, end in spans:
        missing += text[place:start]
        place = max(place, end)
    missing += text[place:]
    return [char for char in missing if not char.isspace()]
