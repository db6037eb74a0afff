"""At which depth a lens reads what the model is about to say: `python -m demo.lens_depths`.

For new documents of the built-in base's world, and the tokens at which the model is sure of the
next one: the first layer from which on the lens has that token on top, or among its first five. A
token after `->` is the answer of a rule that three examples gave before; others are all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

import llmscope
from demo.fit_lenses import prompts
from llmscope.jobs.fit_lens.check import streams_of
from llmscope.jobs.fit_lens.corpus import CorpusPrompt
from llmscope.learned.lenses.catalog import lens_for
from llmscope.learned.lenses.lens import LearnedLens

SEED, PROMPTS, SURE = 404, 60, 0.8
RULE = "->"
LENSES = ("logit", "jacobian", "tuned")


@dataclass(frozen=True)
class Depth:
    """Where a lens reads the model's next token, over some tokens.

    Attributes:
        top1, top5: the mean of the first stream from which on it is on top, or among five.
        tokens: how many there are.
    """

    top1: float
    top5: float
    tokens: int


def depths(scope: llmscope.Scope, texts: Iterable[str]) -> dict[tuple[str, str], Depth]:
    """Return the depths by kind of token (`rule`, `other`) and lens. Streams count from 0."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    lenses: dict[str, LearnedLens | None] = {"logit": None}
    for name in LENSES[1:]:
        lens = lens_for(name, scope.loaded_model)
        assert not isinstance(lens, str), lens
        lenses[name] = lens
    readout = scope.loaded_model.anatomy.require_readout()
    with scope.unchanged(), torch.no_grad():
        for text in texts:
            ids = scope.encode(text).ids[:128]
            prompt = CorpusPrompt(0, tuple(ids), range(len(ids)), held_out=False)
            streams = streams_of(scope.recorder, prompt)
            own = readout(streams[-1]).float().softmax(-1).max(-1)
            sure = [at for at in range(4, len(ids) - 1) if float(own.values[at]) >= SURE]
            kinds = [
                "rule" if scope.loaded_model.label(ids[at]).strip() == RULE else "other"
                for at in sure
            ]
            for name, lens in lenses.items():
                ranks = _ranks(readout, streams[:, sure], own.indices[sure], lens)
                for kind, column in zip(kinds, ranks.T.tolist(), strict=True):
                    depth = _first(column, 1), _first(column, 5)
                    found.setdefault((kind, name), []).append(depth)
    return {
        key: Depth(
            sum(one for one, _ in each) / len(each),
            sum(other for _, other in each) / len(each),
            len(each),
        )
        for key, each in found.items()
    }


def _ranks(readout: object, streams: Tensor, targets: Tensor, lens: LearnedLens | None) -> Tensor:
    """Return the rank of each token's target after each layer, from 1. [stream, token]"""
    rows = []
    for stream, own in enumerate(streams):
        mapped = own if lens is None else lens(own, [stream] * len(own))
        logits = readout(mapped).float()  # type: ignore[operator]
        aimed = logits.gather(1, targets[:, None])
        rows.append((logits > aimed).sum(-1) + 1)
    return torch.stack(rows)


def _first(ranks: list[int], most: int) -> int:
    """Return the first stream from which on the rank stays at most this."""
    first = len(ranks)
    while first and ranks[first - 1] <= most:
        first -= 1
    return first


def main() -> None:
    """Print the table."""
    scope = llmscope.load("builtin:town")
    for (kind, name), depth in depths(scope, prompts(SEED, PROMPTS)).items():
        print(f"{kind:6} {name:9} {depth.top1:.2f} {depth.top5:.2f} {depth.tokens}")


if __name__ == "__main__":
    main()
