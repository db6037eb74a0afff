"""The tokens whose prediction moved most, and what the layers of both models say there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from llmscope.jobs.compare.side import Reader
from llmscope.jobs.compare.texts import Text
from llmscope.jobs.compare.tokens import PairedPredictions, log_probabilities
from llmscope.record.compare.stream_difference import paired_streams
from llmscope.record.derive.kl import kl_of

Item = TypeVar("Item")
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


@dataclass(frozen=True)
class _Token:
    """A token, what is told of it, and its streams in both models. `[stream, width]` twice"""

    key: tuple[float, int, int]
    about: Mapping[str, Any]
    streams: tuple[Tensor, Tensor]


@dataclass
class MostMoved:
    """The `count` tokens of a shard with the largest KL; of ties, the first ones.

    A prediction after the same text, as at the beginning of several texts, counts once.
    """

    count: int
    _kept: list[_Token] = field(default_factory=list, init=False)

    def add(
        self,
        text: Text,
        first: int,
        predictions: PairedPredictions,
        streams: tuple[Tensor, Tensor],
        tell: Callable[[int], Mapping[str, Any]],
    ) -> None:
        """Add the tokens of a text that moved more than those that are kept.

        Args:
            text: the text.
            first: the position of the first token that is predicted.
            predictions: the predictions.
            streams: those that the predictions are read from. `[stream, row, width]` twice
            tell: returns what is told of the token of a row.
        """
        for row in np.argsort(-predictions.kl, kind="stable")[: self.count].tolist():
            key = -float(predictions.kl[row]), text.line, first + row
            if len(self._kept) == self.count and key > self._kept[-1].key:
                break
            streams_at_row = (streams[0][:, row].clone(), streams[1][:, row].clone())
            self._kept.append(_Token(key, tell(row), streams_at_row))
            self._kept.sort(key=lambda token: token.key)
            self._kept = _once(self._kept, lambda token: token.about)[: self.count]

    def to_list(self) -> list[Any]:
        """Return the tokens as numbers, texts, arrays and lists of these."""
        return [
            [token.key, dict(token.about), *(_stream_bits(stream) for stream in token.streams)]
            for token in self._kept
        ]

    def load(self, values: Sequence[Any], readers: tuple[Reader, Reader]) -> None:
        """Go on with the tokens that `to_list` returned.

        Args:
            values: what it returned.
            readers: the two models.
        """
        self._kept = []
        for key, about, *streams in values:
            a, b = (
                torch.from_numpy(bits).view(DTYPES[name]).to(_device(reader))
                for (name, bits), reader in zip(streams, readers, strict=True)
            )
            self._kept.append(_Token(key, about, (a, b)))

    def records(
        self, readers: tuple[Reader, Reader], layers: bool, label: Callable[[int], str]
    ) -> list[dict[str, Any]]:
        """Return what is told of the tokens, the one that moved most first.

        Args:
            readers: the two models.
            layers: read the streams of both models through their logit lenses.
            label: returns the text of a token.
        """
        records = [dict(token.about) for token in self._kept]
        if not layers or not records:
            return records
        for record in records:
            record["layers"] = []
        for a, b in paired_streams(readers[0].layers, readers[1].layers):
            rows = (
                torch.stack([token.streams[0][a] for token in self._kept]),
                torch.stack([token.streams[1][b] for token in self._kept]),
            )
            for record, readings in zip(records, _lenses(readers, rows, label), strict=True):
                record["layers"].append({"after": a - 1, "after_b": b - 1, **readings})
        for record in records:
            record["lenses_part_after"] = lenses_part_after(record["layers"])
        return records


def _stream_bits(stream: Tensor) -> list[Any]:
    """Return the name of a stream's dtype, and its bits as integers: numpy has no bfloat16."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[stream.element_size()]
    name = next(name for name, dtype in DTYPES.items() if dtype == stream.dtype)
    return [name, stream.cpu().contiguous().view(whole).numpy()]


def _device(reader: Reader) -> torch.device:
    """Return the device that a model's streams are on."""
    weights = next(reader.readout.unembed.parameters(), None)
    return torch.device("cpu") if weights is None else weights.device


def lenses_part_after(layers: Sequence[Mapping[str, Any]]) -> int:
    """Return the layer from which on the KL of the lenses is at least half of that at the end.

    Quantised weights move every stream a little from the first layer on: this tells where that
    comes to matter for the prediction.
    """
    half = layers[-1]["kl"] / 2
    last_below = max((at for at, reading in enumerate(layers) if reading["kl"] < half), default=-1)
    after: int = layers[min(last_below + 1, len(layers) - 1)]["after"]
    return after


@torch.no_grad()
def _lenses(
    readers: tuple[Reader, Reader], rows: tuple[Tensor, Tensor], label: Callable[[int], str]
) -> Iterable[dict[str, Any]]:
    """Yield what the logit lenses of both models read of each row."""
    p, q = log_probabilities(readers, rows)
    kl = kl_of(p, q).tolist()
    tops: Sequence[tuple[list[int], list[float]]] = [
        (log_shares.argmax(-1).tolist(), log_shares.amax(-1).exp().tolist())
        for log_shares in (p, q)
    ]
    for row, value in enumerate(kl):
        (top_a, p_a), (top_b, p_b) = ((ids[row], shares[row]) for ids, shares in tops)
        yield {
            "kl": value,
            "top_a": label(top_a),
            "p_top_a": p_a,
            "top_b": label(top_b),
            "p_top_b": p_b,
        }


def most_moved(records: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return the tokens of several shards that moved most."""
    ranked = sorted(records, key=lambda record: (-record["kl"], record["line"], record["position"]))
    return _once(ranked, lambda record: record)[:count]


def _once(items: Iterable[Item], about: Callable[[Item], Mapping[str, Any]]) -> list[Item]:
    """Return the first item of each position after the same text."""
    by_place: dict[tuple[int, str], Item] = {}
    for item in items:
        report = about(item)
        by_place.setdefault((report["position"], report["context"]), item)
    return list(by_place.values())
