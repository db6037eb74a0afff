"""llmscope: a live microscope for language models, in a terminal and in scripts.

    import llmscope
    scope = llmscope.load("gpt2")
    recording = scope.record("The capital of France is")
    figure = scope.look("attention", layer=3, head=2)

    with llmscope.wrap(model, tokenizer) as scope:  # one that is in memory, in the state it is in
        scope.record("The capital of France is")

Importing this package imports neither torch nor textual; `load` does.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llmscope.scope import showing
from llmscope.support import exporting
from llmscope.version import __version__

__all__ = [
    "ActivationCache",
    "Axis",
    "Error",
    "Figure",
    "Focus",
    "LensCallback",
    "Predictor",
    "Recording",
    "Run",
    "Scope",
    "ScopeError",
    "Verdict",
    "__version__",
    "load",
    "widget",
    "wrap",
]

if TYPE_CHECKING:
    from llmscope.errors import Error, ScopeError
    from llmscope.export.page.widget import widget
    from llmscope.figure import Axis, Figure, Focus, Verdict
    from llmscope.jobs.workers import Predictor
    from llmscope.record.capture.recording import Recording
    from llmscope.record.derive.activation_cache import ActivationCache
    from llmscope.runs.training import LensCallback, Run
    from llmscope.scope.scope import Scope, load, wrap

exporting.exporter = partial(import_module, "llmscope.export")
exporting.find_lens = lambda name: import_module("llmscope.lenses").find_lens(name)
showing.screen = partial(import_module, "llmscope.cli.in_process")

_HOMES = {
    "ActivationCache": "llmscope.record.derive.activation_cache",
    "Recording": "llmscope.record.capture.recording",
    "Axis": "llmscope.figure",
    "Figure": "llmscope.figure",
    "Focus": "llmscope.figure",
    "Verdict": "llmscope.figure",
    "LensCallback": "llmscope.runs.training.callback",
    "Run": "llmscope.runs.training.run",
    "Predictor": "llmscope.jobs.workers",
    "Error": "llmscope.errors",
    "ScopeError": "llmscope.errors",
    "Scope": "llmscope.scope.scope",
    "load": "llmscope.scope.scope",
    "widget": "llmscope.export.page.widget",
    "wrap": "llmscope.scope.scope",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmscope' has no attribute {name!r}")
    from llmscope.support.gc_control import uncollected

    try:
        with uncollected():
            return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from llmscope.support.distributions import left_out

        reason = left_out(error)
        if reason is None:
            raise
        line = f"llmscope.{name}: {reason.message} (try: {reason.hint})"
        raise ModuleNotFoundError(line, name=error.name) from error


def __dir__() -> list[str]:
    return sorted(__all__)
