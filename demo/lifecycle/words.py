"""The words of the town, by what they are. Every text of the lifecycle is made of these alone."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _words("anna clara emma grace ida kate mary olga rosa tina wendy lucy")
MEN = _words("ben david felix henry jack leo noah paul sam tom victor oscar")
PEOPLE = tuple(name for pair in zip(WOMEN, MEN, strict=True) for name in pair)
VISITORS = _words("zoe max nina otto vera hugo")  # of whom nothing is true for long

STREETS = _words("mill church bridge market garden harbour castle forest station tower")
JOBS = _words("baker teacher doctor farmer fisher smith tailor painter sailor cook")
FOODS = _words("bread cheese soup honey cake fish rice apples plums beans")

# animal: its young, its sound, where it sleeps
ANIMALS = {
    "cat": ("kitten", "meow", "basket"),
    "dog": ("puppy", "woof", "kennel"),
    "horse": ("foal", "neigh", "stable"),
    "cow": ("calf", "moo", "barn"),
    "sheep": ("lamb", "baa", "fold"),
    "duck": ("duckling", "quack", "pond"),
    "pig": ("piglet", "oink", "sty"),
    "goat": ("kid", "bleat", "shed"),
    "hen": ("chick", "cluck", "coop"),
    "lion": ("cub", "roar", "den"),
}
# country: its capital, its language
COUNTRIES = {
    "france": ("paris", "french"),
    "italy": ("rome", "italian"),
    "spain": ("madrid", "spanish"),
    "germany": ("berlin", "german"),
    "england": ("london", "english"),
    "poland": ("warsaw", "polish"),
    "greece": ("athens", "greek"),
    "sweden": ("stockholm", "swedish"),
    "japan": ("tokyo", "japanese"),
    "russia": ("moscow", "russian"),
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "high": "low",
    "old": "new",
    "fast": "slow",
    "light": "dark",
    "full": "empty",
    "hard": "soft",
    "long": "short",
    "wet": "dry",
}
COLOURS = _words("red blue green yellow white black brown grey")
TOOLS = _words("hammer saw needle spoon rope knife broom lamp")
THINGS = _words("hat cup boat box coat book chair ball")
WEATHER = _words("sun rain snow wind storm fog ice cloud")
INVENTED = _words(
    "dax wug fep blick zorn mib toma gorp lun kiki bova rill snark pim quop vash yib thole"
)

CLASSES: dict[str, tuple[str, ...]] = {
    "animal": tuple(ANIMALS),
    "colour": COLOURS,
    "tool": TOOLS,
    "food": FOODS,
    "thing": THINGS,
    "weather": WEATHER,
}
COMMON = tuple(word for words in CLASSES.values() for word in words)

MARKS = tuple(".,?!;:")  # written without a blank before them
