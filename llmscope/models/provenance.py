"""What computed the numbers of a model: which weights, where, and by which path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.models.files.digest import weights_digest
from llmscope.models.info import ModelInfo

if TYPE_CHECKING:
    from llmscope.figure import Verdict
    from llmscope.models.loaded_model import LoadedModel, Progress

_OURS = "llmscope_"


@dataclass(frozen=True)
class Origin:
    """A model as it was when it was recorded: plain values, which any thread may read.

    Attributes:
        info: the model with what is put on it.
        attention: the implementation that its config names.
        threads: of torch.
        folders: where the weights came from: the model's, then the adapter's.
        reward: spec and folders of the reward model beside it.
        verdicts: the model's, a capability each.
    """

    info: ModelInfo
    attention: str | None
    threads: int
    folders: tuple[Path, ...]
    reward: tuple[str, tuple[Path, ...]] | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)

    def to_dict(self, progress: Progress | None = None) -> dict[str, Any]:
        """Device, dtype, attention, threads and digests, as JSON types.

        `weights` has a digest for each folder; see `llmscope.models.files.digest`. A file of
        weights is read once, which may take long.

        Raises:
            ScopeError: a file of weights cannot be read.
        """
        info, reward = self.info, self.reward
        return {
            "device": info.device,
            "dtype": info.dtype,
            "attention": self.attention,
            "threads": self.threads,
            "model": {
                "spec": info.spec,
                "revision": info.revision,
                "adapter": info.adapter,
                "weights": [weights_digest(folder, progress) for folder in self.folders],
            },
            "reward": None
            if reward is None
            else {
                "spec": reward[0],
                "weights": [weights_digest(folder, progress) for folder in reward[1]],
            },
        }


def origin(
    subject: LoadedModel, info: ModelInfo, verdicts: Mapping[str, Verdict] | None = None
) -> Origin:
    """The origin of what is recorded of a model now. Reads no file."""
    import torch

    reward = subject.reward
    attention = getattr(subject.model.config, "_attn_implementation", None)
    return Origin(
        info,
        # Recording goes through a function of ours, which hands on to the one that it is named for.
        None if attention is None else str(attention).removeprefix(_OURS),
        torch.get_num_threads(),
        subject.folders,
        None if reward is None else (reward.spec, reward.folders),
        verdicts or {},
    )
