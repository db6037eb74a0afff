"""How far a taught context carries: any prompt, beside the base model that reads the context."""

from __future__ import annotations

from itertools import takewhile

import torch
from torch import Tensor

from llmscope.models.loaded_model import ContextAdapter, LoadedModel
from llmscope.record.capture.hooks import placed
from llmscope.record.capture.recording import Recording
from llmscope.record.context.low_rank import Unpatchable


def carried(recording: Recording, lesson: ContextAdapter) -> dict[str, Tensor]:
    """Logits after the last token, in three runs: `[1, token]` each.

    Args:
        recording: of the model with the adapter on.

    Returns:
        `prompted`, the base with the context before the prompt (special tokens at its begin stay
        first); `taught`, what was recorded; `alone`, the base without the context.

    Raises:
        Unpatchable: with its context, the prompt is longer than the model reads.
    """
    ids, special = recording.prompt.ids, recording.prompt.special
    kept = sum(1 for _ in takewhile(bool, special))
    readout = recording.subject.anatomy.readout
    if readout is None:
        raise Unpatchable("the model has no unembedding that was found")
    whole = (*ids[:kept], *lesson.context, *ids[kept:])
    limit = lesson.base.anatomy.context
    if limit is not None and len(whole) > limit:
        raise Unpatchable(
            f"with its context the prompt has {len(whole)} tokens, and the model reads {limit}"
        )
    return {
        "prompted": _after(lesson.base, whole),
        "taught": readout(recording.final_rows(len(recording) - 1, len(recording))),
        "alone": _after(lesson.base, ids),
    }


@torch.no_grad()
def _after(subject: LoadedModel, ids: tuple[int, ...]) -> Tensor:
    batch = torch.tensor([ids], device=subject.device)
    with placed(subject.model):
        logits: Tensor = subject.model(input_ids=batch, use_cache=False).logits[0, -1:]
    return logits
