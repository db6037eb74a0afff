"""Merge Jacobian lenses that were fitted on other shards of one corpus."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmscope.errors import ScopeError
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.support.text import display_text

OF_A_SHARD = ("n_prompts", "shard", "standard_error", "n_layers")
MOST_PROMPTS = 10**12


def merge_lenses(lenses: Sequence[LearnedLens]) -> LearnedLens:
    """Return the mean of lenses, weighted by their prompts.

    The standard error of the mean follows from theirs, as their prompts are independent. Held-out
    figures are not merged: measure them anew.

    Raises:
        ScopeError: they are not shards of one fit.
    """
    first = lenses[0]
    counts = [_count(lens) for lens in lenses]
    for shard, count in zip(lenses, counts, strict=True):
        printed = display_text(str(shard))
        if shard.kind != "jacobian":
            raise ScopeError(f"{printed} is a tuned lens, which has no mean", "Jacobian lenses")
        if count < 1:
            raise ScopeError(f"{printed} does not tell its number of prompts", "another file")
        same = (shard.width, shard.layers, sorted(shard.maps)) == (
            *(first.width, first.layers, sorted(first.maps)),
        )
        differs = [] if same else ["layers"]
        differs += [
            key
            for key in {**first.about, **shard.about}
            if key not in OF_A_SHARD and shard.about.get(key) != first.about.get(key)
        ]
        if differs:
            raise ScopeError(
                f"{printed} is of another {', '.join(differs)} than {display_text(str(first))}",
                "shards of one fit",
            )
    _check_shards(lenses)
    total = sum(counts)
    maps = {}
    for stream in first.maps:
        parts = [
            shard.maps[stream].weight.float() * count
            for shard, count in zip(lenses, counts, strict=True)
        ]
        maps[stream] = AffineMap(sum(parts[1:], parts[0]) / total)
    about: dict[str, Any] = {
        **first.about,
        "n_prompts": total,
        "shard": [0, 1] if _complete(lenses) else None,
        "standard_error": _errors(lenses, counts, maps),
    }
    return replace(first, maps=maps, about=about, source="", digest="", held_out=None)


def _count(lens: LearnedLens) -> int:
    """Return the number of prompts of a lens; 0 if it does not tell."""
    count = lens.about.get("n_prompts")
    return count if isinstance(count, int) and 0 < count < MOST_PROMPTS else 0


def _check_shards(lenses: Sequence[LearnedLens]) -> None:
    """Check that lenses are different shards of as many.

    Raises:
        ScopeError: two are the same one, or of another number of shards.
    """
    shards = [lens.about.get("shard") for lens in lenses]
    if None in shards:
        return  # a published lens does not tell
    if len({str(shard[1:]) for shard in shards if isinstance(shard, list | tuple)}) > 1:
        raise ScopeError("they are of other numbers of shards", "shards of one fit")
    twice = ["/".join(map(str, shard or ())) for shard in shards if shards.count(shard) > 1]
    if twice:
        raise ScopeError(f"two of them are shard {twice[0]}", "each one once")


def _complete(lenses: Sequence[LearnedLens]) -> bool:
    """Return whether there are as many lenses as their fit had shards."""
    shard = lenses[0].about.get("shard")
    return isinstance(shard, list) and shard[-1:] == [len(lenses)]


def _errors(
    lenses: Sequence[LearnedLens], counts: Sequence[int], maps: Mapping[int, AffineMap]
) -> dict[str, float] | None:
    """Return the relative standard errors of the mean; None where a lens does not tell its own."""
    errors_of: list[Mapping[str, float]] = []
    for lens in lenses:
        errors_here = lens.about.get("standard_error")
        if not isinstance(errors_here, Mapping):
            return None
        errors_of.append(errors_here)
    merged_errors = {}
    for stream, mean in maps.items():
        squares = 0.0
        for lens, count, errors in zip(lenses, counts, errors_of, strict=True):
            error = errors.get(str(stream - 1))
            if not isinstance(error, int | float):
                return None
            spread = float(lens.maps[stream].weight.float().norm()) * error
            squares += (spread * count / sum(counts)) ** 2
        merged_errors[str(stream - 1)] = math.sqrt(squares) / max(float(mean.weight.norm()), 1e-30)
    return merged_errors
