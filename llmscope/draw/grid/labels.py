"""Axis labels, with marks on special tokens and on tokens that are parts of one character."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from llmscope.draw.cells import token_text
from llmscope.draw.glyphs import ASCII, UNICODE
from llmscope.draw.symbols import own_text
from llmscope.figure import Figure

# Axes labelled with the text of tokens, in which white space must be visible, and those of them
# that list all tokens of a prompt in order.
TOKEN_AXES = frozenset({"token", "position", "query", "key", "target", "candidate"})
PROMPT_AXES = frozenset({"position", "query", "key"})

_STRAY = re.compile(r"\\x([89a-f][0-9a-f])")


def axis_labels(figure: Figure, axis: int, ascii: bool) -> list[str]:  # noqa: A002
    """Return the labels of an axis as they are shown."""
    names = figure.axes[axis]
    if names.name in PROMPT_AXES:
        special = figure.extra.get("special", ())[names.start :] if names.step == 1 else ()
        return prompt_texts(names.labels, special, ascii)
    if names.name == "neuron" and "names" in figure.extra:  # of experts, before "the rest"
        experts = list(figure.extra["names"])
        return [own_text(label, ascii) for label in (*experts, *names.labels[len(experts) :])]
    return [
        # A label of only white space would be invisible.
        token_text(label, ascii)
        if names.name in TOKEN_AXES or label.isspace()
        else own_text(label.strip(), ascii)
        for label in names.labels
    ]


def prompt_texts(
    labels: Sequence[str],
    special: Sequence[bool],
    ascii: bool,  # noqa: A002
) -> list[str]:
    """Return the tokens of a prompt as they are shown.

    Tokens that are bytes of one character show it and which part of it they are, `🙂²⁄₄`. Special
    tokens get a mark, because a prompt can also contain `<s>` as plain text.

    Args:
        labels: the text of each token.
        special: whether each token is special; empty if unknown.
        ascii: use only ASCII characters.
    """
    texts = [token_text(label, ascii) for label in labels]
    for stray, run in groupby(range(len(labels)), lambda index: bool(_STRAY.search(labels[index]))):
        if stray:
            places = list(run)
            for place, text in _parts([labels[place] for place in places], ascii):
                texts[places[place]] = text
    mark = (ASCII if ascii else UNICODE).special
    for index, marked in enumerate(special):
        if marked and index < len(texts):
            texts[index] = mark + texts[index]
    return texts


def _parts(labels: Sequence[str], ascii: bool) -> Iterator[tuple[int, str]]:  # noqa: A002
    """Yield index and shown text of each label that is only a part of one character.

    A prompt that spells out escaped bytes has labels like these too, but no vocabulary has tokens
    that cut it in the same way.
    """
    data_of_each = [_bytes(label) for label in labels]
    owner = [index for index, data in enumerate(data_of_each) for _ in data]
    at = 0
    for char in b"".join(data_of_each).decode("utf-8", "surrogateescape"):
        size = len(char.encode("utf-8", "surrogateescape"))
        parts = list(dict.fromkeys(owner[at : at + size]))
        for number, index in enumerate(parts if len(parts) > 1 else (), 1):
            blank = data_of_each[index][:1] == b" "
            if len(data_of_each[index]) - blank == owner[at : at + size].count(index):
                drawn = token_text(char, ascii)
                if drawn != char:  # an escaped character: show its bytes, which are shorter
                    drawn = token_text(labels[index][blank:], ascii)
                part = f"[{number}/{len(parts)}]" if ascii else _fraction(number, len(parts))
                yield index, f"{token_text(' ' * blank, ascii)}{drawn}{part}"
        at += size


def _fraction(number: int, count: int) -> str:
    """Format a fraction like `²⁄₄`; both numbers are at most 4, the bytes of a character."""
    return f"{'¹²³⁴'[number - 1]}⁄{'₁₂₃₄'[count - 1]}"


def _bytes(label: str) -> bytes:
    pieces = _STRAY.split(label)  # text and bytes alternate
    return b"".join(
        bytes.fromhex(piece) if index % 2 else piece.encode("utf-8", "surrogatepass")
        for index, piece in enumerate(pieces)
    )
