"""How a context adapter transfers to other prompts, against the base model given the context."""

from __future__ import annotations

from itertools import takewhile

import torch
from torch import Tensor

from llmscope.models.anatomy import NO_READOUT
from llmscope.models.loaded_model import ContextAdapter, LoadedModel
from llmscope.record.capture.hooks import placed
from llmscope.record.capture.recording import Recording
from llmscope.record.context.low_rank import Unpatchable


def transfer_logits(recording: Recording, lesson: ContextAdapter) -> dict[str, Tensor]:
    """Return logits after the last token in three runs, `[1, token]` each.

    Args:
        recording: a recording of the model with the adapter enabled.
        lesson: the adapter, with its context and its base model.

    Returns:
        `prompted`: the base model with the context before the prompt (special tokens at the
        prompt's start stay first); `taught`: the recording; `alone`: the base model without the
        context.

    Raises:
        Unpatchable: context and prompt together exceed the model's context length, or the model's
            unembedding was not found.
    """
    ids, special = recording.prompt.ids, recording.prompt.special
    kept_tokens = sum(1 for _ in takewhile(bool, special))
    readout = recording.model.anatomy.readout
    if readout is None:
        raise Unpatchable(NO_READOUT)
    whole = (*ids[:kept_tokens], *lesson.context, *ids[kept_tokens:])
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
def _after(model: LoadedModel, ids: tuple[int, ...]) -> Tensor:
    batch = torch.tensor([ids], device=model.device)
    with placed(model.module):
        logits: Tensor = model.module(input_ids=batch, use_cache=False).logits[0, -1:]
    return logits
