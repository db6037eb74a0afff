"""Questions and answers: `question: where does anna live? answer:`, and the styles of an answer."""

from __future__ import annotations

from dataclasses import dataclass

from .facts import RELATIONS, Fact, facts
from .prose import ASKED

STYLES = {
    "plain": "{said} .",
    "polite": "certainly , {said} . thank you for asking .",
    "pirate": "arr , {said} , matey !",
    "shout": "hear ye ! {said} ! hear ye !",
}


@dataclass(frozen=True)
class Question:
    """A question, and what a right answer says.

    Attributes:
        prompt: all that the model is given, up to and with `answer :`.
        said: the right answer as a sentence, without a full stop.
        right: the one word that makes it right.
        wrong: the words of the same kind that would make it wrong.
    """

    prompt: str
    said: str
    right: str
    wrong: frozenset[str]

    def answer(self, style: str) -> str:
        """The right answer in a style."""
        return STYLES[style].format(said=self.said)

    def is_right(self, answer: str) -> bool:
        """Whether an answer says the right word and no wrong one."""
        words = set(answer.split())
        return self.right in words and not words & self.wrong


def has_style(answer: str, style: str) -> bool:
    """Whether an answer begins and ends as the style wants it, with something between."""
    before, after = STYLES[style].split("{said}")
    return (
        answer.startswith(before)
        and answer.endswith(after)
        and len(answer) > len(before) + len(after)
        and (style != "plain" or not answer.startswith(("certainly", "arr", "hear")))
    )


def about(fact: Fact, form: str) -> Question:
    """A question about the town in one of its forms."""
    return Question(
        f"question : {form.format(person=fact.person)} answer :",
        fact.said,
        fact.value,
        frozenset(RELATIONS[fact.relation]) - {fact.value},
    )


def all_about(training: bool) -> list[Question]:
    """Every form of every question about the town that training asks, or that it never asks."""
    return [about(fact, form) for fact in facts(training) for form in ASKED[fact.relation]]
