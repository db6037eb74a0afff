"""Record what lenses show while a model trains: `LensCallback` for trainers, `Run` for own loops.

    from llmscope import LensCallback, Run

    prompts = [{"prompt": "The capital of Italy is", "target": " Rome"}]
    trainer = SFTTrainer(..., callbacks=[LensCallback(prompts, "run", every=50)])

    run = Run("run", llmscope.wrap(model, tokenizer), prompts)
    for step, batch in enumerate(batches, 1):
        ...
        run.record(step, loss=loss.item())

`llmscope watch run` shows it, also while it grows. Importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmscope.runs.training.callback import LensCallback
    from llmscope.runs.training.run import Run

__all__ = ["LensCallback", "Run"]

_HOMES = {"LensCallback": "llmscope.runs.training.callback", "Run": "llmscope.runs.training.run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmscope.runs.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
