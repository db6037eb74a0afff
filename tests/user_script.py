"""A user's script: mypy --strict finds no error in it, and no expression of type Any.

The check of types reads it with the code; a test runs it.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import llmscope


def use(folder: Path) -> tuple[llmscope.Figure, torch.Tensor]:
    """Call each public function and method once."""
    scope: llmscope.Scope = llmscope.load("builtin:sort", device="cpu", dtype="float32")
    recording: llmscope.Recording = scope.record("CABACB", edits=["zero head 1.1"])
    several: list[llmscope.Recording] = scope.record(["CAB", "ABC"])
    by_ids: llmscope.Recording = scope.record([0, 1, 2])
    by_tensor: llmscope.Recording = scope.record(torch.arange(3))
    counts: list[int] = [len(one) for one in (*several, by_ids, by_tensor)]
    figure: llmscope.Figure = scope.look("attention", recording=recording, layer=1, head=2)
    values: NDArray[np.float32] = figure.values
    status: str = figure.verdict.status
    labels: tuple[str, ...] = figure.axes[0].labels
    path: Path = figure.save(folder / "figure.svg")
    cache: llmscope.ActivationCache = recording.cache()
    stream: torch.Tensor = cache["layers.1.resid_post"]
    names: list[str] = list(cache)
    stacked: torch.Tensor = cache.stack("resid_post")
    try:
        scope.look("attention", layer=9)
    except (llmscope.ScopeError, ValueError) as error:
        message: str = str(error)
    with llmscope.load("builtin:sort") as other:
        other.record("CAB", cancelled=lambda: False)
    if not (counts and values.size and status and labels and path.exists() and names and message):
        raise RuntimeError("something is empty")
    if not torch.equal(stacked[1], stream):
        raise RuntimeError("the layers are not in their order")
    return figure, stream


def watch(scope: llmscope.Scope, recording: llmscope.Recording) -> None:
    """Open the screen."""
    scope.show(recording)
    scope.show(prompt="CAB", versus_prompt="ABC")
