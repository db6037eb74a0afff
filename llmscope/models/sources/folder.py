"""A local folder as `save_pretrained` writes it, with a model or a PEFT adapter."""

from __future__ import annotations

from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.sources.weights import Options, Weights
from llmscope.models.spec import Spec
from llmscope.support.text import display_text


def fetch(spec: Spec, options: Options) -> Weights:
    """Return the folder itself as weights.

    Raises:
        ScopeError: the folder contains no model or adapter.
    """
    folder = Path(spec.name)
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ScopeError(f"{display_text(spec.text)} has no config.json", _hint(folder))
    return Weights(folder, folder.resolve().name)


def _hint(folder: Path) -> str:
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        return f"the GGUF file itself: {display_text(str(ggufs[0]))}"
    return "a folder as save_pretrained writes it, or a hub id such as org/name"
