"""What the town's base was taught, as labels of every word of a text.

A concept is a set of words of texts: all animals, the *bank* of a river, the arrow that asks for a
capital. It is known from how the corpus was made, not from a model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from demo.lifecycle.facts import FACTS, RELATIONS
from demo.lifecycle.prose import NUMBERS
from demo.lifecycle.tasks import KNOWN
from demo.lifecycle.words import (
    ANIMALS,
    CLASSES,
    COLOURS,
    COUNTRIES,
    FOODS,
    INVENTED,
    JOBS,
    MEN,
    OPPOSITES,
    PEOPLE,
    STREETS,
    THINGS,
    TOOLS,
    VISITORS,
    WEATHER,
    WOMEN,
)

GROUPS = {
    "kind": "the word is one of a kind",
    "sense": "a word of two senses, in one of them",
    "text": "the text is of one sort, from its sixth word on",
    "asked": "an arrow, after at least one example of what is asked for",
    "next": "the next word is of one kind, where a life is told",
    "about": "a word of a text about one person, after the name",
    "pronoun": "he or she, for one person",
    "fact": "a name for which one fact holds",
    "word": "one word",
}

Labels = dict[tuple[str, str], list[int]]
"""(group, concept) to the places where it holds."""

_KINDS: dict[str, tuple[str, ...]] = {
    "animal": tuple(ANIMALS),
    "young animal": tuple(said[0] for said in ANIMALS.values()),
    "sound": tuple(said[1] for said in ANIMALS.values()),
    "sleeping place": tuple(said[2] for said in ANIMALS.values()),
    "colour": COLOURS,
    "tool": TOOLS,
    "food": FOODS,
    "thing": THINGS,
    "weather": WEATHER,
    "street": STREETS,
    "job": JOBS,
    "woman": WOMEN,
    "man": MEN,
    "person of the town": PEOPLE,
    "visitor": VISITORS,
    "country": tuple(COUNTRIES),
    "capital": tuple(said[0] for said in COUNTRIES.values()),
    "language": tuple(said[1] for said in COUNTRIES.values()),
    "number": NUMBERS,
    "opposite": (*OPPOSITES, *OPPOSITES.values()),
    "invented word": INVENTED,
}
_KIND_OF: dict[str, list[str]] = defaultdict(list)
for _name, _words in _KINDS.items():
    for _word in _words:
        _KIND_OF[_word].append(_name)
_FACTS_OF: dict[str, list[str]] = defaultdict(list)
for (_person, _relation), _fact in FACTS.items():
    _FACTS_OF[_person].append(f"{_relation} is {_fact.value}")
_EARLY = 5  # words after which a text's sort can be known
_MONEY = {"money", "account", "loan", "rate"}


def sort_of(words: list[str]) -> str:
    """Return which sort of text the words are."""
    held = set(words)
    if "->" in held:
        return "words of a kind" if words.index("->") == 3 else "a relation"
    if held & set(INVENTED):
        return "an invented language"
    if words[0] == "the" and words[1] in ("pirate", "crier", "butler"):
        return words[1]
    if words[1:5] == ["asked", "a", "question", ":"]:
        return "a question"
    if words[0] in VISITORS:
        return "who has what"
    if held & _MONEY:
        return "money"
    if "river" in held:
        return "a river"
    if "interest" in held:
        return "a story"
    return "a life" if held & set(PEOPLE) else "the world"


def labels(words: list[str]) -> Labels:
    """Return the concepts of a text, each with the places of its words (0 is the first word)."""
    found: Labels = defaultdict(list)
    sort = sort_of(words)
    for place, word in enumerate(words):
        found["word", word].append(place)
        for kind in _KIND_OF[word]:
            found["kind", kind].append(place)
        for fact in _FACTS_OF[word]:
            found["fact", fact].append(place)
        if place >= _EARLY:
            found["text", sort].append(place)
    for group, concept, place in _SORTS.get(sort, _nothing)(words):
        found[group, concept].append(place)
    return found


Found = Iterator[tuple[str, str, int]]


def _nothing(words: list[str]) -> Found:
    yield from ()


def _sense(name: str) -> Callable[[list[str]], Found]:
    def places(words: list[str]) -> Found:
        for place, word in enumerate(words):
            if word in ("bank", "interest"):
                yield "sense", f"{word}, of {name}", place

    return places


def _asked(words: list[str]) -> Found:
    """Arrows, by the kind or the relation that every example so far has shown."""
    examples = _examples(words)
    possible = set(KNOWN) | set(CLASSES)
    for number, (question, answer, arrow) in enumerate(examples):
        if number and len(possible) == 1:
            yield "asked", f"asks for {next(iter(possible))}", arrow
        shown = {name for name in CLASSES if len(question) == 3 and answer in CLASSES[name]}
        if len(question) == 1:
            shown = {name for name, known in KNOWN.items() if known.get(question[0]) == answer}
        possible &= shown


def _examples(words: list[str]) -> list[tuple[list[str], str, int]]:
    """Return (question, answer, place of the arrow) of each example."""
    begun, found = 0, []
    for place, word in enumerate(words):
        if word == "->":
            found.append((words[begun:place], words[place + 1], place))
            begun = place + 3
    return found


def _life(words: list[str]) -> Found:
    """What the next word is, whom the text is about, whom a pronoun means."""
    begin, person = next((place, word) for place, word in enumerate(words) if word in PEOPLE)
    for place, word in enumerate(words):
        if place + 1 < len(words):
            for relation, values in RELATIONS.items():
                if words[place + 1] in values:
                    yield "next", f"{relation} comes next", place
        if place > begin and word != person:
            yield "about", f"about {person}", place
        if word in ("he", "she"):
            yield "pronoun", f"{word} for {person}", place


_SORTS: dict[str, Callable[[list[str]], Found]] = {
    "words of a kind": _asked,
    "a relation": _asked,
    "money": _sense("money"),
    "a river": _sense("a river"),
    "a story": _sense("a story"),
    "a life": _life,
    "pirate": _life,
    "crier": _life,
    "butler": _life,
}
