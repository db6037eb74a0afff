"""Sources of weights, one module each: a source turns a spec into a folder of weights."""

from __future__ import annotations

from importlib import import_module

from llmscope.models.sources.weights import Options, Weights
from llmscope.models.spec import Spec

__all__ = ["Options", "Weights", "fetch"]


def fetch(spec: Spec, options: Options) -> Weights:
    """Return the weights for a spec, downloading or converting them first if needed.

    Raises:
        ScopeError: the model does not exist, or its source cannot be reached.
    """
    # A source is imported on use, because most need libraries that others do not.
    source = import_module(f"{__name__}.{spec.source}")
    weights: Weights = source.fetch(spec, options)
    return weights
