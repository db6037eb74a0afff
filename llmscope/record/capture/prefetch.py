"""What a pass keeps beside its rows because the user will probably view it next.

A user who changes an edit's strength, or types in the middle of a prompt, views the same panes as
before. What those showed of the last pass is known from what was cached with its rows. If the pass
computes the logits after all tokens that run, the unembedding's weights are read once; if it
computes only the last, the others are computed later and the weights are read twice. And the
activations of the displayed MLP exist while the pass runs: deriving them later runs the MLP again.

Passes that reuse nothing prefetch nothing, so that they give the same bits every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from llmscope.record.capture.recording import Recording

if TYPE_CHECKING:
    from llmscope.learned.lenses.lens import LearnedLens

ROWS = 64
"""Most tokens whose logits a pass keeps: a vocabulary of 256,000 then takes 64 MB in float32."""
ROW_STATS = ("row stats",)
ACTIVATIONS = "activations"
LOGITS = "logits"
LAST_LOGITS = "last logits"
LENS = "logit lens"
LENS_SCORES = "lens scores"
LOGIT_ROWS = "logit rows"
"""Keys of the memos that hold derived values.

`LOGIT_ROWS` is how many rows the unembedding was called with in a pass on top of earlier rows, in
the memo of its segment.
"""


@dataclass(frozen=True)
class Prefetch:
    """What is expected to be viewed next.

    Attributes:
        predictions: whether statistics of every token, which need the logits after each, are.
        activations: the layer whose MLP activations are; None: no layer's.
        lenses: lenses of which the readings of the last token are, None for the logit lens; see
            `llmscope.record.capture.lens_rows`.
    """

    predictions: bool = False
    activations: int | None = None
    lenses: tuple[LearnedLens | None, ...] = ()

    def logits_of(self, tokens: int) -> int:
        """Return for how many last tokens to compute the logits, if `tokens` of them run."""
        return tokens if self.predictions and tokens <= ROWS else 1


NOTHING = Prefetch()


def foreseen(before: Recording | None) -> Prefetch:
    """Predict what will be viewed next from what was cached with the rows of an earlier pass."""
    if before is None:
        return NOTHING
    memo = before.parts[-1][0].memo
    layer, _ = memo.get(ACTIVATIONS, (None, None))
    return Prefetch(ROW_STATS in memo, layer, tuple(memo.get(LENS, ())))


def keep_logits(recording: Recording, logits: Tensor) -> None:
    """Keep the logits after the last tokens until they are reduced to statistics. [row, token]"""
    if len(logits) > 1:
        recording.memo[LOGITS] = logits


def kept_logits(recording: Recording) -> Tensor | None:
    """Return the logits after the last tokens, or None if not kept. [row, token]"""
    logits: Tensor | None = recording.memo.get(LOGITS)
    return logits


def drop_logits(recording: Recording | None) -> None:
    """Drop the kept logits: they were reduced, or the recording is no longer the latest."""
    if recording is not None:
        recording.memo.pop(LOGITS, None)


def keep_lenses(recording: Recording, scores: Mapping[LearnedLens | None, Tensor]) -> None:
    """Keep the readings of the last token until they are reduced; by lens: [layer + 1, token]"""
    if scores:
        recording.memo[LENS_SCORES] = dict(scores)


def take_lens(recording: Recording, lens: LearnedLens | None) -> Tensor | None:
    """Return the readings of the last token and drop them; None if not kept. [layer + 1, token]"""
    by_lens = recording.memo.get(LENS_SCORES, {})
    scores: Tensor | None = by_lens.pop(lens, None)
    if not by_lens:
        recording.memo.pop(LENS_SCORES, None)
    return scores


def drop_lenses(recording: Recording | None) -> None:
    """Drop readings of the last token that were not looked at."""
    if recording is not None:
        recording.memo.pop(LENS_SCORES, None)
