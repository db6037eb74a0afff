"""How probable an answer is when it is forced after a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.kl import exact64, kl_divergence
from llmscope.record.interventions.continuations import Continuation, continued


@dataclass(frozen=True, eq=False)
class Forced:
    """What a model says of an answer after one text.

    Attributes:
        log_p: log p of each token of the answer after those before it, in nats. [token], float64
        first: the logits where the answer begins. [token of the vocabulary]
    """

    log_p: Tensor
    first: Tensor

    @property
    def total(self) -> float:
        """Log p of the whole answer, in nats."""
        return float(self.log_p.sum())

    @property
    def says(self) -> int:
        """The likeliest token where the answer begins."""
        return int(self.first.argmax())

    def kl(self, other: Forced) -> float:
        """Return KL(this ‖ other) of what may come where the answer begins, in nats."""
        return float(kl_divergence(self.first[None], other.first[None])[0])


def forced(
    run: Passes,
    recording: Recording,
    texts: Sequence[Continuation],
    suffix: Sequence[int],
    answer: Sequence[int],
) -> Iterator[Forced]:
    """Yield what is said of an answer after each text and the suffix.

    Args:
        run: runs the passes.
        recording: an unedited recording.
        texts: the texts before the suffix.
        suffix: the ids between a text and the answer; may be empty.
        answer: the ids of the answer, at least one.

    Raises:
        Cancelled: a pass was cancelled.
    """
    continuations = [Continuation(text.kept, (*text.tail, *suffix, *answer[:-1])) for text in texts]
    chosen = torch.tensor(answer)[:, None]
    for logits in continued(run, recording, continuations, len(answer)):
        spoken = torch.log_softmax(exact64(logits), -1).cpu().gather(-1, chosen)[:, 0]
        yield Forced(spoken, logits[0].clone())  # a view would keep all rows in memory


def own_answer(
    run: Passes,
    recording: Recording,
    text: Continuation,
    suffix: Sequence[int],
    *,
    length: int,
    ends: Sequence[int] = (),
) -> tuple[int, ...]:
    """Return the likeliest tokens after a text and the suffix, one after the other.

    Args:
        run: runs the passes.
        recording: an unedited recording.
        text: the text before the suffix.
        suffix: the ids between the text and the answer.
        length: most tokens.
        ends: the tokens that end an answer, which are no part of it.

    Raises:
        Cancelled: a pass was cancelled.
    """
    answer: tuple[int, ...] = ()
    while len(answer) < length:
        longer = Continuation(text.kept, (*text.tail, *suffix, *answer))
        (logits,) = continued(run, recording, [longer], 1)
        token = int(logits[0].argmax())
        if token in ends:
            break
        answer = (*answer, token)
    return answer
