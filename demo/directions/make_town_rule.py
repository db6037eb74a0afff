"""Write the contrast pairs of town-rule.jsonl: examples of an animal's young, and of its sound.

Both texts of a pair name the same animals and end in the same arrow: only the examples tell what is
asked for. A group is an animal that is asked about; no two texts have the same examples.
"""

import itertools
import json
import random
from pathlib import Path

YOUNG = {
    "cat": "kitten",
    "dog": "puppy",
    "horse": "foal",
    "cow": "calf",
    "sheep": "lamb",
    "duck": "duckling",
    "pig": "piglet",
    "goat": "kid",
    "hen": "chick",
    "lion": "cub",
}
SOUND = {
    "cat": "meow",
    "dog": "woof",
    "horse": "neigh",
    "cow": "moo",
    "sheep": "baa",
    "duck": "quack",
    "pig": "oink",
    "goat": "bleat",
    "hen": "cluck",
    "lion": "roar",
}
EACH = 7
"""Pairs of a group."""


def pairs():
    """Yield the pairs."""
    drawn = random.Random(5)  # noqa: S311 - no secret
    shown = list(itertools.permutations(YOUNG, 2))
    drawn.shuffle(shown)
    for asked in YOUNG:
        for _ in range(EACH):
            examples = next(two for two in shown if asked not in two)
            shown.remove(examples)
            texts = {
                kind: ", ".join(f"{animal} -> {rule[animal]}" for animal in examples)
                for kind, rule in (("positive", YOUNG), ("negative", SOUND))
            }
            yield {kind: f"{text}, {asked} ->" for kind, text in texts.items()} | {"group": asked}


if __name__ == "__main__":
    lines = "".join(f"{json.dumps(one)}\n" for one in pairs())
    Path(__file__).with_name("town-rule.jsonl").write_text(lines, encoding="utf-8")
