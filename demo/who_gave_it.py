"""Write the prompts of docs/report.md: 200 lines in which one of two names was not the giver.

    python -m demo.who_gave_it > ioi.jsonl
    python -m demo.who_gave_it --pairs 50 > pairs.jsonl

"When Emil and Tom went to the kitchen, Tom gave the hat to" is followed by Emil (indirect object
identification, Wang et al. 2022). `order` says which name came first (A is the right one), two
lines in a row have the same `pair` and the two orders.

With --pairs, each line has a second prompt as well, in which the other name gives (versus_prompt),
and the name that follows there (versus), as docs/study.md needs them.
"""

from __future__ import annotations

import argparse
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


def pairs(count: int) -> list[dict[str, object]]:
    """Return the first prompts, each with a prompt B that differs in the giver alone."""
    found: list[dict[str, object]] = []
    for line in lines()[:count]:
        prompt, right, giver = str(line["prompt"]), str(line["target"]), line["repeated"]
        other = prompt.replace(f", {giver} gave", f",{right} gave")
        found.append(
            {"prompt": prompt, "id": line["id"], "order": line["order"], "target": right}
            | {"versus": f" {giver}", "versus_prompt": other}
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, metavar="COUNT")
    count = parser.parse_args().pairs
    for line in lines() if count is None else pairs(count):
        print(json.dumps(line, ensure_ascii=False))
