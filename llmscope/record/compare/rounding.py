"""How far rounding alone moves the streams of a model, measured on the model itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.models.loading.frozen_copy import copy_in
from llmscope.models.loading.memory import GIB, available, ran_out
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Recording
from llmscope.record.compare.stream_difference import relative_difference
from llmscope.support.text import error_line

KEY = "rounding"
MARGIN = 4.0
"""How many times the measured rounding still counts as rounding.

What is measured is one computation, and two correct ones are off by different amounts: between
eager and fused attention of SmolLM2 in bfloat16 by up to 2.7 times in prompts of a few tokens.
"""
ROOM = 0.9
"""The share of the free memory that a copy of the model may take."""

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rounding:
    """The rounding of the streams by layer, the embedding first.

    Attributes:
        dtype: the dtype that rounds.
        relative: ‖x − y‖ / ‖x‖, x in a finer dtype and y in this one. [layer + 1, token]
        reason: why it could not be measured; "" if it was, else `relative` is empty.
    """

    dtype: str
    relative: Doubles
    reason: str = ""

    def bounds(self, layer: int) -> tuple[float, float]:
        """Return up to which relative difference of a stream rounding explains.

        Never less than the rounding of a single number, as the streams themselves are stored.

        Args:
            layer: how many layers came before the stream.

        Returns:
            The bound of the median over tokens, and that of each single token.
        """
        stored = torch.finfo(getattr(torch, self.dtype)).eps / 2
        typical, largest = np.median(self.relative[layer]), self.relative[layer].max()
        return max(stored, MARGIN * float(typical)), max(stored, MARGIN * float(largest))

    def beyond(self, layer: int, apart: Doubles) -> Mask:
        """Return the tokens whose stream differs by more than rounding. [token]

        Where the median of a layer does, all tokens above its bound. Where it does not, those above
        the largest rounding of any token: that of attention sinks is many times the usual one.

        Args:
            layer: how many layers came before the stream.
            apart: the relative difference of each token. [token]
        """
        typical, largest = self.bounds(layer)
        return ~(apart <= (typical if not np.median(apart) <= typical else largest))


def rounding(recording: Recording, dtype: torch.dtype) -> Rounding:
    """Measure the rounding of a prompt's streams in a dtype, or in the model's own if coarser.

    The model runs the prompt once more in another dtype, in a copy. Rounding grows with depth by an
    amount that depends on the weights and on the prompt, so no fixed number can stand for it: what
    one computation is off by is the yardstick for any other in the same dtype. Where the model runs
    in a finer dtype than `dtype`, the copy runs in `dtype`. Where it does not, its own streams are
    the rounded ones, and the copy runs in float32; for float32, in float64.

    Args:
        recording: the prompt on the model; the copy runs it without its edits.
        dtype: the dtype of the streams that the model's are compared with.
    """
    own_dtype = recording.model.dtype
    coarse = max(own_dtype, dtype, key=lambda candidate: torch.finfo(candidate).eps)
    if (KEY, coarse) not in recording.memo:
        recording.memo[KEY, coarse] = _measure(recording, own_dtype, coarse)
    cached: Rounding = recording.memo[KEY, coarse]
    return cached


def _measure(recording: Recording, own_dtype: torch.dtype, coarse: torch.dtype) -> Rounding:
    """Run a copy of the model in another dtype and return how far its streams are off.

    The copy is in `coarse`, or finer if the model itself is as coarse.
    """
    name = str(coarse).removeprefix("torch.")
    finer = torch.float64 if coarse == torch.float32 else torch.float32
    other = coarse if torch.finfo(own_dtype).eps < torch.finfo(coarse).eps else finer
    model = recording.model
    need = sum(parameter.numel() for parameter in model.module.parameters()) * other.itemsize
    free = available(model.device)
    if need > ROOM * free:
        reason = f"a copy of the model in {other} takes {need / GIB:.1f} GiB of memory, and "
        return Rounding(name, np.empty((0, 0)), f"{reason}{free / GIB:.1f} GiB are free")
    plain = recording.base or recording
    try:
        copied = Recorder(copy_in(model, other)).record(plain.prompt, fresh=True)
    except Exception as error:  # a model's own code may do anything in another dtype
        reason = "the memory does not hold a copy" if ran_out(error) else error_line(error)
        return Rounding(name, np.empty((0, 0)), reason)
    pair = (plain, copied) if other == coarse else (copied, plain)
    streams = range(recording.layers + 1)
    differences = [
        relative_difference(*(stream(side, layer) for side in pair)) for layer in streams
    ]
    return Rounding(name, torch.stack([difference.cpu() for difference in differences]).numpy())


def stream(recording: Recording, layer: int, wanted: range | None = None) -> Tensor:
    """Return the stream after a number of layers, on one device for all. [token, width]

    Args:
        recording: the recording.
        layer: the number of layers.
        wanted: the tokens; None for all.
    """
    rows = recording.rows("stream", layer, wanted)
    assert rows is not None
    return rows.to(recording.final_rows(0, 1).device)
