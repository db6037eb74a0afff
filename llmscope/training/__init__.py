"""Record what lenses show while a model trains: `LensCallback` for trainers, `Run` for own loops.

    from llmscope.training import LensCallback

    prompts = [{"prompt": "The capital of Italy is", "target": " Rome"}]
    trainer = SFTTrainer(..., callbacks=[LensCallback(prompts, "run", every=50)])

    run = llmscope.training.Run("run", llmscope.wrap(model, tokenizer), prompts)
    for step, batch in enumerate(batches, 1):
        ...
        run.record(step, loss=loss.item())

`llmscope watch run` shows it, also while it grows. Importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmscope.training.callback import LensCallback
    from llmscope.training.run import Run

__all__ = ["LensCallback", "Run"]

_HOMES = {"LensCallback": "llmscope.training.callback", "Run": "llmscope.training.run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmscope.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
