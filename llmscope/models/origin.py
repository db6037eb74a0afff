"""What computed the numbers of a model: which weights, where, and by which path."""

from __future__ import annotations

from typing import Any

import torch

from llmscope.models.digest import weights_digest
from llmscope.models.subject import Progress, Subject

_OURS = "llmscope_"


def origin(subject: Subject, progress: Progress | None = None) -> dict[str, Any]:
    """Device, dtype, attention, threads and digests of a model that was recorded, as JSON types.

    `weights` has a digest for each folder that the weights came from: the model's, then the
    adapter's; see `llmscope.models.digest`.

    Raises:
        ScopeError: a file of weights cannot be read.
    """
    reward = subject.reward
    attention = getattr(subject.model.config, "_attn_implementation", None)
    return {
        "device": str(subject.device),
        "dtype": str(subject.dtype).removeprefix("torch."),
        # Recording goes through a function of ours, which hands on to the one that it is named for.
        "attention": None if attention is None else str(attention).removeprefix(_OURS),
        "threads": torch.get_num_threads(),
        "model": {
            "spec": subject.spec,
            "revision": subject.revision,
            "adapter": subject.adapter,
            "weights": [weights_digest(folder, progress) for folder in subject.folders],
        },
        "reward": None
        if reward is None
        else {
            "spec": reward.spec,
            "weights": [weights_digest(folder, progress) for folder in reward.folders],
        },
    }
