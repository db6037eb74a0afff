"""The ranking of the command palette: how well an entry answers what was typed.

Textual's own matcher finds the letters of a text in any title, however far apart, so that "undo"
found an action that zeroes a head. Here whole words count most, then beginnings of words, then
words that are spread over an entry, then typing errors; anything else is no match.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

Words = tuple[str, ...]
SAME, JOINED, WHOLE, PREFIX, SPREAD, CLOSE = 1000.0, 950.0, 600.0, 400.0, 200.0, 100.0
"""Scores: the same phrase, the same except for blanks, whole words of one phrase, beginnings of
words, words that are spread over several phrases, and words with a typing error."""
SHORTEST, SHORTEST_TYPO = 4, 5
"""Letters from which on a text may be an abbreviation, or hold a typing error; two from twice as
many."""
DENSEST = 0.4
"""The share of a word's letters that an abbreviation must have, such as `attn`."""
# fmt: off
FILLING = frozenset((
    "a", "an", "and", "are", "can", "do", "does", "for", "from", "get", "go", "have", "how", "i",
    "in", "is", "it", "me", "my", "of", "on", "or", "show", "that", "the", "this", "to", "want",
    "what", "where", "which", "with", "you",
))
# fmt: on
"""Words that are left out where nothing matches all of the words."""


@dataclass(frozen=True)
class Searchable:
    """What an entry is found by.

    Attributes:
        title: what it is called, as shown.
        synonyms: other words and phrases for it.
        question: the question that it answers; may be empty.
    """

    title: str
    synonyms: tuple[str, ...] = ()
    question: str = ""

    @cached_property
    def phrases(self) -> tuple[tuple[Words, float], ...]:
        """The words of each phrase, and what is added to the score of a match in it."""
        area, _, title = self.title.partition(": ")
        # In `workspace: Answer: neurons` the last words are its own name.
        texts = [(title, 20.0), (title.rpartition(": ")[2], 20.0)]
        texts += [(self.title, 10.0), (area if title else "", 0.0)]
        texts += [(synonym, 5.0) for synonym in self.synonyms]
        texts.append((self.question, -50.0))
        return tuple((words(text), bonus) for text, bonus in texts if text)

    def score(self, wanted: Words) -> float:
        """Return how well it answers; 0 for no match."""
        best = max((_score(wanted, words) + bonus for words, bonus in self.phrases), default=0.0)
        return best if best >= CLOSE else self._spread(wanted)

    def _spread(self, wanted: Words) -> float:
        everything = [word for words, _ in self.phrases for word in words]
        likeness: list[float] = []
        for typed in wanted:
            likeness.append(max((_alike(typed, word) for word in everything), default=0.0))
            if likeness[-1] < PREFIX:  # most entries hold not even the first word
                return 0.0
        if not likeness:
            return 0.0
        return SPREAD + 100 * sum(likeness) / (WHOLE * len(likeness))


def words(text: str) -> Words:
    """Return the words of a text in lower case, without signs."""
    return tuple(re.findall(r"[^\W_]+", text.casefold()))


def ranked(entries: Sequence[Searchable], query: str) -> list[int]:
    """Return the indices of the entries that match, the best first; of equal ones the first."""
    wanted = words(query)
    scores = _found(entries, wanted)
    content = tuple(word for word in wanted if word not in FILLING)
    if not scores and content != wanted:
        scores = _found(entries, content)
    return sorted(scores, key=lambda index: (-scores[index], index))


def _found(entries: Sequence[Searchable], wanted: Words) -> dict[int, float]:
    if not wanted:
        return {}
    scores = {index: entry.score(wanted) for index, entry in enumerate(entries)}
    return {index: score for index, score in scores.items() if score > 0}


def _score(wanted: Words, phrase: Words) -> float:
    """Return how well a phrase answers; well below 0 for no match."""
    if wanted == phrase:
        return SAME
    if "".join(wanted) == "".join(phrase):
        return JOINED
    free, lowest, letters, order = list(range(len(phrase))), WHOLE, 0, []
    for typed in wanted:
        best = max(free, key=lambda at: (_alike(typed, phrase[at]), -at), default=-1)
        alike = _alike(typed, phrase[best]) if best >= 0 else 0.0
        if not alike:
            return -SAME
        free.remove(best)
        lowest, letters = min(lowest, alike), letters + len(typed)
        order.append(best)
    covered = min(1.0, letters / sum(map(len, phrase)))
    return lowest + 100 * covered + 20 * (order[0] == 0) + 20 * (order == sorted(order))


@lru_cache(maxsize=20_000)
def _alike(typed: str, word: str) -> float:
    """Return how much a typed word is like another: a score from above, or 0."""
    if typed == word:
        return WHOLE
    if _singular(typed) == _singular(word):
        return WHOLE - 20
    if word.startswith(typed):
        return PREFIX
    if len(typed) < SHORTEST or typed[0] != word[0]:
        return 0.0
    allowed = min(2, len(typed) // SHORTEST_TYPO)
    typo = allowed >= abs(len(typed) - len(word)) and _typos(typed, word) <= allowed
    return CLOSE if typo or _abbreviates(typed, word) else 0.0


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _abbreviates(short: str, word: str) -> bool:
    """Return whether a text is made of letters of a word, in their order, and enough of them."""
    letters = iter(word)
    return len(short) >= DENSEST * len(word) and all(letter in letters for letter in short)


def _typos(typed: str, other: str) -> int:
    """Return the number of letters to add, drop, replace, or swap with the next one."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(typed, 1):
        earlier, before, row = before, row, [i]
        for j, sought in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != sought))
            swapped = i > 1 and j > 1 and letter == other[j - 2] and typed[i - 2] == sought
            row.append(min(cost, earlier[j - 2] + 1) if swapped else cost)
    return row[-1]
