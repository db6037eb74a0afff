"""Who is measured: one file a program, imported only in its own process."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from llmscope.cli.cpu_setup import set_up_cpu

MODULES = {
    "bare": "bare",
    "eager": "eager",
    "transformer_lens": "bridge",
    "nnsight": "traced",
    "bertviz": "bertviz_html",
    "circuitsvis": "circuitsvis_html",
    "llmscope": "ours",
    "screen": "screen",
}
"""`screen` is llmscope too, with its engine's thread and the figures of the panes."""


def open_contender(
    name: str, folder: str, device: str, threads: int, dtype: str = "float32"
) -> Any:
    """The contender, with the model loaded. Raises whatever its imports and the model raise."""
    if name == "screen":  # as the program does
        set_up_cpu()
    module = import_module(f"tests.benchmarks.contenders.{MODULES[name]}")
    more = {} if dtype == "float32" else {"dtype": dtype}
    return module.Contender(folder, device, threads, **more)
