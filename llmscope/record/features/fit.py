"""How well a dictionary fits a model on a prompt: measured, and beside chance.

    FVU = Σ ‖x − x̂‖² / Σ ‖x − mean x‖²       over the tokens that count

L0 is the number of active features. KL and the change of loss are those of the model's predictions
when x̂ takes the place of x at all tokens that count. Chance is a random dictionary of the same size
with as many active features: see `llmscope.record.features.chance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.dictionaries.place import Place
from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change
from llmscope.record.derive.kl import kl_divergence
from llmscope.record.derive.tensors import logits
from llmscope.record.features.active import (
    Applied,
    Misfit,
    counted,
    features_of,
    reconstruction,
    rows_of,
    runs_of,
)
from llmscope.record.features.chance import chance_reconstruction
from llmscope.record.features.splice import change_by

Floats = NDArray[np.float32]
WINDOW = 256
"""Tokens that are measured: the nearest to the cursor, in a longer prompt."""
FEWEST = 4
"""Different tokens below which a fit says little."""
ROUNDING = 1e-10
"""The share of the size of a tensor below which its variance over the tokens is rounding."""
FITS = 0.5
"""A dictionary fits if its FVU is at most this share of chance's."""


@dataclass(frozen=True)
class Fit:
    """The reconstruction of the tokens that count. Arrays are `[token]`.

    Attributes:
        tokens: their positions.
        fvu, chance: of all of them, for the dictionary and for chance.
        each, each_chance: ‖x − x̂‖² / ‖x − mean x‖² of each token.
        active: the number of active features, L0.
        different: how many different tokens there are among them.
    """

    tokens: tuple[int, ...]
    fvu: float
    chance: float
    each: Floats
    each_chance: Floats
    active: NDArray[np.int64]
    different: int

    @property
    def l0(self) -> float:
        """The mean number of active features."""
        return float(self.active.mean())


def tokens_near(recording: Recording, position: int) -> list[int]:
    """Return the tokens that count, at most `WINDOW`, those nearest to a position, ascending."""
    near = sorted(counted(recording), key=lambda row: abs(row - position))
    return sorted(near[:WINDOW])


def fit_of(recording: Recording, way: Applied, rows: Sequence[int]) -> Fit:
    """Measure the reconstruction of some tokens; it is kept, as several panes ask for it.

    Raises:
        Misfit: the model has no tensor that the dictionary reads or predicts.
    """
    key = "features fit", way.key, tuple(rows)
    if key not in recording.memo:
        recording.memo[key] = _fit_of(recording, way, rows)
    found: Fit = recording.memo[key]
    return found


@torch.no_grad()
def _fit_of(recording: Recording, way: Applied, rows: Sequence[int]) -> Fit:
    aim = rows_of(way.outputs, recording, rows)  # [token, out width]
    active = features_of(way, recording, rows)
    made = reconstructed(recording, way, rows), by_chance(recording, way, rows)
    own, chance = ((aim - one).double().square().sum(-1).cpu() for one in made)
    spread = (aim - aim.mean(0)).double().square().sum(-1).cpu()  # [token]
    total = float(spread.sum())
    if total <= ROUNDING * float(aim.double().square().sum()):  # all tokens alike
        total, spread = float("nan"), torch.full_like(spread, float("nan"))
    return Fit(
        tuple(rows),
        fvu=float(own.sum()) / total,
        chance=float(chance.sum()) / total,
        each=(own / spread).float().numpy(),
        each_chance=(chance / spread).float().numpy(),
        active=np.array([len(one) for one in active]),
        different=len({recording.prompt.ids[row] for row in rows}),
    )


def reconstructed(recording: Recording, way: Applied, rows: Sequence[int]) -> Tensor:
    """Return the dictionary's reconstruction of tokens; known rows are kept. [row, out width]"""
    return _kept(
        *(recording, ("reconstructed", way.key), rows),
        lambda some: reconstruction(way, recording, some),
    )


def by_chance(recording: Recording, way: Applied, rows: Sequence[int]) -> Tensor:
    """Return the reconstruction of tokens that chance gives; known rows are kept.

    [row, out width]
    """

    def make(some: list[int]) -> Tensor:
        active = features_of(way, recording, some)
        aim = rows_of(way.outputs, recording, some)
        return chance_reconstruction(way.dictionary, aim, [len(one) for one in active])

    return _kept(recording, ("by chance", way.key), rows, make)


@torch.no_grad()
def _kept(
    recording: Recording, key: object, rows: Sequence[int], make: Callable[[list[int]], Tensor]
) -> Tensor:
    """Return a row for each token, kept with it; those unknown are made. [row, column]"""
    places = [recording.segment_at(row) for row in rows]
    lacking = [
        row
        for row, (segment, at) in zip(rows, places, strict=True)
        if at not in segment.memo.setdefault(key, {})
    ]
    if lacking:
        for row, made in zip(lacking, make(lacking), strict=True):
            segment, at = recording.segment_at(row)
            segment.memo[key][at] = made.clone()  # a view would keep all rows in memory
    return torch.stack([segment.memo[key][at] for segment, at in places])


def nearer_layer(
    recording: Recording, way: Applied, rows: Sequence[int], fvu: float
) -> tuple[Place, float] | None:
    """Return the neighbour layer's tensor that a dictionary fits better than its own; None if none.

    Args:
        recording: the recording.
        way: the dictionary, as it is applied.
        rows: the tokens that count.
        fvu: of its own tensor.

    Returns:
        The tensor and its FVU, below `BETTER` times that of its own.
    """
    key = "features nearer", way.key, tuple(rows)
    if key not in recording.memo:
        recording.memo[key] = _nearer_layer(recording, way, rows)
    best: tuple[Place, float] | None = recording.memo[key]
    return best if best is not None and best[1] < BETTER * fvu else None


def _nearer_layer(
    recording: Recording, way: Applied, rows: Sequence[int]
) -> tuple[Place, float] | None:
    """Return the neighbour layer's tensor that a dictionary fits better than the other's."""
    found = []
    for shift in (-1, 1):
        other = replace(way, shift=shift)
        try:
            aim = rows_of(other.outputs, recording, rows)
            errors = (aim - reconstructed(recording, other, rows)).double().square().sum()
        except Misfit:
            continue
        spread = (aim - aim.mean(0)).double().square().sum()
        reads = way.dictionary.header.reads
        found.append((replace(reads, layer=reads.layer + shift), float(errors / spread)))
    return min(found, key=lambda one: one[1], default=None)


BETTER = 0.95
"""The share of its own tensor's FVU below which a dictionary fits another tensor better."""


@dataclass(frozen=True)
class SpliceCost:
    """What a reconstruction in place of the tensor does to the model's predictions. `[token]`

    Attributes:
        kl: KL(p ‖ p spliced) after each token that counts, in nats.
        loss: the change of the cross-entropy of the next token, in nats; NaN after the last one.
    """

    kl: Floats
    loss: Floats

    @property
    def mean_kl(self) -> float:
        """The mean over the tokens."""
        return float(self.kl.mean())

    @property
    def mean_loss(self) -> float:
        """The mean over the tokens that have a next one; NaN if none has."""
        known = self.loss[np.isfinite(self.loss)]
        return float(known.mean()) if len(known) else float("nan")


def splice_cost(
    recording: Recording, passes: Passes, way: Applied, rows: Sequence[int], *, chance: bool
) -> SpliceCost:
    """Measure the predictions with a reconstruction in place at some tokens.

    One more pass, which continues from that of the prompt before the last letters.

    Args:
        recording: the recording.
        passes: runs the pass.
        way: the dictionary, as it is applied.
        rows: those tokens, after which the predictions are compared; ascending.
        chance: take the reconstruction of chance in place of the dictionary's.

    Raises:
        Misfit: the tensor cannot be changed by itself.
        Cancelled: the pass was cancelled.
    """
    # In a prompt of more tokens than are measured, those that are depend on the cursor.
    where = tuple(rows) if len(rows) < len(counted(recording)) else ()
    key = "spliced", way.key, chance, where
    spliced = passes.changed(recording, key, lambda: _splice(recording, way, chance, rows))
    ids = recording.prompt.ids
    wanted = [(row, ids[row + 1] if row + 1 < len(ids) else -1) for row in rows]
    places = [spliced.segment_at(row) for row in rows]
    kept = [segment.memo.setdefault("splice cost", {}) for segment, _ in places]
    lacking = [
        index for index, (_, at) in enumerate(places) if (at, wanted[index][1]) not in kept[index]
    ]
    for start in range(0, len(lacking), CHUNK):
        some = lacking[start : start + CHUNK]
        own, other = (_logits(one, [rows[index] for index in some]) for one in (recording, spliced))
        divergence = kl_divergence(own, other).tolist()
        following = torch.tensor([max(wanted[index][1], 0) for index in some], device=own.device)
        losses = [
            torch.nn.functional.cross_entropy(one.double(), following, reduction="none")
            for one in (own, other)
        ]
        for index, kl, loss in zip(some, divergence, (losses[1] - losses[0]).tolist(), strict=True):
            known = wanted[index][1] >= 0
            kept[index][places[index][1], wanted[index][1]] = kl, loss if known else float("nan")
    found = [kept[index][at, wanted[index][1]] for index, (_, at) in enumerate(places)]
    kl, loss = (np.array(column, dtype=np.float32) for column in zip(*found, strict=True))
    return SpliceCost(kl, loss)


CHUNK = 32
"""Tokens whose logits are held at once."""


def _logits(recording: Recording, rows: Sequence[int]) -> Tensor:
    """Return the logits after some tokens, the model's own where they are kept. [row, token]

    A typed letter needs those after the last two tokens, which are: no unembedding is read for it.
    """
    known: dict[int, Tensor] = {}
    if recording.earlier is not None:
        known[recording.earlier[0]] = recording.earlier[1].float()
    if recording.logits is not None:
        known[len(recording) - 1] = recording.logits.float()
    for run in runs_of([row for row in rows if row not in known]):
        known |= zip(run, logits(recording, run.start, run.stop), strict=True)
    return torch.stack([known[row] for row in rows])


def _splice(recording: Recording, way: Applied, chance: bool, rows: Sequence[int]) -> Change:
    """Return the change that puts the reconstruction in place at some tokens."""
    made = (by_chance if chance else reconstructed)(recording, way, rows)
    aim = rows_of(way.outputs, recording, rows)
    whole = range(rows[0], len(recording))
    difference = aim.new_zeros(len(whole), aim.shape[-1])
    difference[[row - whole.start for row in rows]] = made - aim
    return change_by(recording, way.dictionary.header.writes, whole, difference)
