"""How two models predict each token of a text, and how far their streams are apart there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.errors import ScopeError, option
from llmscope.jobs.compare.side import Reader
from llmscope.jobs.compare.texts import Text
from llmscope.record.compare.same_tokens import shared_logits
from llmscope.record.compare.stream_difference import (
    cosine,
    paired_streams,
    parting_stream,
    relative_difference,
    rounding_bound,
)
from llmscope.record.derive.kl import exact64, kl_of

ROWS = 32
"""PairedPredictions whose logits are held at once."""
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class PairedPredictions:
    """Two models' predictions of tokens. All `[row]`

    Attributes:
        kl: KL(A ‖ B) of the predictions, in nats.
        log_p_a, log_p_b: the logarithm of the probability of the token that follows.
        top_a, top_b: the likeliest token.
        p_top_a, p_top_b: its probability.
    """

    kl: Floats
    log_p_a: Floats
    log_p_b: Floats
    top_a: Numbers
    top_b: Numbers
    p_top_a: Floats
    p_top_b: Floats


@torch.no_grad()
def predictions(
    readers: tuple[Reader, Reader], last: tuple[Tensor, Tensor], following: Tensor
) -> PairedPredictions:
    """Return the two models' predictions after some tokens.

    Args:
        readers: the two models.
        last: the last stream of each. `[row, width]` twice
        following: the tokens that follow. [row]
    """
    blocks = []
    for start in range(0, len(following), ROWS):
        rows = slice(start, start + ROWS)
        p, q = log_probabilities(readers, (last[0][rows], last[1][rows]))
        actual = following[rows].to(p.device)[:, None]
        blocks.append(
            (
                kl_of(p, q),
                *(log_shares.gather(1, actual)[:, 0] for log_shares in (p, q)),
                *(log_shares.argmax(-1) for log_shares in (p, q)),
                *(log_shares.amax(-1).exp() for log_shares in (p, q)),
            )
        )
    return PairedPredictions(
        *(torch.cat(parts).cpu().numpy() for parts in zip(*blocks, strict=True))
    )


def log_probabilities(
    readers: tuple[Reader, Reader], streams: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities that two models read from streams, in float64. `[row, token]`"""
    logits = (reader.readout(rows).float() for reader, rows in zip(readers, streams, strict=True))
    p, q = (torch.log_softmax(exact64(logit), -1) for logit in shared_logits(*logits))
    return p, q


@dataclass
class LayerSums:
    """Sums over tokens of how far two streams are apart. All `[pair of streams]`

    Attributes:
        tokens: the tokens that count.
        cosine, difference: sums of the cosines, and of ‖a − b‖ / ‖a‖.
        beyond: the tokens whose difference is more than rounding.
    """

    tokens: Numbers
    cosine: Floats
    difference: Floats
    beyond: Numbers

    @classmethod
    def of(cls, pairs: int) -> LayerSums:
        """Return sums over no token."""
        numbers, floats = np.zeros(pairs, np.int64), np.zeros(pairs)
        return cls(numbers, floats, floats.copy(), numbers.copy())

    def add(self, other: LayerSums) -> None:
        """Add the sums over other tokens."""
        for name, sums in vars(self).items():
            sums += getattr(other, name)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the sums as JSON types."""
        return {name: sums.tolist() for name, sums in vars(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> LayerSums:
        """Return the sums that `to_dict` returned."""
        sums = cls.of(len(record["tokens"]))
        for name, values in vars(sums).items():
            values[:] = record[name]
        return sums


@dataclass(frozen=True)
class StreamDifferences:
    """How far the streams of a text are apart.

    Attributes:
        parts: for each token, the first pair of streams that differs by more than rounding; -1 if
            none does. [row]
        text_parts: the same for the text, by the median of its tokens; None: none does.
        sums: over its tokens.
    """

    parts: Numbers
    text_parts: int | None
    sums: LayerSums


@torch.no_grad()
def stream_differences(
    readers: tuple[Reader, Reader], streams: tuple[Tensor, Tensor]
) -> StreamDifferences | None:
    """Compare the streams of a text; None if the models' streams have different widths.

    Args:
        readers: the two models.
        streams: `[stream, row, width]` of each.
    """
    a, b = readers
    if a.width != b.width:
        return None
    bound = rounding_bound(a.dtype, b.dtype)
    pairs = paired_streams(a.layers, b.layers)
    sums, apart = LayerSums.of(len(pairs)), []
    for at, (stream, other) in enumerate(pairs):
        ours, theirs = streams[0][stream], streams[1][other]
        angle, away = cosine(ours, theirs), relative_difference(ours, theirs)
        counts = angle.isfinite() & away.isfinite()  # a stream of zeros has no direction
        sums.tokens[at] = int(counts.sum())
        sums.cosine[at] = float(angle[counts].sum())
        sums.difference[at] = float(away[counts].sum())
        sums.beyond[at] = int((~(away <= bound)).sum())
        apart.append(away.cpu())
    differences = torch.stack(apart)  # [pair, row]
    beyond = (~(differences <= bound)).numpy()
    parts = np.where(beyond.any(0), beyond.argmax(0), -1).astype(np.int64)
    return StreamDifferences(parts, parting_stream(differences, bound), sums)


def check_finite(text: Text, predicted: PairedPredictions) -> None:
    """Check that the predictions of a text are numbers.

    Raises:
        ScopeError: they are not.
    """
    if not all(
        np.isfinite(values).all() for values in (predicted.kl, predicted.log_p_a, predicted.log_p_b)
    ):
        raise ScopeError(
            f"line {text.line}: a logit is NaN or infinite",
            f"{option('dtype')} or {option('versus-dtype', 'float32')}",
        )
