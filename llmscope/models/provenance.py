"""The provenance of a model's numbers: its weights, device, dtype and attention implementation."""

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
    """The state of a model at the time of a recording, as plain values that any thread may read.

    Attributes:
        info: facts about the model with its active adapter.
        attention: the attention implementation that its config names.
        threads: the number of torch threads.
        folders: the folders of the weights: the model's, then the adapter's.
        reward: spec and folders of its reward model; None without one.
        verdicts: the model's verdicts, one per capability.
        other: the same of the model that it is compared with; None without one.
    """

    info: ModelInfo
    attention: str | None
    threads: int
    folders: tuple[Path, ...]
    reward: tuple[str, tuple[Path, ...]] | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    other: Origin | None = None

    def to_dict(self, progress: Progress | None = None) -> dict[str, Any]:
        """Return device, dtype, attention, threads and digests as JSON types.

        `weights` has one digest per folder; see `llmscope.models.files.digest`. Each weight file
        is read once, which may take long.

        Raises:
            ScopeError: a weight file cannot be read.
        """
        info, reward, other = self.info, self.reward, self.other
        return {
            "device": info.device,
            "dtype": info.dtype,
            "attention": self.attention,
            "threads": self.threads,
            "model": self._model(progress),
            **(
                {}
                if other is None
                else {
                    "model_b": {
                        **other._model(progress),
                        "device": other.info.device,
                        "dtype": other.info.dtype,
                        "attention": other.attention,
                    }
                }
            ),
            "reward": None
            if reward is None
            else {
                "spec": reward[0],
                "weights": [weights_digest(folder, progress) for folder in reward[1]],
            },
        }

    def _model(self, progress: Progress | None) -> dict[str, Any]:
        return {
            "spec": self.info.spec,
            "revision": self.info.revision,
            "adapter": self.info.adapter,
            "weights": [weights_digest(folder, progress) for folder in self.folders],
        }


def origin(
    model: LoadedModel, info: ModelInfo, verdicts: Mapping[str, Verdict] | None = None
) -> Origin:
    """Return the origin of recordings that are made of a model now. Reads no file."""
    import torch

    reward = model.reward
    attention = getattr(model.module.config, "_attn_implementation", None)
    return Origin(
        info,
        # Recording uses llmscope's own attention function, which wraps the one in its name.
        None if attention is None else str(attention).removeprefix(_OURS),
        torch.get_num_threads(),
        model.folders,
        None if reward is None else (reward.spec, reward.folders),
        verdicts or {},
    )
