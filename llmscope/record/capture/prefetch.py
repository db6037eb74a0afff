"""What a pass keeps beside its rows because the user will probably view it next.

A user who changes an edit's strength, or types in the middle of a prompt, views the same panes as
before. What those showed of the last pass is known from what was cached with its rows. If the pass
computes the logits after all tokens that run, the unembedding's weights are read once; if it
computes only the last, the others are computed later and the weights are read twice. And the
activations of the displayed MLP exist while the pass runs: deriving them later runs the MLP again.

Passes that reuse nothing prefetch nothing, so that they give the same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llmscope.record.capture.recording import Recording

ROWS = 64
"""Most tokens whose logits a pass keeps: a vocabulary of 256,000 then takes 64 MB in float32."""
ROW_STATS = ("row stats",)
ACTIVATIONS = "activations"
LOGITS = "logits"
LAST_LOGITS = "last logits"
LENS = "logit lens"
LENS_SCORES = "lens scores"
LENS_ROWS = "lens rows"
"""Keys of the memos that hold derived values."""


@dataclass(frozen=True)
class Prefetch:
    """What is expected to be viewed next.

    Attributes:
        predictions: whether statistics of every token, which need the logits after each, are.
        activations: the layer whose MLP activations are; None: no layer's.
        lens: whether the logit lens of the last token is; see `llmscope.record.capture.lens_rows`.
    """

    predictions: bool = False
    activations: int | None = None
    lens: bool = False

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
    return Prefetch(ROW_STATS in memo, layer, None in memo.get(LENS, ()))


def keep_logits(recording: Recording, logits: Tensor) -> None:
    """Keep the logits after the last tokens until they are reduced to statistics. [row, token]"""
    if len(logits) > 1:
        recording.memo[LOGITS] = logits


def kept_logits(recording: Recording) -> Tensor | None:
    """Return the logits after the last tokens, or None if not kept. [row, token]"""
    kept: Tensor | None = recording.memo.get(LOGITS)
    return kept


def drop_logits(recording: Recording | None) -> None:
    """Drop the kept logits: they were reduced, or the recording is no longer the latest."""
    if recording is not None:
        recording.memo.pop(LOGITS, None)


def keep_lens(recording: Recording, scores: Tensor | None) -> None:
    """Keep the logit lens of the last token until it is reduced. [layer + 1, token]"""
    if scores is not None:
        recording.memo[LENS_SCORES] = scores
        recording.parts[-1][0].memo[LENS_ROWS] = True


def take_lens(recording: Recording | None) -> Tensor | None:
    """Return the logit lens of the last token and drop it; None if not kept. [layer + 1, token]"""
    return None if recording is None else recording.memo.pop(LENS_SCORES, None)
