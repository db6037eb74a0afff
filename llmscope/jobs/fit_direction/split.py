"""The split into training and test texts by group, and what leaks across it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.learned.lenses.directions import Leak

Flags = NDArray[np.bool_]
ALIKE = 0.85
"""Jaccard similarity of the runs of `RUN` characters, from which two texts are nearly the same."""
RUN = 4


def choose_test(examples: Sequence[LabelledText], split: str, share: float, seed: int) -> Flags:
    """Return which texts are in the test set. [text]

    Args:
        examples: the texts.
        split: `group`: groups are drawn; `random`: texts are drawn, whatever their group; `file`:
            the file tells.
        share: the share of groups, or texts, that is drawn.
        seed: of the draw.

    Raises:
        ScopeError: the file does not tell, or a set has no texts of both labels.
    """
    if split == "file":
        if not examples[0].part:
            raise ScopeError("the pairs have no column split", option("split", "group"))
        chosen = np.array([example.part == "test" for example in examples])
    else:
        names = [
            example.group if split == "group" else str(at) for at, example in enumerate(examples)
        ]
        groups = dealt(names, labels_of(examples), seed)
        # One of every 1 / share groups, in an order that keeps those of like labels together.
        drawn = {name for at, name in enumerate(groups) if int((at + 1) * share) > int(at * share)}
        chosen = np.array([name in drawn for name in names])
    for part, name in ((chosen, "test"), (~chosen, "training")):
        if len(np.unique(labels_of(examples)[part])) < 2:
            raise ScopeError(
                f"the {name} set has no texts of both labels",
                f"more groups, or another {option('test-share')} or {option('seed')}",
            )
    return chosen


def labels_of(examples: Sequence[LabelledText]) -> Flags:
    """Return the labels of texts. [text]"""
    return np.array([example.positive for example in examples], dtype=bool)


def dealt(names: Sequence[str], labels: Flags, seed: int) -> list[str]:
    """Return the groups in a random order, sorted by their share of positive texts.

    Those that are taken at even steps then have about the labels of all.
    """
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, label in zip(names, labels.tolist(), strict=True):
        counts[name][label] += 1
    groups = sorted(counts)
    order = np.random.default_rng(seed).permutation(len(groups))
    return sorted(
        (groups[at] for at in order), key=lambda name: counts[name][1] / sum(counts[name])
    )


def leak(examples: Sequence[LabelledText], test: Flags) -> Leak:
    """Return what the test set shares with the training set."""
    train = [example for example, flag in zip(examples, test.tolist(), strict=True) if not flag]
    test_texts = [example for example, flag in zip(examples, test.tolist(), strict=True) if flag]
    known = {example.group for example in train}
    near = nearly_same(
        [example.text for example in test_texts], [example.text for example in train]
    )
    return Leak(sum(example.group in known for example in test_texts), sum(near))


def nearly_same(texts: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Return which texts are nearly the same as one of the others.

    Case, blanks and punctuation do not count. Two sets of runs with a Jaccard similarity of `ALIKE`
    share at least one of their rarest runs, so that only texts that do are compared.
    """
    sets = [_runs(text) for text in (*texts, *others)]
    counts = Counter(run for runs in sets for run in runs)

    def rarest(runs: frozenset[str]) -> list[str]:
        ordered = sorted(runs, key=lambda run: (counts[run], run))
        return ordered[: len(runs) - int(np.ceil(ALIKE * len(runs))) + 1]

    by_run: dict[str, list[frozenset[str]]] = defaultdict(list)
    for runs in set(sets[len(texts) :]):
        for run in rarest(runs):
            by_run[run].append(runs)
    return [
        any(
            len(runs & other) >= ALIKE * len(runs | other)
            for run in rarest(runs)
            for other in by_run[run]
        )
        for runs in sets[: len(texts)]
    ]


def _runs(text: str) -> frozenset[str]:
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = re.sub(r"[\W_]+", " ", plain).strip() or text  # a text of signs alone stays
    return frozenset(plain[at : at + RUN] for at in range(max(1, len(plain) - RUN + 1)))
