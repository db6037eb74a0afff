"""`builtin:NAME`: models that ship with llmscope."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.sources.weights import Options, Weights
from llmscope.models.spec import Spec
from llmscope.text import display_text

FAMILY = "family.json"


def names() -> tuple[str, ...]:
    """The models that ship, and adapters of them, sorted."""
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
    return Weights(home() / spec.name, spec.name, family=family(home() / spec.name))


def home() -> Path:
    """The folder that holds them, one a model."""
    return Path(str(files("llmscope") / "builtin"))


def family(folder: Path) -> tuple[str, ...]:
    """What was trained from a model and ships with it, in order."""
    told = folder / FAMILY
    if not told.is_file():
        return ()
    stages = json.loads(told.read_text(encoding="utf-8"))["stages"]
    return tuple(stage["name"] for stage in stages)


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
