"""Examples as text that is safe for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmscope.learned.examples.example import Example, Examples
from llmscope.support.numbers import percent
from llmscope.support.text import VISIBLE, display_line, display_text

PARTS = ("top", "random", "bottom")
"""The kinds of examples, in the order in which they are shown."""


@dataclass(frozen=True)
class ExampleText:
    """An example as safe text.

    Attributes:
        activation: of its token.
        place: LINE@POSITION.
        before, peak, after: the window's text; in that of the token itself white space is visible.
    """

    activation: str
    place: str
    before: str
    peak: str
    after: str


def texts_of(examples: Sequence[Example], between: str = "") -> list[ExampleText]:
    """Return examples as safe text.

    Args:
        examples: the examples.
        between: what stands between two tokens, for a model without a tokenizer.
    """
    return [
        ExampleText(
            f"{example.activation:.4g}",
            f"{example.line}@{example.position}",
            _show_tokens(example.tokens[: example.peak], between) + between,
            _show_tokens(example.tokens[example.peak : example.peak + 1], between, visible=True),
            between + _show_tokens(example.tokens[example.peak + 1 :], between),
        )
        for example in examples
    ]


def title_of(examples: Examples) -> str:
    """Return the name of a unit, with what its dictionary says of it, as safe text."""
    label = display_line(examples.label, cells=True)
    return f"{examples.unit.title} · {label}" if label else examples.unit.title


def facts(examples: Examples) -> list[str]:
    """Return the statistics of a unit, each in words."""
    tokens = f"{examples.tokens:,} tokens"
    if not examples.active:
        return [f"never active at {tokens}"]
    lines = [tokens]
    if examples.unit.kind == "feature":
        lines = [f"active at {percent(examples.density)} of {tokens}"]
    lines.append(f"mean {examples.mean:.4g}")
    if examples.unit.kind == "neuron":
        lines.append(f"min {examples.lowest:.4g}")
    return [*lines, f"max {examples.highest:.4g}"]


def _show_tokens(tokens: Sequence[str], between: str, *, visible: bool = False) -> str:
    text = display_text(between.join(tokens), whitespace=visible, cells=True)
    return text.replace("\n", VISIBLE["\n"])
