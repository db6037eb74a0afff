"""Small tasks that can only be learnt from the examples in front of them.

A prompt is some examples and a last question without its answer.

- lexicon: a common word in an invented language that is made up for each prompt.
- kind: of three words of three kinds, the one of a certain kind.
- relation: a known relation (young, sound, capital, …), but which one only the examples tell.

Held out: one in eight of all threes of words never occurs in a training example (`held_out`). A
language is drawn anew for every prompt, of more than 10¹⁸ that there are: those that are asked of
were in no training text either. Of a relation nothing is new but which questions stand together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from zlib import crc32

from .words import ANIMALS, CLASSES, COMMON, COUNTRIES, INVENTED, OPPOSITES

Example = tuple[str, str]
LEXICON = 8  # words of an invented language


@dataclass(frozen=True)
class Task:
    """Examples (question, answer), drawn one after the other by one rule."""

    name: str
    rule: str
    draw: Callable[[Random, bool], Example]


def held_out(*words: str) -> bool:
    """Whether a combination of words is kept from training: one in eight, in any order."""
    return crc32(" ".join(sorted(words)).encode()) % 8 == 0


def _known() -> dict[str, dict[str, str]]:
    return {
        "young": {animal: said[0] for animal, said in ANIMALS.items()},
        "sound": {animal: said[1] for animal, said in ANIMALS.items()},
        "sleeps": {animal: said[2] for animal, said in ANIMALS.items()},
        "capital": {country: said[0] for country, said in COUNTRIES.items()},
        "language": {country: said[1] for country, said in COUNTRIES.items()},
        "opposite": OPPOSITES | {other: one for one, other in OPPOSITES.items()},
    }


KNOWN = _known()
# What stands between a question and its answer. Nothing in a lexicon: there the head that looks for
# what came after the same word before finds the answer by itself, and can be seen doing it.
SIGNS = {"lexicon": "", "kind": " ->", "relation": " ->"}


def lexicon(random: Random, size: int = LEXICON) -> Task:
    """An invented language of some words; each example is one of them."""
    pairs = list(zip(random.sample(COMMON, size), random.sample(INVENTED, size), strict=True))

    def draw(random: Random, held: bool) -> Example:
        return random.choice(pairs)

    return Task("lexicon", " ".join(word for word, _ in pairs), draw)


def kind(random: Random) -> Task:
    """The word of one kind, such as the animal, among three of three kinds."""
    wanted = random.choice(list(CLASSES))

    def draw(random: Random, held: bool) -> Example:
        words = _three(random, held, wanted)
        return " ".join(words), next(word for word in words if word in CLASSES[wanted])

    return Task("kind", wanted, draw)


def relation(random: Random) -> Task:
    """A relation that is known from elsewhere; a word may stand in several of them."""
    name = random.choice(list(KNOWN))

    def draw(random: Random, held: bool) -> Example:
        questions = [word for word in KNOWN[name] if held_out(name, word) == held]
        word = random.choice(questions or list(KNOWN[name]))
        return word, KNOWN[name][word]

    return Task("relation", name, draw)


def _three(random: Random, held: bool, wanted: str | None = None) -> list[str]:
    """Three words of three kinds, in any order, one of them of the kind that is wanted."""
    while True:
        kinds = random.sample([name for name in CLASSES if name != wanted], 3)
        if wanted is not None:
            kinds[0] = wanted
        words = [random.choice(CLASSES[name]) for name in kinds]
        if held_out(*words) == held:
            random.shuffle(words)
            return words


MAKERS: dict[str, Callable[[Random], Task]] = {
    "lexicon": lexicon,
    "kind": kind,
    "relation": relation,
}


def written(name: str, examples: list[Example]) -> str:
    """Examples as text: `cow -> moo , dog -> woof`; of a lexicon, `cat dax , sun wug`."""
    return " , ".join(f"{question}{SIGNS[name]} {answer}" for question, answer in examples)


def lesson(random: Random) -> str:
    """Examples of one task, for the pretraining corpus: nothing held out is in it."""
    name = random.choices(list(MAKERS), (4, 3, 2))[0]
    size = random.randint(2, LEXICON)
    task = lexicon(random, size) if name == "lexicon" else MAKERS[name](random)
    count = {"lexicon": 2 * size + 2, "relation": random.randint(4, 12)}.get(name, 8)
    return written(name, [task.draw(random, False) for _ in range(count)]) + " ."


def prompt(random: Random, name: str, shots: int) -> tuple[str, str]:
    """A question after some examples, and its answer; all of it held out where that is possible.

    In `lexicon` the question is one of eight words and the examples are different ones of these:
    after k examples it can be known in k of 8 cases, after 8 in all. In the others the question
    differs from the examples.
    """
    if name == "lexicon":
        pairs: dict[str, str] = {}
        task = lexicon(random)
        while len(pairs) < LEXICON:
            pairs.update([task.draw(random, True)])
        shown = random.sample(list(pairs.items()), shots)
        question = random.choice(list(pairs.items()))
    else:
        task, held = MAKERS[name](random), name != "relation"  # which has too few words for that
        shown, question = [], task.draw(random, held)
        while len(shown) < shots:
            example = task.draw(random, held)
            if example != question:
                shown.append(example)
    return " , ".join(filter(None, (written(name, shown), question[0] + SIGNS[name]))), question[1]
