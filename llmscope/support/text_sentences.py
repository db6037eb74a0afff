"""Where the sentences of a text are, by its punctuation and its line ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

_END = re.compile(
    r"""
    [.!?…]++ [)\]}"'”’»*_]*+      # where a blank follows, a sentence ends
    | [。！？｡]++ [」』）”’]*+        # scripts that write no blank after a sentence
    | \n                          # a line is over, as in lists, code and chats
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"(\S+)$")
_ABBREVIATIONS = frozenset(
    (
        *("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "rev", "hon", "gen", "gov", "sen"),
        *("vs", "cf", "e.g", "i.e", "al", "ca", "approx", "z.b", "d.h", "u.a"),
        *("fig", "eq", "vol", "pp", "ed", "eds", "rep", "inc", "ltd", "co", "corp", "dept"),
    )
)
"""Words that a period belongs to, in lower case and without it."""
_BEFORE = 24
"""The most characters of a word that is looked up among the abbreviations."""


def sentence_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Return start and end of each sentence, in characters.

    The spans follow each other without a gap, from the first character to the last: blanks and
    line ends belong to the sentence before them. A line end closes a sentence; a period does not
    after an abbreviation, an initial or the number of a list, or before a lower-case letter. A
    piece without a letter or a digit belongs to the sentence before it.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for end in (*_ends(text), len(text)):
        if end == start:
            continue
        if spans and not any(char.isalnum() for char in text[start:end]):  # a blank line, a rule
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
        start = end
    return tuple(spans)


def _ends(text: str) -> Iterator[int]:
    """Yield the ends of sentences, each after the blanks that follow it."""
    at = 0
    while (match := _END.search(text, at)) is not None:
        space = _SPACE.match(text, match.end())
        after = match.end() if space is None else space.end()
        at, sign = after, match.group()[0]
        if sign in ".!?…" and after == match.end() < len(text):
            continue  # no blank: 3.14, a.b, ?x=1
        if sign != "." or _ends_sentence(text, match, after):
            yield at


def _ends_sentence(text: str, match: re.Match[str], after: int) -> bool:
    """Return whether a period ends a sentence, given where the next word begins."""
    if "\n" in text[match.end() : after] or after == len(text):
        return True
    if text[after].islower():
        return False
    if len(match.group().rstrip(")]}\"'”’»*_")) > 1:
        return True  # more than one sign: "..." or ".?"
    word = _WORD.search(text, max(0, match.start() - _BEFORE), match.start())
    if word is None:
        return True
    before = word.group().lstrip("([{\"'“‘«*_")
    if len(before) == 1 and before.isalpha() and before.isupper():
        return before == "I"  # otherwise the initial of a name
    near = max(0, word.start() - _BEFORE)
    line = max(near, text.rfind("\n", near, word.start()) + 1)
    if before.isdigit() and not text[line : word.start()].strip():
        return False  # the number of a list
    if before.lower() == "no":
        return not text[after].isdigit()
    return before.lower() not in _ABBREVIATIONS
