"""Passes without single features: what the answer loses with each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmscope.dictionaries.dictionary import Active
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change, Job
from llmscope.record.features.active import Applied, features_of
from llmscope.record.features.splice import change_by
from llmscope.record.interventions.sweep import Sweep, SweepRow


def ablations(recording: Recording, way: Applied, features: Sequence[int], position: int) -> Sweep:
    """Return the passes in which each feature writes nothing, at all tokens up to a position.

    Whatever the dictionary does not reconstruct stays as it is. One row, a column a feature.

    Args:
        recording: the recording, with its edits.
        way: the dictionary, as it is applied.
        features: the features.
        position: the token after which the logits are read.

    Raises:
        Misfit: the tensor that the dictionary predicts cannot be changed by itself.
    """
    header, rows = way.dictionary.header, range(position + 1)
    active = features_of(way, recording, rows)
    inputs = way.inputs(recording, rows)
    nothing = inputs.new_zeros(len(rows), header.out_width)
    first = change_by(recording, header.writes, rows, nothing)  # raises where it is not possible

    def jobs(chosen: Sequence[int]) -> list[Job]:
        return [(_without(recording, way, features[one], active, inputs, rows),) for one in chosen]

    starts = [next((at for at, one in enumerate(active) if one.of(f)), position) for f in features]
    row = SweepRow(0, first.layer, tuple(range(len(features))), min(starts, default=0), jobs)
    key = "features", way.key, tuple(features)
    return Sweep(recording, position, key, (row,), (1, len(features)))


def _without(
    recording: Recording,
    way: Applied,
    feature: int,
    active: Sequence[Active],
    inputs: Tensor,
    rows: range,
) -> Change:
    """Return the change that takes away what a feature writes at some tokens."""
    values = torch.tensor([[-one.of(feature)] for one in active], device=inputs.device)
    difference = way.dictionary.written([feature], values, inputs).float()
    return change_by(recording, way.dictionary.header.writes, rows, difference)
