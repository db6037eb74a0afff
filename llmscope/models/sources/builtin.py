"""`builtin:NAME`: models that ship with llmscope."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.sources.weights import Options, Weights
from llmscope.models.spec import Spec
from llmscope.text import display_text


def names() -> tuple[str, ...]:
    """The models that ship, sorted."""
    return tuple(sorted(folder.name for folder in home().iterdir() if _is_model(folder)))


def fetch(spec: Spec, options: Options) -> Weights:
    """The folder inside the package.

    Raises:
        ScopeError: there is no such model.
    """
    if spec.name not in names():
        raise ScopeError(
            f"there is no built-in model {display_text(spec.name)!r}",
            "one of " + ", ".join(f"builtin:{name}" for name in names()),
        )
    return Weights(home() / spec.name, spec.name)


def home() -> Path:
    """The folder that holds them, one a model."""
    return Path(str(files("llmscope") / "builtin"))


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()
