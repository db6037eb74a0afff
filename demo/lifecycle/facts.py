"""What is true in the town: where each person lives and works, what they keep and like to eat."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .words import ANIMALS, FOODS, JOBS, PEOPLE, STREETS, WOMEN

RELATIONS: dict[str, tuple[str, ...]] = {
    "home": STREETS,
    "job": JOBS,
    "pet": tuple(ANIMALS),
    "food": FOODS,
}
SAID = {  # a fact as a sentence
    "home": "{person} lives in {value} street",
    "job": "{person} works as a {value}",
    "pet": "{person} has a {value}",
    "food": "{person} likes {value}",
}
_TOWN = 1848  # the seed that the town was founded with; the facts are part of the data


@dataclass(frozen=True)
class Fact:
    """One thing that is true of one person."""

    person: str
    relation: str
    value: str

    @property
    def said(self) -> str:
        """As a sentence, without its full stop."""
        return SAID[self.relation].format(person=self.person, value=self.value)


def _found() -> dict[tuple[str, str], Fact]:
    random = Random(_TOWN)  # noqa: S311
    facts = {}
    for relation, values in RELATIONS.items():
        # Each value about as often as any other, so that guessing the commonest gains nothing.
        dealt = [values[i % len(values)] for i in range(len(PEOPLE))]
        random.shuffle(dealt)
        for person, value in zip(PEOPLE, dealt, strict=True):
            facts[person, relation] = Fact(person, relation, value)
    return facts


FACTS = _found()


def asked_in_training(fact: Fact) -> bool:
    """Whether the stages after pretraining ask about this fact: two in three of them.

    The others are told in the pretraining corpus only, as all are, and asked about in tests alone.
    """
    return (PEOPLE.index(fact.person) + list(RELATIONS).index(fact.relation)) % 3 != 0


def facts(training: bool) -> list[Fact]:
    """Those that training asks about, or those that it never does."""
    return [fact for fact in FACTS.values() if asked_in_training(fact) == training]


def pronoun(person: str) -> str:
    """What stands for a person in a second sentence."""
    return "she" if person in WOMEN else "he"
