"""Write the prompts of docs/report.md: 200 lines in which one of two names was not the giver.

    python -m demo.who_gave_it > ioi.jsonl

"When Emil and Tom went to the kitchen, Tom gave the hat to" is followed by Emil (indirect object
identification, Wang et al. 2022). `order` says which name came first (A is the right one), two
lines in a row have the same `pair` and the two orders.
"""

from __future__ import annotations

import json
import random

NAMES = (
    *("Anna", "Ben", "Carl", "Emma", "Fred", "George", "Helen", "Jack", "James", "John", "Kate"),
    *("Leo", "Mary", "Michael", "Paul", "Peter", "Sarah", "Simon", "Thomas", "William"),
)
PLACES = ("garden", "kitchen", "market", "office", "park", "school", "shop", "station")
THINGS = ("book", "ball", "bread", "cup", "hat", "key", "lamp", "ring")
COUNT = 200


def lines() -> list[dict[str, object]]:
    """Return the prompts, always the same ones."""
    draw = random.Random(1)  # noqa: S311 - not a secret
    found: list[dict[str, object]] = []
    for at in range(COUNT):
        right, giver = draw.sample(NAMES, 2)
        place, thing = draw.choice(PLACES), draw.choice(THINGS)
        order = "ABBA" if at % 2 else "BABA"
        both = f"{right} and {giver}" if order == "ABBA" else f"{giver} and {right}"
        found.append(
            {
                "prompt": f"When {both} went to the {place}, {giver} gave the {thing} to",
                "id": f"ioi-{at}",
                "order": order,
                "target": f" {right}",
                "pair": at // 2,
                "repeated": giver,
            }
        )
    return found


if __name__ == "__main__":
    for line in lines():
        print(json.dumps(line, ensure_ascii=False))
