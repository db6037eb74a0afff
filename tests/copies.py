"""Two built-in models that are loaded once and then copied, which takes a tenth of the time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import llmscope.scope.scope
from llmscope.models.loaded_model import LoadedModel, Progress

USUAL = ("auto", "transformers", None, False, ())
"""Values of options with which a model is loaded that leave it as it is."""
_loads: dict[str, tuple[LoadedModel, Progress, list[tuple[Any, ...]]]] = {}


@contextmanager
def copied_models() -> Iterator[None]:
    """Let `llmscope.load` copy one of two models that it loaded before.

    Each load has a model of its own, which a test may change; its stages are told as those of the
    first. A load with any option is a real one.
    """
    load = llmscope.scope.scope.load_model

    def load_copy(
        spec: str | None = None, *, progress: Progress | None = None, **settings: Any
    ) -> LoadedModel:
        unusual = any(value not in USUAL for value in settings.values())
        if unusual or spec not in ("builtin:sort", "builtin:town"):
            return load(spec, progress=progress, **settings)
        if spec not in _loads:
            told: list[tuple[Any, ...]] = []

            def tell(*stage: Any) -> None:
                told.append(stage)

            _loads[spec] = load(spec, progress=tell, **settings), tell, told
        model, tell, told = _loads[spec]
        for stage in told if progress else ():
            progress(*stage)
        return _copied(model, {id(tell): progress})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llmscope.scope.scope, "load_model", load_copy)
        yield


def _copied(model: LoadedModel, memo: dict[int, Any]) -> LoadedModel:
    """Return a copy of a model, which refuses to be copied as a whole."""
    copied = object.__new__(LoadedModel)
    memo[id(model)] = copied
    for name, value in vars(model).items():
        setattr(copied, name, copy.deepcopy(value, memo))
    return copied
