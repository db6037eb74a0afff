"""Where weights come from, one file a source: each turns a spec into a folder of weights."""

from __future__ import annotations

from importlib import import_module

from llmscope.models.sources.weights import Options, Weights
from llmscope.models.spec import Spec

__all__ = ["Options", "Weights", "fetch"]


def fetch(spec: Spec, options: Options) -> Weights:
    """The folder that a spec means, downloaded or converted first where that is needed.

    Raises:
        ScopeError: there is no such model, or it cannot be reached.
    """
    # A source is imported when it is asked for: most need libraries that others do not.
    source = import_module(f"{__name__}.{spec.source}")
    weights: Weights = source.fetch(spec, options)
    return weights
