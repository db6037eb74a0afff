"""The numbers of each token that the overview strip and the reader show, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.engine.events import Want
from llmscope.figure import Focus
from llmscope.tui.state.figure_store import TOKENS

if TYPE_CHECKING:
    from llmscope.figure import Figure
    from llmscope.tui.state.view_state import ViewState


@dataclass(frozen=True)
class TokenMeasure:
    """One number of each token.

    Attributes:
        name: identifies it.
        title: what it is called, in at most 11 cells.
        unit: of the number.
        about: what it is, in one line.
    """

    name: str
    title: str
    unit: str
    about: str


# fmt: off
MEASURES = (
    TokenMeasure("surprisal", "surprisal", "bits", "how unexpected each token was"),
    TokenMeasure("entropy", "entropy", "bits", "how open the next place is after each token"),
    TokenMeasure("kl", "KL", "nats", "how far the prediction is from B's, or the unedited one"),
    TokenMeasure("attention", "attention", "probability",
        "what the token of the cursor attends to, mean over the heads of the layer"),
    TokenMeasure("head", "head", "probability",
        "what the token of the cursor attends to in the head"),
)
# fmt: on


STRONGEST = 20
"""The most places that the key for the strongest one goes round."""


def offers_measure(state: ViewState, measure: TokenMeasure) -> bool:
    """Return whether there is what a measure needs: KL needs a prompt B or edits.

    Attention needs a layer that has some: the weights of a map are no shares.
    """
    if measure.name == "kl":
        return state.versus_prompt is not None or bool(state.in_force)
    if measure.name in ("attention", "head"):
        info = state.info
        mapped = info is not None and bool(info.maps) and info.maps[state.focus.layer] > 0
        return info is None or (bool(info.heads) and not mapped)
    return True


def measure_of(state: ViewState) -> TokenMeasure:
    """Return the measure that is shown: the first one where the chosen one is not offered."""
    chosen = MEASURES[state.measure]
    return chosen if offers_measure(state, chosen) else MEASURES[0]


def with_next_measure(state: ViewState) -> ViewState:
    """Return the state with the next measure that is offered."""
    here = MEASURES.index(measure_of(state))
    order = [(here + step) % len(MEASURES) for step in range(1, len(MEASURES) + 1)]
    at = next(index for index in order if offers_measure(state, MEASURES[index]))
    return replace(state, measure=at)


def measure_want(key: str, state: ViewState) -> Want:
    """Return the want for the figure that holds the measure of a view state.

    Args:
        key: the key of what shows it; surprisal and entropy have that of `TOKENS`.
        state: the view state.
    """
    name = measure_of(state).name
    if name in ("surprisal", "entropy"):
        return replace(TOKENS, key=key)
    if name == "kl":
        return Want(key, "contrast", Focus(mode="kl"))
    focus = query_focus(state, "mean" if name == "attention" else "raw")
    return Want(key, "attention", focus)


def query_focus(state: ViewState, mode: str) -> Focus:
    """Return the focus for the attention of the token under the cursor to all tokens before it.

    While the cursor follows the last token, the query is counted from the end, whatever text is
    next. The whole pattern is never computed for it: the span is one query.
    """
    at = state.focus.position
    span = (-1, 0) if state.following else (at, at + 1)
    head = state.focus.head if mode == "raw" else 0
    return Focus(layer=state.focus.layer, head=head, mode=mode, span=span)


def measure_numbers(figure: Figure, measure: TokenMeasure) -> NDArray[np.float32] | None:
    """Return the numbers of a measure from its figure; None if the figure does not hold them.

    [position]; NaN where a number is not known or does not exist.
    """
    if figure.verdict.status == "refused":
        return None
    if measure.name == "entropy":
        entropy = figure.extra.get("entropy")
        return None if entropy is None else np.asarray(entropy, dtype=np.float32)
    if measure.name == "surprisal":
        return figure.values if figure.lens == "tokens" else None
    values: NDArray[np.float32] = figure.values
    if measure.name == "kl":
        return values[:, 0] if figure.lens == "contrast" else None
    mode = {"attention": "mean", "head": "raw"}[measure.name]
    if figure.lens != "attention" or figure.extra.get("mode") != mode or len(values) != 1:
        return None
    if figure.unit != measure.unit:  # weights of a map
        return None
    return values.reshape(-1)


def upper_end(values: NDArray[np.float32], special: Sequence[bool], unit: str) -> float:
    """Return the value of the strongest colour: the largest, without tokens that always have it.

    Attention rests on the first and on special tokens, whose shares would leave all others pale.
    """
    telling = _telling(values, special, unit)
    return float(values[telling].max()) if telling.any() else 0.0


def next_strongest(
    values: NDArray[np.float32], special: Sequence[bool], unit: str, here: int
) -> int | None:
    """Return the place with the largest number; from one of the largest, the place of the next.

    For attention it is the place that the token `here` attends to most, besides itself and the
    tokens on which attention rests. None if no number is known.

    Args:
        values: the numbers. [position]
        special: which tokens are special.
        unit: of the numbers.
        here: the position of the cursor.
    """
    telling = _telling(values, special, unit)
    if unit == "probability" and 0 <= here < len(values):
        telling[here] = False
    places = np.flatnonzero(telling)
    order = places[np.argsort(-values[places], kind="stable")][:STRONGEST].tolist()
    if not order:
        return None
    return int(order[(order.index(here) + 1) % len(order)] if here in order else order[0])


def _telling(values: NDArray[np.float32], special: Sequence[bool], unit: str) -> NDArray[np.bool_]:
    """Return which numbers are known, without those of tokens on which attention rests."""
    known = np.isfinite(values)
    if unit != "probability":
        return known
    resting = np.zeros(len(values), dtype=bool)
    resting[: len(special)] = special[: len(values)]
    resting[:1] = True
    return known & ~resting if (known & ~resting).any() else known
