"""Example pairs of prompts, and the words that tell their two senses apart."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from llmscope.support.package_data import shipped_folder, world


@dataclass(frozen=True)
class DemoPair:
    """An example of two prompts to compare.

    Attributes:
        name: identifies it in actions.
        title, about: texts shown to the user.
        a, b: the prompts.
        words: a list of words for each prompt, separated by spaces.
        model: the built-in model that it suits, with its family; empty means all that know English.
    """

    name: str
    title: str
    about: str
    a: str
    b: str
    words: tuple[str, str]
    model: str = ""


def pair_folder() -> Path:
    """Return the folder of the pairs that ship with llmscope."""
    return shipped_folder("demo/pairs", "_pairs")


@cache
def pairs() -> tuple[DemoPair, ...]:
    """Return all pairs, sorted by name."""
    return tuple(map(_read, sorted(pair_folder().glob("*.toml"))))


def pairs_for(spec: str) -> tuple[DemoPair, ...]:
    """Return the pairs that suit a model."""
    return tuple(pair for pair in pairs() if pair.model == world(spec))


def _read(path: Path) -> DemoPair:
    record = tomllib.loads(path.read_text(encoding="utf-8"))
    return DemoPair(
        path.stem,
        record["title"],
        record["about"],
        record["a"][0],
        record["b"][0],
        words=(" ".join(record["words_a"]), " ".join(record["words_b"])),
        model=record.get("model", ""),
    )
