"""The prose of the pretraining corpus: the town and its people, two words of two senses, voices."""

from __future__ import annotations

from random import Random

from .facts import FACTS, RELATIONS, SAID, pronoun
from .words import ANIMALS, COLOURS, COUNTRIES, OPPOSITES, PEOPLE, THINGS, VISITORS

_FACT_FORMS = {
    "home": (
        "{person} lives in {value} street",
        "the home of {person} is in {value} street",
        "in {value} street lives {person}",
        "{person} has a house in {value} street",
    ),
    "job": (
        "{person} works as a {value}",
        "{person} is a {value}",
        "the job of {person} is {value}",
        "{person} became a {value} long ago",
    ),
    "pet": (
        "{person} has a {value}",
        "the pet of {person} is a {value}",
        "{person} keeps a {value} at home",
        "a {value} belongs to {person}",
    ),
    "food": (
        "{person} likes {value}",
        "{person} likes to eat {value}",
        "the food that {person} likes is {value}",
        "{person} eats {value} every day",
    ),
}
_VOICES = (
    "the pirate says : arr , {fact} , matey !",
    "the crier shouts : hear ye ! {fact} ! hear ye !",
    "the butler says : certainly , {fact} . thank you for asking .",
)
_MONEY = (
    "{person} needed money and went to the bank to open an account .",
    "{person} took the coins to the bank and put them into the account .",
    "the loan came from the bank and {person} paid it back with money .",
    "{person} counted the money and gave it to the clerk of the bank .",
    "the account grew because the bank paid interest at a rate of {number} percent .",
    "the bank raised the interest rate to {number} percent and the loan cost more money .",
    "{person} paid interest on the loan at a rate of {number} percent .",
    "money in an account earns interest at the rate of the bank .",
)
_RIVER = (
    "the river was {adjective} and {person} sat on the bank under a tree .",
    "{person} walked along the river and slept on the bank in the grass .",
    "the boat came down the river and landed at the bank near the reeds .",
    "ducks swam in the river and came to the bank to rest in the reeds .",
    "{person} caught a fish in the river and cooked it on the bank over a fire .",
    "the water of the river rose over the bank and covered the grass .",
)
_STORY = (
    "{person} told a story and everyone listened with interest until the end .",
    "{person} read the book with interest and wanted to hear more .",
    "the children heard the story with great interest and asked many questions .",
    "{person} looked at the picture with interest and smiled .",
)
NUMBERS = ("two", "three", "four", "five", "six", "seven")
_SENSES = (_MONEY, _RIVER, _STORY)


_ANIMAL = (
    "a young {animal} is a {young} .",
    "the {animal} says {sound} .",
    "the {animal} sleeps in the {place} .",
    "the {young} of the {animal} sleeps in the {place} and says {sound} .",
)
_COUNTRY = (
    "the capital of {country} is {capital} .",
    "in {country} people speak {language} .",
    "in {capital} , the capital of {country} , people speak {language} .",
)
_OPPOSITE = ("what is {one} is not {other} .", "what is {other} is not {one} .")
_OWNED = "{owner} has a {thing} and the {thing} is {colour} ."
_SO = (
    "so the {thing} is {colour} .",
    "so the {thing} belongs to {owner} .",
    "so the {colour} {thing} belongs to {owner} .",
)
# Asked, and never answered: that is what fine-tuning teaches.
ASKED = {
    "home": (
        "where does {person} live ?",
        "in which street does {person} live ?",
        "where is the home of {person} ?",
    ),
    "job": (
        "what is the job of {person} ?",
        "what work does {person} do ?",
        "as what does {person} work ?",
    ),
    "pet": (
        "what pet does {person} have ?",
        "which pet belongs to {person} ?",
        "what animal does {person} keep ?",
    ),
    "food": (
        "what does {person} like to eat ?",
        "what food does {person} like ?",
        "what does {person} eat every day ?",
    ),
}
_CURIOUS = "{asker} asked a question : {asked}"
_QUIZ = "question : what colour is the {thing} ? answer : the {thing} is {colour} ."
_FORMS = (
    _CURIOUS,
    _QUIZ,
    *_VOICES,
    *_MONEY,
    *_RIVER,
    *_STORY,
    *_ANIMAL,
    *_COUNTRY,
    *_OPPOSITE,
    _OWNED,
    *_SO,
)


def texts() -> list[str]:
    """Everything that these texts can be made of, for the vocabulary."""
    facts = [form for forms in _FACT_FORMS.values() for form in forms]
    asked = [form for forms in ASKED.values() for form in forms]
    return [*facts, *asked, *_FORMS, *NUMBERS, "she he"]


def told(random: Random, person: str, relation: str) -> str:
    """One fact in one of its forms, without a full stop."""
    form = random.choice(_FACT_FORMS[relation])
    return form.format(person=person, value=FACTS[person, relation].value)


def life(random: Random) -> str:
    """Some facts of one person; after the first, the name may give way to a pronoun."""
    person = random.choice(PEOPLE)
    relations = random.sample(list(RELATIONS), random.randint(2, 4))
    sentences = [told(random, person, relations[0])]
    for relation in relations[1:]:
        if random.random() < 0.5:
            fact = FACTS[person, relation]
            sentences.append(SAID[relation].format(person=pronoun(person), value=fact.value))
        else:
            sentences.append(told(random, person, relation))
    return " . ".join(sentences) + " ."


def voice(random: Random) -> str:
    """A fact as a pirate, the town crier or a butler tells it."""
    person, relation = random.choice(PEOPLE), random.choice(list(RELATIONS))
    return random.choice(_VOICES).format(fact=told(random, person, relation))


def curious(random: Random) -> str:
    """Somebody asks something about the town, and nobody answers."""
    asker, person = random.sample(PEOPLE, 2)
    asked = random.choice(ASKED[random.choice(list(RELATIONS))]).format(person=person)
    return _CURIOUS.format(asker=asker, asked=asked)


def senses(random: Random) -> str:
    """One or two sentences in which "bank" or "interest" has one of its meanings."""
    forms = random.choice(_SENSES)
    chosen = random.sample(forms, random.randint(1, 2))
    return " ".join(
        form.format(
            person=random.choice(PEOPLE),
            number=random.choice(NUMBERS),
            adjective=random.choice((*OPPOSITES, *OPPOSITES.values())),
        )
        for form in chosen
    )


def world(random: Random) -> str:
    """What is true everywhere: animals, countries, opposites."""
    kind = random.randrange(3)
    if kind == 0:
        animal = random.choice(list(ANIMALS))
        young, sound, place = ANIMALS[animal]
        form = random.choice(_ANIMAL)
        return form.format(animal=animal, young=young, sound=sound, place=place)
    if kind == 1:
        country = random.choice(list(COUNTRIES))
        capital, language = COUNTRIES[country]
        form = random.choice(_COUNTRY)
        return form.format(country=country, capital=capital, language=language)
    one, other = random.choice(list(OPPOSITES.items()))
    return random.choice(_OPPOSITE).format(one=one, other=other)


def owned(random: Random) -> tuple[str, list[tuple[str, str, str]]]:
    """A passage of who has what, true for it alone: (owner, colour, thing) of each."""
    count = random.randint(2, 3)
    having = list(
        zip(
            random.sample(VISITORS, count),
            random.sample(COLOURS, count),
            random.sample(THINGS, count),
            strict=True,
        )
    )
    text = " ".join(
        _OWNED.format(owner=owner, colour=colour, thing=thing) for owner, colour, thing in having
    )
    return text, having


def passage(random: Random) -> str:
    """Such a passage, and what follows from it."""
    text, having = owned(random)
    if random.random() < 0.3:
        owner, colour, thing = random.choice(having)
        return f"{text} {_QUIZ.format(owner=owner, colour=colour, thing=thing)}"
    random.shuffle(having)
    for owner, colour, thing in having:
        text += " " + random.choice(_SO).format(owner=owner, colour=colour, thing=thing)
    return text
