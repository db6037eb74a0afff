"""What a pass keeps beside its rows because somebody will look at it next.

Who turns a strength, or types in the middle of a prompt, looks at the same panes as before. What
they showed of the last pass is known from what was kept with its rows. A model that gives the
logits after all tokens that run reads its unembedding once; where it gives those after the last
one, the others are read later and it is read twice. And the activations of the MLP in sight exist
while the pass runs: to derive them later is to run the MLP once more.

Passes that reuse nothing foresee nothing, so that they give the same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llmscope.record.capture.recording import Recording

ROWS = 64
"""Tokens whose logits a pass keeps: a vocabulary of 256,000 then takes 64 MB in float32."""
ROW_STATS = ("row stats",)
ACTIVATIONS = "activations"
LOGITS = "logits"
"""Under which the memos keep what was derived."""


@dataclass(frozen=True)
class Prefetch:
    """What will be looked at.

    Attributes:
        predictions: how the model fared at each token: what needs the logits after all of them.
        activations: the layer whose MLP is in sight; None: no layer's.
    """

    predictions: bool = False
    activations: int | None = None

    def logits_of(self, tokens: int) -> int:
        """After how many last tokens the logits are wanted, if so many run."""
        return tokens if self.predictions and tokens <= ROWS else 1


NOTHING = Prefetch()


def foreseen(before: Recording | None) -> Prefetch:
    """What will be looked at next, by what was looked at last in the rows of an earlier pass."""
    if before is None:
        return NOTHING
    memo = before.parts[-1][0].memo
    layer, _ = memo.get(ACTIVATIONS, (None, None))
    return Prefetch(ROW_STATS in memo, layer)


def keep_logits(recording: Recording, logits: Tensor) -> None:
    """Keep the logits after the last tokens until they are reduced. [row, token]"""
    if len(logits) > 1:
        recording.memo[LOGITS] = logits


def kept_logits(recording: Recording) -> Tensor | None:
    """The logits after the last tokens, if they are kept. [row, token]"""
    kept: Tensor | None = recording.memo.get(LOGITS)
    return kept


def drop_logits(recording: Recording | None) -> None:
    """Keep them no longer: they were reduced, or the recording is the latest no more."""
    if recording is not None:
        recording.memo.pop(LOGITS, None)
