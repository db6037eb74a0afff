"""Examples of a unit as a figure: a row an example, with the text around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmscope.errors import WrongValueError
from llmscope.figure import Axis, Figure
from llmscope.learned.examples.text import PARTS, facts
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.learned.examples.example import Example, Examples


def examples_figure(
    examples: Examples,
    *,
    lens: str,
    parts: Sequence[str] = PARTS,
    limit: int | None = None,
    between: str = "",
    corpus: str = "",
) -> Figure:
    """Return a table with a row for each example of a unit. [example], the activations

    `extra`: part (top, random or bottom), lines, positions, peaks, tokens and activations (of the
    tokens in the window), one of each an example; count and density (of the tokens where it is
    active), mean, lowest, highest, histogram; caption.

    Args:
        examples: of the unit.
        lens: the lens that shows them.
        parts: which kinds of examples, in this order.
        limit: the most of each kind; None: all.
        between: what stands between two tokens, for a model without a tokenizer.
        corpus: the name of the corpus, for the caption.
    """
    import numpy as np

    pairs = [(part, example) for part in parts for example in _part(examples, part)[:limit]]
    rows = [example for _, example in pairs]
    lines = facts(examples)
    extra: dict[str, Any] = {
        "part": [part for part, _ in pairs],
        "lines": [row.line for row in rows],
        "positions": [row.position for row in rows],
        "peaks": [row.peak for row in rows],
        "tokens": [list(row.tokens) for row in rows],
        "activations": [list(row.activations) for row in rows],
        "between": between,
        "count": examples.active,
        "density": examples.density,
        "mean": examples.mean,
        "lowest": examples.lowest,
        "highest": examples.highest,
        "histogram": [[bar.low, bar.high, bar.count] for bar in examples.histogram],
        "caption": [" · ".join([*lines, f"of {one_line(corpus, 60)}"] if corpus else lines)],
    }
    title = f"{examples.unit.title} · examples"
    return Figure(
        lens=lens,
        title=f"{title} · {examples.label}" if examples.label else title,
        kind="table",
        axes=(Axis("example", tuple(_text(row, between) for row in rows)),),
        values=np.array([row.activation for row in rows], dtype=np.float32),
        unit="activation",
        extra=extra,
    )


def _part(examples: Examples, part: str) -> tuple[Example, ...]:
    if part not in PARTS:
        raise WrongValueError(f"parts are {', '.join(PARTS)}, not {part!r}")
    examples_of_part: tuple[Example, ...] = getattr(examples, part)
    return examples_of_part


def _text(example: Example, between: str) -> str:
    """Return the raw text of a window, its token in ‹›."""
    before, after = example.tokens[: example.peak], example.tokens[example.peak + 1 :]
    peak = example.tokens[example.peak]
    return between.join([*before, f"‹{peak}›", *after])
