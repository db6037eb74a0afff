"""Measure what features stand for: precision and recall of "active" against concepts.

Every detector (a feature, a neuron, a dimension of the stream) gets, for every concept, the
threshold with the best F1 on one half of new texts. The detector with the best F1 of that half is
chosen, and precision and recall of the other half are reported: nothing is chosen there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

Concept = tuple[str, str]
"""(group, name)."""
LEVELS = 48  # thresholds that are tried
LEAST = 20  # places that a concept has to have in each half


@dataclass(frozen=True)
class Match:
    """A detector for a concept, chosen on one half of the texts and measured on the other.

    Attributes:
        index: the detector.
        threshold: active means greater than this.
        chosen_f1: F1 on the half where it was chosen.
        precision: the share of active tokens that are the concept, on the other half.
        recall: the share of the concept's tokens where it is active, on the other half.
        count: tokens of the concept in the other half.
    """

    index: int
    threshold: float
    chosen_f1: float
    precision: float
    recall: float
    count: int

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


@dataclass(frozen=True)
class Half:
    """One half of the texts.

    Attributes:
        values: [token, detector].
        places: the tokens of each concept.
    """

    values: Tensor
    places: dict[Concept, Tensor]


def matches(
    choose: Half, measure: Half
) -> tuple[dict[Concept, Match], dict[int, tuple[Concept, Match]]]:
    """Return the best detector of each concept, and the best concept of each detector.

    Both are chosen on `choose` and measured on `measure`. Concepts that are rare in either are left
    out, and so are detectors that are never active.
    """
    values = choose.values.T.contiguous()
    levels = _levels(values)
    bins = torch.searchsorted(levels, values, out_int32=True).to(torch.uint8)
    everywhere = _counts(bins, LEVELS)
    concepts = [
        one
        for one, places in choose.places.items()
        if len(places) >= LEAST and len(measure.places.get(one, ())) >= LEAST
    ]
    best = torch.empty(len(concepts), len(levels))  # [concept, detector]
    at = torch.empty(len(concepts), len(levels), dtype=torch.long)
    for row, concept in enumerate(concepts):
        places = choose.places[concept]
        right = _counts(bins[:, places], LEVELS)
        f1 = 2 * right / (everywhere + len(places)).clamp(min=1)
        best[row], at[row] = f1.max(1)
    by_concept = {}
    for row, concept in enumerate(concepts):
        index = int(best[row].argmax())
        threshold = float(levels[index, at[row, index]])
        by_concept[concept] = _match(measure, concept, index, threshold, float(best[row, index]))
    by_detector = {}
    for index in (values > 0).any(1).nonzero()[:, 0].tolist():
        row = int(best[:, index].argmax())
        threshold = float(levels[index, at[row, index]])
        match = _match(measure, concepts[row], index, threshold, float(best[row, index]))
        by_detector[index] = (concepts[row], match)
    return by_concept, by_detector


def places(labelled: list[dict[Concept, list[int]]], lengths: list[int]) -> dict[Concept, Tensor]:
    """Join the places of single texts to places in all their words, one text after the other."""
    joined: dict[Concept, list[int]] = defaultdict(list)
    begin = 0
    for concepts, length in zip(labelled, lengths, strict=True):
        for concept, held in concepts.items():
            joined[concept] += [begin + place for place in held]
        begin += length
    return {concept: torch.tensor(held) for concept, held in joined.items()}


def _match(half: Half, concept: Concept, index: int, threshold: float, chosen: float) -> Match:
    active, held = half.values[:, index] > threshold, half.places[concept]
    right = int(active[held].sum())
    precision, recall = right / max(1, int(active.sum())), right / len(held)
    return Match(index, threshold, chosen, precision, recall, len(held))


def _levels(values: Tensor) -> Tensor:
    """Return thresholds [detector, level], rising: values at evenly spaced logarithms of rank.

    For features that are zero at most tokens the lowest ones are all zero: active at all.

    Args:
        values: [detector, token].
    """
    count = values.shape[1]
    ranks = torch.logspace(0, math.log10(0.7 * count), LEVELS).long().clamp(max=count - 1)
    return values.sort(-1, descending=True).values[:, ranks].flip(1).contiguous()


def _counts(bins: Tensor, levels: int) -> Tensor:
    """Return how many tokens are above each threshold, [detector, level].

    Args:
        bins: [detector, token], how many thresholds the token exceeds.
        levels: how many thresholds there are.
    """
    detectors, width = bins.shape[0], levels + 1
    begin = torch.arange(detectors)[:, None] * width
    found = torch.zeros(detectors * width, dtype=torch.long)
    for part in torch.split(bins, 4096, 1):
        found += torch.bincount((part + begin).flatten(), minlength=len(found))
    above = found.view(detectors, width).flip(1).cumsum(1).flip(1)
    return above[:, 1:]
