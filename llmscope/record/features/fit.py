"""How well a dictionary fits a model on a prompt: measured, and beside chance.

    FVU = Σ ‖x − x̂‖² / Σ ‖x − mean x‖²       over the tokens that count

L0 is the number of active features. KL and the change of loss are those of the model's predictions
when x̂ takes the place of x at all tokens that count. Chance is a random dictionary of the same size
with as many active features: see `llmscope.record.features.chance`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.learned.dictionaries.dictionary import Dictionary
from llmscope.learned.dictionaries.place import Place
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change
from llmscope.record.derive.kl import exact64, kl_of
from llmscope.record.derive.tensors import logits
from llmscope.record.features.active import (
    TRIED,
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
LOSS = 1.0
"""The most nats by which a dictionary that fits may raise the loss."""


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
    fit: Fit = recording.memo[key]
    return fit


@torch.no_grad()
def _fit_of(recording: Recording, way: Applied, rows: Sequence[int]) -> Fit:
    aim = rows_of(way.outputs, recording, rows)  # [token, out width]
    active = features_of(way, recording, rows)
    rebuilt = reconstructed(recording, way, rows), by_chance(recording, way, rows)
    errors, chance = (
        (aim - rebuilt_rows).double().square().sum(-1).cpu() for rebuilt_rows in rebuilt
    )
    spread = (aim - aim.mean(0)).double().square().sum(-1).cpu()  # [token]
    total = float(spread.sum())
    if total <= ROUNDING * float(aim.double().square().sum()):  # all tokens alike
        total, spread = float("nan"), torch.full_like(spread, float("nan"))
    return Fit(
        tuple(rows),
        fvu=float(errors.sum()) / total,
        chance=float(chance.sum()) / total,
        each=(errors / spread).float().numpy(),
        each_chance=(chance / spread).float().numpy(),
        active=np.array([len(row) for row in active]),
        different=len({recording.prompt.ids[row] for row in rows}),
    )


def reconstructed(recording: Recording, way: Applied, rows: Sequence[int]) -> Tensor:
    """Return the dictionary's reconstruction of tokens; known rows are kept. [row, out width]"""
    return _rows_of_tokens(
        *(recording, ("reconstructed", way.key), rows),
        lambda tokens: reconstruction(way, recording, tokens),
    )


def by_chance(recording: Recording, way: Applied, rows: Sequence[int]) -> Tensor:
    """Return the reconstruction of tokens that chance gives; known rows are kept.

    [row, out width]
    """

    def make(tokens: list[int]) -> Tensor:
        active = features_of(way, recording, tokens)
        aim = rows_of(way.outputs, recording, tokens)
        return chance_reconstruction(way.dictionary, aim, [len(row) for row in active])

    return _rows_of_tokens(recording, ("by chance", way.key), rows, make)


@torch.no_grad()
def _rows_of_tokens(
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
        for row, row_values in zip(lacking, make(lacking), strict=True):
            segment, at = recording.segment_at(row)
            segment.memo[key][at] = row_values.clone()  # a view would keep all rows in memory
    return torch.stack([segment.memo[key][at] for segment, at in places])


def nearer_layer(
    recording: Recording, way: Applied, rows: Sequence[int], fvu: float
) -> tuple[Place, float] | None:
    """Return the tensor of another layer that a dictionary fits better than its own; None if none.

    Both neighbours are compared on all tokens. So is the best of the layers farther off, if it is
    better on the first few tokens of the prompt.

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
    """Return the tensor of the other layer that a dictionary fits best; None without one."""
    shifts = (-1, 1, *_far_shift(recording, way))
    by_shift = {shift: _fvu_at(recording, way, shift, rows) for shift in shifts}
    known = {shift: fvu for shift, fvu in by_shift.items() if math.isfinite(fvu)}
    if not known:
        return None
    best, reads = min(known, key=known.__getitem__), way.dictionary.header.reads
    return replace(reads, layer=reads.layer + best), known[best]


def _far_shift(recording: Recording, way: Applied) -> tuple[int, ...]:
    """Return how far off the best layer is that is no neighbour, if it beats the dictionary's own.

    It is kept with the dictionary: the first tokens of a prompt are the same at the next letter.
    """
    rows, reads = counted(recording)[:TRIED], way.dictionary.header.reads
    ids = recording.prompt.ids[: rows[-1] + 1]
    serial = state_of(recording.model.module).serial
    by_dictionary = _far.setdefault(recording.model, WeakKeyDictionary())
    by_prompt = by_dictionary.setdefault(way.dictionary, {})
    key = (way.centred, serial, ids)
    if key in by_prompt and not recording.edits:
        return by_prompt[key]
    shifts = (layer - reads.layer for layer in range(recording.layers))
    far = [shift for shift in shifts if abs(shift) > 1]
    errors = {shift: _fvu_at(recording, way, shift, rows) for shift in (0, *far)}
    best_shift = min(errors, key=lambda shift: (not math.isfinite(errors[shift]), errors[shift]))
    better = (best_shift,) if best_shift and errors[best_shift] < BETTER * errors[0] else ()
    if not recording.edits:
        if len(by_prompt) >= KEPT:
            by_prompt.clear()
        by_prompt[key] = better
    return better


_far: WeakKeyDictionary[
    LoadedModel, WeakKeyDictionary[Dictionary, dict[object, tuple[int, ...]]]
] = WeakKeyDictionary()
KEPT = 32
"""Prompts for which it is kept which layer farther off fits better."""


@torch.no_grad()
def _fvu_at(recording: Recording, way: Applied, shift: int, rows: Sequence[int]) -> float:
    """Return the FVU of a dictionary on the tensor of another layer; NaN without one.

    Args:
        recording: the recording.
        way: the dictionary, as it is applied.
        shift: how many layers further on.
        rows: the tokens.
    """
    other = replace(way, shift=shift)
    try:
        aim = rows_of(other.outputs, recording, rows)
        errors = (aim - reconstructed(recording, other, rows)).double().square().sum()
    except Misfit:
        return math.nan
    spread = (aim - aim.mean(0)).double().square().sum()
    return float(errors / spread)


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


def splice_costs(
    recording: Recording, passes: Passes, way: Applied, rows: Sequence[int]
) -> tuple[SpliceCost, SpliceCost]:
    """Measure the predictions with a reconstruction in place at some tokens.

    One more pass of both reconstructions, which continues from that of the prompt before the last
    letters.

    Args:
        recording: the recording.
        passes: runs the pass.
        way: the dictionary, as it is applied.
        rows: those tokens, after which the predictions are compared; ascending.

    Returns:
        The cost of the dictionary's reconstruction, and of that of chance.

    Raises:
        Misfit: the tensor cannot be changed by itself.
        Cancelled: the pass was cancelled.
    """
    # In a prompt of more tokens than are measured, those that are depend on the cursor.
    where = tuple(rows) if len(rows) < len(counted(recording)) else ()
    makers = reconstructed, by_chance
    spliced = passes.variants(
        recording,
        ("spliced", way.key, where),
        lambda: [_splice(recording, way, make(recording, way, rows), rows) for make in makers],
    )
    ids = (*recording.prompt.ids, -1)
    known: dict[tuple[int, int], list[list[float]]] = spliced.memo
    lacking = [row for row in rows if (row, ids[row + 1]) not in known]
    for run in runs_of(lacking):
        for start in range(run.start, run.stop, CHUNK):
            chunk = range(start, min(start + CHUNK, run.stop))
            following = [ids[row + 1] for row in chunk]
            costs = _costs(_logits(recording, chunk), spliced.logits(chunk), following)
            known |= zip(zip(chunk, following, strict=True), costs, strict=True)
    costs_by_row = np.array([known[row, ids[row + 1]] for row in rows], dtype=np.float32)
    own_cost, chance = (SpliceCost(cost[:, 0], cost[:, 1]) for cost in costs_by_row.swapaxes(0, 1))
    return own_cost, chance


CHUNK = 16
"""Tokens whose logits are held at once."""


def _costs(
    own_logits: Tensor, spliced: Tensor, following: Sequence[int]
) -> list[list[list[float]]]:
    """Return KL and the change of loss of predictions. [row][variant][measure]

    Args:
        own_logits: the model's logits. [row, token]
        spliced: the logits to compare. [variant, row, token]
        following: the next token of each row; -1: unknown, and its loss NaN.
    """
    p, q = (torch.log_softmax(exact64(logits), -1) for logits in (own_logits, spliced))
    at = torch.tensor(following, device=p.device)
    index = at.clamp(min=0)[:, None]
    loss = p.gather(-1, index)[:, 0] - q.gather(-1, index.expand(len(q), -1, -1))[..., 0]
    both = torch.stack([kl_of(p, q), loss.masked_fill(at < 0, torch.nan)], -1)
    costs: list[list[list[float]]] = both.movedim(0, 1).tolist()
    return costs


def _logits(recording: Recording, rows: range) -> Tensor:
    """Return the model's logits after some tokens: its own where they are kept. [row, token]

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


def _splice(recording: Recording, way: Applied, rebuilt: Tensor, rows: Sequence[int]) -> Change:
    """Return the change that puts a reconstruction in place at some tokens. `[row, out width]`"""
    aim = rows_of(way.outputs, recording, rows)
    whole = range(rows[0], len(recording))
    difference = aim.new_zeros(len(whole), aim.shape[-1])
    difference[[row - whole.start for row in rows]] = rebuilt - aim
    return change_by(recording, way.dictionary.header.writes, whole, difference)
