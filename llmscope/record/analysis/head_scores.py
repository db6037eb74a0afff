"""Scores of attention heads: on a repeated random sequence, and on the prompt itself.

Olsson et al. 2022, "In-context Learning and Induction Heads"; the sequence follows TransformerLens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.figure import Verdict
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.model_state import StateMemo
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.patterns import sinks_of
from llmscope.record.derive.row_checks import rows_verdict
from llmscope.record.derive.tensors import pattern
from llmscope.record.derive.token_stats import float_array
from llmscope.record.derive.verify import Verdicts, pattern_verdict

HALF = 25
"""Length of the random sequence in tokens, where context and vocabulary allow."""
FEWEST = 4
"""Fewest usable tokens in the vocabulary; the context must hold twice as many."""
SEED = 0
ROOM = 1 << 22
"""Most attention weights of a layer, over all heads, held at once: 16 MB."""

Floats = NDArray[np.float32]


class NoSequence(ValueError):  # noqa: N818 - a result, not an error
    """The model cannot be given a repeated random sequence."""


@dataclass(frozen=True)
class RepeatedSequence:
    """A random sequence and its repetition.

    Attributes:
        ids: ids of all tokens, BOS included.
        start: number of tokens before the first copy: 1 where the model has a BOS, else 0.
        half: number of tokens in each copy. They are all different, so each occurred just once
            before the second copy.
    """

    ids: tuple[int, ...]
    start: int
    half: int


@dataclass(frozen=True)
class Scores:
    """Scores by name, [layer, head], and the verdict on the attention patterns behind them."""

    sequence: RepeatedSequence
    values: Mapping[str, Floats]
    verdict: Verdict


_kept: StateMemo[Scores] = StateMemo()


def scores(model: LoadedModel, run: Callable[..., Any]) -> Scores:
    """Return mean attention from tokens of the second copy; NaN in layers with refused patterns.

        induction         to the token after its first occurrence
        previous-token    to the token before it
        duplicate-token   to its first occurrence

    The sequence is run once for each loaded model: the result does not depend on the prompt.

    Args:
        run: runs extra forward passes (`Passes`).

    Raises:
        NoSequence: the model's context or vocabulary is too small.
    """
    cached = _kept.get(model)
    if cached is None:
        sequence = repeated(model)
        cached = _kept.put(model, _scores(run([sequence.ids], record=True), sequence))
    return cached


def repeated(model: LoadedModel) -> RepeatedSequence:
    """Return the sequence for a model: BOS if it has one, then different tokens, then the same.

    Raises:
        NoSequence: the model's context or vocabulary is too small.
    """
    anatomy = model.anatomy
    tokenizer = None if model.tokens is None else model.tokens.tokenizer
    bos = getattr(tokenizer or model.module.config.get_text_config(), "bos_token_id", None)
    first = (bos,) if isinstance(bos, int) and 0 <= bos < anatomy.vocabulary else ()
    special = set(first) if model.tokens is None else {*first, *model.tokens.special_ids}
    usable = [token for token in range(anatomy.vocabulary) if token not in special]
    if len(usable) < FEWEST:
        raise NoSequence(
            f"a random sequence takes {FEWEST} different tokens, and the vocabulary has "
            f"{len(usable)} beside special ones"
        )
    context = anatomy.context
    if context is not None and context < 2 * FEWEST:
        raise NoSequence(
            f"a repeated sequence takes {2 * FEWEST} tokens, and the context holds {context}"
        )
    half = min(HALF, len(usable))
    if context is not None:
        half = min(half, (context - len(first)) // 2)
    drawn = np.random.default_rng(SEED).choice(usable, half, replace=False).tolist()
    return RepeatedSequence((*first, *drawn, *drawn), len(first), half)


def _scores(recording: Recording, sequence: RepeatedSequence) -> Scores:
    layers, heads = recording.layers, recording.model.anatomy.heads
    half, again = sequence.half, sequence.start + sequence.half
    rows = range(again, again + half)
    back = {"induction": half - 1, "previous-token": 1, "duplicate-token": half}
    values = {name: np.full((layers, heads), np.nan, dtype=np.float32) for name in back}
    verdicts = tuple(pattern_verdict(recording, layer) for layer in range(layers))
    for layer, verdict in enumerate(verdicts):
        if verdict.status == "refused":
            continue
        weights = pattern(recording, layer, rows=rows)  # [head, query, key]
        for name, distance in back.items():
            there = weights[:, range(half), [row - distance for row in rows]]  # [head, query]
            values[name][layer] = float_array(there.mean(-1))
    return Scores(sequence, values, Verdicts({"patterns": verdicts}).over("patterns"))


def on_this_prompt(recording: Recording, layer: int) -> tuple[Floats, Verdict]:
    """Return two statistics of each head's attention, and a verdict. [sink | entropy, head, query]

        sink      share of attention that goes to the first token and special tokens
        entropy   −Σ α log₂ α of the query's row, in bits

    A learned sink (gpt_oss) counts as one more key, in both. NaN in a layer whose patterns are
    refused. Rows are measured once and memoized with their segment.
    """
    pieces, worst, start = [], Verdict("verified"), 0
    for segment, count in recording.parts:
        cached = segment.memo.get(("heads", layer))
        if cached is None or cached[0].shape[-1] < count:
            cached = _measure_rows(recording, layer, range(start, start + count))
            segment.memo["heads", layer] = cached
        pieces.append(cached[0][..., :count])
        worst = worst.worst(cached[1])
        start += count
    return np.concatenate(pieces, axis=-1), worst


def _measure_rows(recording: Recording, layer: int, rows: range) -> tuple[Floats, Verdict]:
    heads = recording.model.anatomy.heads
    verdict = pattern_verdict(recording, layer, range(rows.stop - 1, rows.stop))
    if verdict.status != "refused":
        verdict = verdict.worst(rows_verdict(recording, "patterns", layer, rows))
    if verdict.status == "refused":
        return np.full((2, heads, len(rows)), np.nan, dtype=np.float32), verdict
    others = torch.from_numpy(~sinks_of(recording))
    settings = recording.settings[layer]
    learned = settings is not None and settings.sinks is not None
    chunk = max(1, ROOM // (heads * len(recording)))
    pieces: list[Tensor] = []
    for first in range(rows.start, rows.stop, chunk):
        chunk_rows = range(first, min(first + chunk, rows.stop))
        weights = pattern(recording, layer, rows=chunk_rows)  # [head, query, key]
        sink = 1 - weights[..., others.to(weights.device)].sum(-1)
        entropy = torch.special.entr(weights).sum(-1)  # -α ln α
        if learned:
            entropy = entropy + torch.special.entr((1 - weights.sum(-1)).clamp(min=0))
        pieces.append(torch.stack([sink.clamp(min=0), entropy / np.log(2)]))
    return float_array(torch.cat(pieces, dim=-1)), verdict
