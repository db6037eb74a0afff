"""What an answer owes to parts of a prompt: by attention, without each, and as weight updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmscope.figure import Verdict
from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.recording import Recording
from llmscope.record.context import weight_update
from llmscope.record.context.low_rank import Unpatchable, weight_of
from llmscope.record.context.split import Query
from llmscope.record.derive.tensors import pattern
from llmscope.record.derive.verify import pattern_verdict_at


def attention_from(run: Passes, recording: Recording, position: int) -> tuple[Tensor, Verdict]:
    """Return the attention of one query to each key, the mean over all heads of all layers. [key]

    Layers without a pattern that was verified are left out; the verdict is partial then, or refused
    if no layer is left.
    """
    layers_weights: list[Tensor] = []
    missing: list[int] = []
    reason = ""
    for layer in range(recording.layers):
        verdict = run.verdicts("patterns", layer)
        if verdict.status != "refused":
            verdict = verdict.worst(pattern_verdict_at(recording, layer, position))
        if verdict.status == "refused":
            missing.append(layer)
            reason = reason or verdict.reason
            continue
        weights = pattern(recording, layer, rows=range(position, position + 1))  # [head, 1, key]
        layers_weights.append(weights.mean(0)[0].cpu().double())
    if not layers_weights:
        return torch.full((len(recording),), torch.nan, dtype=torch.float64), Verdict(
            "refused", reason
        )
    status = Verdict("verified")
    if missing:
        layers = ", ".join(map(str, missing))
        status = Verdict("partial", f"attention without layers {layers}: {reason}")
    return torch.stack(layers_weights).mean(0), status


def update_of(recording: Recording, gap: range, norms: dict[Any, float]) -> float:
    """Return ‖ΔW‖ / ‖W‖ of the update that stands for a part of the prompt.

    The prompt runs without the part, and the first matrices of each MLP change by the least that
    gives their outputs after the whole prompt's last token, with a vector added to the stream after
    each layer, until the prediction is that of the whole prompt: see
    `llmscope.record.context.weight_update`. The norms are over these matrices of all layers.

    Args:
        recording: the whole prompt.
        gap: the tokens of the part.
        norms: ‖W‖ of each module, which is added if it is missing.

    Raises:
        Unpatchable: the model cannot be patched in this way, or the patched run's logits are not
            those of the whole prompt.
    """
    ids = recording.prompt.ids
    query = Query(
        ids=(*ids[: gap.start], *ids[gap.stop :]),
        positions=None,
        rows=1,
        context=len(gap),
        kept=0,
    )
    prompted = weight_update.prompted_logits(recording, query)
    patched = weight_update.learn(recording, query)
    verdict = weight_update.disagreement(recording, prompted, patched.logits)
    if verdict.status == "refused":
        raise Unpatchable(verdict.reason)
    updates = [update for layer in patched.layers for update in layer.firsts]
    if not updates:
        raise Unpatchable("no layer has an MLP whose weights could change")
    for matrix_update in updates:
        if matrix_update.module not in norms:
            weight = weight_of(matrix_update.module)
            norms[matrix_update.module] = float(
                torch.linalg.vector_norm(weight, dtype=matrix_update.right.dtype)
            )
    return relative(
        [update.norm for update in updates], [norms[update.module] for update in updates]
    )


def relative(changes: Sequence[float], weights: Sequence[float]) -> float:
    """Return the norm of changes of matrices relative to that of the matrices, as if all were one.

    Args:
        changes: the Frobenius norms of the changes.
        weights: those of the matrices.
    """
    return math.hypot(*changes) / math.hypot(*weights)
