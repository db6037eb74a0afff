"""Which ranks a padded pass may give: tokens whose logits tie up to rounding may change places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Figure, Focus

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording

RankRange = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The lowest and the highest rank of each cell; NaN where there is no rank."""


def tied_ranks(
    figure: Figure, recording: Recording, focus: Focus, bound: float
) -> dict[str, RankRange]:
    """Return the ranks that another pass over a prompt may give, by the names of their arrays.

    They hold if no logit of it differs by more than `bound` times the largest of its row.

    Args:
        figure: a figure of the recording.
        recording: the pass to compare with.
        focus: the figure's focus.
        bound: the most that logits differ, relative to the largest one if that is above 1.
    """
    from llmscope.record.derive.tensors import logits, logits_after
    from llmscope.record.derive.token_stats import rank_range

    length = len(recording)
    if figure.lens == "tokens":
        ids = recording.prompt.ids[1:]
        low, high = rank_range(logits(recording, 0, length - 1), ids, bound)
        return {"ranks": (_after_first(low), _after_first(high))}
    if figure.lens == "next-token":
        scores = logits_after(recording, focus.position)[None]
        low, high = rank_range(scores, (figure.extra["target_id"],), bound)
        return {"target_rank": (low[0], high[0])}
    if figure.lens == "logit-lens" and "ranks" in figure.extra:
        return {"ranks": _by_layer(figure, recording, focus, bound)}
    return {}


def _after_first(ranks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ranks of all tokens, of which the first has none. [position]"""
    return np.concatenate([np.full(1, np.nan, np.float32), ranks])


def _by_layer(figure: Figure, recording: Recording, focus: Focus, bound: float) -> RankRange:
    """Return the ranks of the target after each layer at each position. [layer, position]"""
    from llmscope.learned.catalog import lens_for
    from llmscope.lenses.logit_lens import TRANSLATOR
    from llmscope.record.analysis.logit_lens import scores_at
    from llmscope.record.derive.token_stats import rank_range

    given, layers = TRANSLATOR.of(focus), range(-1, recording.layers)
    found = None if given is None else lens_for(given, recording.subject)
    lens = None if isinstance(found, str) else found
    target = (figure.extra["target_id"],) * len(layers)
    columns = [
        rank_range(scores_at(recording, layers, position, lens), target, bound)
        for position in range(len(recording))
    ]
    low, high = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    return low, high
