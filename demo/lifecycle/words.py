"""The words of the town, by what they are. Every text of the lifecycle is made of these alone."""

from __future__ import annotations

WOMEN = tuple("anna clara emma grace ida kate mary olga rosa tina wendy lucy".split())
MEN = tuple("ben david felix henry jack leo noah paul sam tom victor oscar".split())
PEOPLE = tuple(name for pair in zip(WOMEN, MEN, strict=True) for name in pair)
VISITORS = tuple("zoe max nina otto vera hugo".split())  # of whom nothing is true for long

STREETS = tuple("mill church bridge market garden harbour castle forest station tower".split())
JOBS = tuple("baker teacher doctor farmer fisher smith tailor painter sailor cook".split())
FOODS = tuple("bread cheese soup honey cake fish rice apples plums beans".split())

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
COLOURS = tuple("red blue green yellow white black brown grey".split())
TOOLS = tuple("hammer saw needle spoon rope knife broom lamp".split())
THINGS = tuple("hat cup boat box coat book chair ball".split())
WEATHER = tuple("sun rain snow wind storm fog ice cloud".split())
INVENTED = tuple(
    "dax wug fep blick zorn mib toma gorp lun kiki bova rill snark pim quop vash yib thole".split()
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
