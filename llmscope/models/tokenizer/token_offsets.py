"""Compute the offsets of tokens in their text, in characters.

Most vocabularies are lossless: the concatenated bytes of the tokens are the text, and `align` gives
exact offsets whatever the tokenizer's own are. Others lose something (case, accents, spaces,
unknown characters): then `repair` corrects the tokenizer's offsets, and `search` finds offsets for
a tokenizer that has none.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

Span = tuple[int, int]
_INK = re.compile(r"\S")


def align(
    text: str, tokens: Sequence[bytes], control: Sequence[bool], place: int = 0
) -> list[Span] | None:
    """Return the spans of tokens whose concatenated bytes are the text; None if they are not.

    Several tokens of one character all get its span. A control token that is not in the text, and
    a space that the tokenizer put before a word, have an empty span.

    Args:
        text: the text.
        tokens: the bytes of each token.
        control: which tokens may be absent from the text, such as those that a tokenizer adds.
        place: where in the text the first of them begins; other tokens are before it.
    """
    rest = text[place:]
    data = rest.encode()
    for prefixed in (None,) if place else (False, True):
        bounds = _bounds(data, tokens, control, prefixed)
        if bounds is not None and len(data) == len(rest):  # each character is one byte
            return [(start + place, end + place) for start, end in bounds] if place else bounds
        if bounds is not None:
            places = _places(rest)
            inside = [
                (_inside(places, start), _inside(places, max(start, end - 1)) + (end > start))
                for start, end in bounds
            ]
            return [(start + place, end + place) for start, end in inside]
    return None


def _bounds(
    data: bytes, tokens: Sequence[bytes], control: Sequence[bool], prefixed: bool | None
) -> list[Span] | None:
    """Return the spans in bytes; None if the tokens are not the text.

    Args:
        data: the text in UTF-8.
        tokens: the bytes of each token.
        control: which tokens may be absent from the text.
        prefixed: assume that the tokenizer put a space before the text; None: the data is the end
            of a text.
    """
    bounds: list[Span] = []
    at = 0
    # At the start of a stretch that the tokenizer may treat as a separate text.
    begins = prefixed is not None
    for token, free in zip(tokens, control, strict=True):
        piece = token
        blank = begins and not free and piece[:1] == b" "
        first = at == 0 and prefixed is not None
        if blank and (prefixed if first else not data.startswith(piece, at)):
            piece = piece[1:]
        if data.startswith(piece, at):
            bounds.append((at, at + len(piece)))
            at += len(piece)
        elif free:
            bounds.append((at, at))
        else:
            return None
        begins = free
    return bounds if at == len(data) else None


def join(tokens: Sequence[bytes]) -> tuple[str, list[Span]]:
    r"""Return the concatenated text of tokens and their spans; a stray byte appears as `\xe2`."""
    joined = b"".join(tokens).decode("utf-8", "surrogateescape")
    chars = [_readable(char) for char in joined]
    starts = [0, *accumulate(map(len, chars))]
    places = _places(joined)
    spans: list[Span] = []
    at = 0
    for piece in tokens:
        first = _inside(places, at)
        at += len(piece)
        last = _inside(places, at - 1) + 1 if piece else first
        spans.append((starts[first], starts[last]))
    return "".join(chars), spans


def _places(text: str) -> list[int]:
    """Return the UTF-8 offset of each character and of the end of the text."""
    return [0, *accumulate(len(char.encode("utf-8", "surrogateescape")) for char in text)]


def _inside(places: Sequence[int], byte: int) -> int:
    """Return the index of the character that a byte belongs to."""
    return bisect_right(places, byte) - 1


def _readable(char: str) -> str:
    return f"\\x{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else char


def search(text: str, texts: Sequence[str]) -> list[Span]:
    """Find the spans of tokens by searching each after the one before, without offsets."""
    spans: list[Span] = []
    place = ink = 0
    for piece in texts:
        bare = piece.strip() or piece
        ink = ink if ink > place else _next_ink(text, place)
        # Only white space may lie between, or a common letter would be found far too far right.
        if bare.isspace():
            start = text.find(bare, place, ink)
        else:
            start = ink if bare and text.startswith(bare, ink) else -1
        if start >= 0:
            spans.append((start, start + len(bare)))
            place = start + len(bare)
        else:
            spans.append((place, place))
    return spans


def _next_ink(text: str, place: int) -> int:
    """Return the first position from `place` on that is not white space."""
    ink = _INK.search(text, place)
    return len(text) if ink is None else ink.start()


def repair(
    text: str, texts: Sequence[str], spans: Sequence[Span], normalised: bool = False
) -> list[Span]:
    """Return spans that include the white space of their tokens and never step backwards.

    Many tokenizers trim white space from their offsets although it is part of the token.

    Args:
        text: the text.
        texts: the text of each token.
        spans: the tokenizer's own offsets.
        normalised: the tokenizer normalizes a text first. Combining characters that it merged or
            removed then belong to the character before them. Where it inserted a space next to a
            mark, its offsets place the mark on the space after it: the token is then found before
            its offsets.
    """
    repaired: list[Span] = []
    followings = [len(text)]  # the start of the next token with a span, from the last token on
    for start, end in reversed(spans[1:]):
        followings.append(start if end > start else followings[-1])
    last_start = last_end = 0
    for index, (piece, (start, end)) in enumerate(zip(texts, spans, strict=True)):
        if start == end:  # a special token: it is placed at the end of the one before
            start = end = last_end
        else:
            if normalised:
                start, end = _repair_span(text, piece, last_end, start, end)
            space = len(piece) - len(piece.lstrip())
            while space and start > last_end and text[start - 1].isspace():
                start, space = start - 1, space - 1
            following = followings[len(spans) - 1 - index]
            space = len(piece) - len(piece.rstrip())
            while space and end < following and text[end].isspace():
                end, space = end + 1, space - 1
            while normalised and end < following and _continues(text[end]):
                end += 1
        start = max(start, last_start)
        end = max(end, start)
        repaired.append((start, end))
        last_start, last_end = start, max(last_end, end)
    return repaired


def _repair_span(text: str, piece: str, last: int, start: int, end: int) -> Span:
    """Return a token's span, corrected where the tokenizer's offsets miss part of its text.

    If its first characters lie right before `start`, the span is extended to them; if its whole
    text lies in the gap before `start`, and not at the offsets, it is moved there.

    Args:
        text: the text.
        piece: the token's text.
        last: where the tokens before end.
        start, end: the tokenizer's offsets.
    """
    bare, gap = piece.strip().casefold(), text[last:start]
    first = end - len(bare)
    if last <= first < start and text[first:end].casefold() == bare:
        return first, end
    if bare and gap.strip().casefold() == bare != text[start:end].strip().casefold():
        start = last + len(gap) - len(gap.lstrip())
        return start, start + len(gap.strip())
    return start, end


def _continues(char: str) -> bool:
    """Return whether a character extends the one before: a mark, or a Hangul vowel or tail."""
    return unicodedata.category(char)[0] == "M" or 0x1160 <= ord(char) <= 0x11FF


def uncovered(text: str, spans: Sequence[Span]) -> list[str]:
    """Return the visible characters that lie in no token."""
    missing: list[str] = []
    place = 0
    for start, end in spans:
        missing.append(text[place:start])
        place = max(place, end)
    missing.append(text[place:])
    return [char for part in missing for char in part if not char.isspace()]
