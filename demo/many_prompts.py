"""Write the prompts of docs/batch.md: 200 lines in which the built-in model names a young animal.

    python -m demo.many_prompts > animals.jsonl

Each prompt gives up to two examples and asks for one more; `gold` is the right token, `examples`
the number of examples.
"""

from __future__ import annotations

import itertools
import json
import random

YOUNG = {
    "cat": "kitten",
    "dog": "puppy",
    "cow": "calf",
    "sheep": "lamb",
    "duck": "duckling",
    "goat": "kid",
    "horse": "foal",
    "hen": "chick",
    "pig": "piglet",
}
COUNT = 200


def lines() -> list[dict[str, object]]:
    """Return the prompts, always the same ones."""
    found: list[dict[str, object]] = []
    for count in (0, 1, 2):
        for animals in itertools.permutations(YOUNG, count + 1):
            *known, asked = animals
            said = "".join(f"{one} -> {YOUNG[one]}, " for one in known)
            found.append(
                {
                    "prompt": f"{said}{asked} ->",
                    "target": f" {YOUNG[asked]}",
                    "gold": f" {YOUNG[asked]}",
                    "animal": asked,
                    "examples": count,
                }
            )
    few = [line for line in found if line["examples"] != 2]
    many = [line for line in found if line["examples"] == 2]
    random.Random(0).shuffle(many)  # noqa: S311 - not a secret
    return [*few, *many[: COUNT - len(few)]]


if __name__ == "__main__":
    for line in lines():
        print(json.dumps(line))
