"""Merge Jacobian lenses that were fitted on other shards of one corpus."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmscope.errors import ScopeError
from llmscope.learned.lens import AffineMap, LearnedLens
from llmscope.text import display_text

OF_A_SHARD = ("n_prompts", "shard", "standard_error")


def merged(lenses: Sequence[LearnedLens]) -> LearnedLens:
    """Return the mean of lenses, weighted by their prompts.

    The standard error of the mean follows from theirs, as their prompts are independent. Held-out
    figures are not merged: measure them anew.

    Raises:
        ScopeError: they are not shards of one fit.
    """
    first = lenses[0]
    counts = [int(one.about.get("n_prompts") or 0) for one in lenses]
    for one, count in zip(lenses, counts, strict=True):
        shown = display_text(str(one))
        if one.kind != "jacobian":
            raise ScopeError(f"{shown} is a tuned lens, which has no mean", "Jacobian lenses")
        if count < 1:
            raise ScopeError(f"{shown} does not tell its number of prompts", "another file")
        same = (one.width, one.layers, sorted(one.maps)) == (
            *(first.width, first.layers, sorted(first.maps)),
        )
        differs = [] if same else ["layers"]
        differs += [
            key
            for key in {**first.about, **one.about}
            if key not in OF_A_SHARD and one.about.get(key) != first.about.get(key)
        ]
        if differs:
            raise ScopeError(
                f"{shown} is of another {', '.join(differs)} than {display_text(str(first))}",
                "shards of one fit",
            )
    shards = [tuple(one.about.get("shard") or ()) for one in lenses]
    twice = [shard for shard in shards if shard and shards.count(shard) > 1]
    if twice:
        raise ScopeError(f"two of them are shard {twice[0][0]}/{twice[0][1]}", "each shard once")
    total = sum(counts)
    maps = {}
    for stream in first.maps:
        parts = [
            one.maps[stream].weight.float() * count
            for one, count in zip(lenses, counts, strict=True)
        ]
        maps[stream] = AffineMap(sum(parts[1:], parts[0]) / total)
    about: dict[str, Any] = {
        **first.about,
        "n_prompts": total,
        "shard": [0, 1],
        "standard_error": _errors(lenses, counts, maps),
    }
    return replace(first, maps=maps, about=about, source="", digest="", held_out=None)


def _errors(
    lenses: Sequence[LearnedLens], counts: Sequence[int], maps: Mapping[int, AffineMap]
) -> dict[str, float] | None:
    """Return the relative standard errors of the mean; None where a lens does not tell its own."""
    told: list[Mapping[str, float]] = []
    for one in lenses:
        own = one.about.get("standard_error")
        if not isinstance(own, Mapping):
            return None
        told.append(own)
    found = {}
    for stream, mean in maps.items():
        squares = 0.0
        for one, count, errors in zip(lenses, counts, told, strict=True):
            spread = float(one.maps[stream].weight.float().norm()) * float(errors[str(stream - 1)])
            squares += (spread * count / sum(counts)) ** 2
        found[str(stream - 1)] = math.sqrt(squares) / float(mean.weight.norm())
    return found
