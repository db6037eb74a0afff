"""Passes without single features: what the answer loses with each."""

from __future__ import annotations

from collections.abc import Sequence

from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Job
from llmscope.record.features.active import Applied, features_of
from llmscope.record.interventions.feature_edits import feature_change
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
        Misfit: the model has no tensor that the dictionary reads.
        ScopeError: the tensor that the dictionary predicts cannot be changed by itself.
    """
    active = features_of(way, recording, range(position + 1))
    begins = [
        next((at for at, row in enumerate(active) if row.of(feature)), position)
        for feature in features
    ]
    changes = [
        feature_change(recording, way, feature, range(begin, position + 1), factor=0.0)
        for feature, begin in zip(features, begins, strict=True)
    ]

    def jobs(chosen: Sequence[int]) -> list[Job]:
        return [(changes[feature],) for feature in chosen]

    depth = min((change.layer for change in changes), default=recording.layers)
    row = SweepRow(0, depth, tuple(range(len(features))), min(begins, default=0), jobs)
    key = "features", way.key, tuple(features)
    return Sweep(recording, position, key, (row,), (1, len(features)))
