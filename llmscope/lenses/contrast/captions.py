"""Captions and `extra` entries that all figures of the lens `contrast` share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.support.numbers import share
from llmscope.support.text import VISIBLE

if TYPE_CHECKING:
    from llmscope.figure import Focus
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.record.compare.pair import Pair

_BREAKS = str.maketrans({char: mark for char, mark in VISIBLE.items() if char != " "})
LISTED = 6
"""Number of tokens that a caption lists."""


def about(pair: Pair, focus: Focus, lines: Sequence[str]) -> dict[str, Any]:
    """Return the entries of `extra` that all modes share.

    Args:
        pair: the two prompts.
        focus: the selection in A.
        lines: caption lines of the mode. The remark that a token cannot differ comes before them,
            so that it is not missed; the alignment of the tokens comes after them.
    """
    return {
        "mode": focus.mode,
        "position": focus.position,
        "other_position": pair.there(focus.position),
        "aligned": np.array(pair.aligned, dtype=np.int64).reshape(-1, 2),
        "same": pair.same,
        "unseen": focus.position < pair.same and not pair.identical,
        "versus_ids": pair.b.prompt.ids,
        "versus_labels": pair.b.prompt.labels,
        "special": pair.a.prompt.special,
        "caption": in_lines(
            *(*unseen(pair, focus.position), *lines, *_places(pair, focus.position))
        ),
    }


def in_lines(*remarks: str) -> tuple[str, ...]:
    """Return a caption with each remark on one line; line ends in tokens become symbols."""
    return tuple(remark.translate(_BREAKS) for remark in remarks)


def unseen(pair: Pair, position: int) -> Iterator[str]:
    """Yield a remark if A and B cannot differ at a token of A."""
    if pair.identical:
        yield "A and B are the same prompt"
    elif position < pair.same:
        word = pair.a.prompt.labels[position]
        yield (
            f"A and B are the same up to ‹{word}›: what differs comes later and cannot be seen here"
        )


def most_changed(
    model: LoadedModel, both: NDArray[np.float64], count: int
) -> tuple[dict[str, Any], str]:
    """Return entries of `extra` with the tokens whose probability differs most, and a list of some.

    Args:
        model: the model.
        both: the two probabilities of each token. [2, token]
        count: the most tokens.
    """
    change = np.abs(both[0] - both[1])
    order = np.argsort(-change, kind="stable")[:count]
    order = order[change[order] > 0]
    names = tuple(model.label(int(token)) for token in order)
    changed = zip(names, both[:, order].T.tolist(), strict=True)
    extra = {
        "changed": names,
        "changed_ids": order,
        "changed_probability": both[:, order].astype(np.float32),
    }
    listed = [f"‹{name}› {share(a)} / {share(b)}" for name, (a, b) in changed]
    return extra, ", ".join(listed[:LISTED])


def _places(pair: Pair, position: int) -> Iterator[str]:
    word, there = pair.a.prompt.labels[position], pair.there(position)
    if there is None:
        yield f"‹{word}› at {position} is only in A"
    elif there != position:
        yield f"‹{word}› is token {position} of A and {there} of B"
    alone = [*only_in(pair, "A"), *only_in(pair, "B")]
    if alone:
        yield " · ".join(alone)


def only_in(pair: Pair, name: str) -> Iterator[str]:
    """Yield a remark that lists the tokens of one prompt that the other lacks, if it has any."""
    which = "AB".index(name)
    labels, places = pair.both[which].prompt.labels, pair.alone[which]
    if places:
        yield f"only in {name}: {_token_list(labels, places)}"


def _token_list(labels: Sequence[str], places: Sequence[int]) -> str:
    named, more = [f"‹{labels[place]}›" for place in places[:LISTED]], len(places) - LISTED
    return " ".join(named) + (f" and {more} more" if more > 0 else "")
