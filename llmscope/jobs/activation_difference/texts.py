"""Plain texts that come with llmscope: of no particular subject, in the words of a model."""

from __future__ import annotations

from pathlib import Path

from llmscope.support.package_data import TOWN, world

_OF_WORLD = {TOWN: "town.txt"}


def default_texts(spec: str) -> list[str]:
    """Return texts that a model can read: of the built-in town's words, or plain English.

    Args:
        spec: the spec of the model.
    """
    file = Path(__file__).parent / _OF_WORLD.get(world(spec), "english.txt")
    return file.read_text(encoding="utf-8").splitlines()
