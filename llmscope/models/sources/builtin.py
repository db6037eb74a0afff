"""`builtin:NAME`: models that ship with llmscope."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError
from llmscope.models.sources.weights import Options, Weights
from llmscope.models.spec import Spec
from llmscope.support.text import display_text

FAMILY = "family.json"


def names() -> tuple[str, ...]:
    """Return the built-in models and adapters, sorted; no reward models, which generate no text."""
    rewards = {stage["name"] for stage in _all_stages() if stage.get("kind") == "reward"}
    return tuple(sorted(_folders() - rewards))


def fetch(spec: Spec, options: Options) -> Weights:
    """Return the weights inside the package, also of a reward model.

    Raises:
        ScopeError: the package has no such model.
    """
    if spec.name not in _folders():
        raise ScopeError(
            f"there is no built-in model {display_text(spec.name)!r}",
            "one of " + ", ".join(f"builtin:{name}" for name in names()),
        )
    described = next((stage for stage in _all_stages() if stage["name"] == spec.name), {})
    upon = described.get("trained_from") if described.get("kind") == "adapter" else None
    return Weights(home() / spec.name, spec.name, family=family(spec.name), upon=upon)


def home() -> Path:
    """Return the folder that contains the built-in models, each in its own folder."""
    return Path(str(files("llmscope") / "builtin"))


def family(base: str) -> tuple[str, ...]:
    """Return the models and adapters trained from a base, in order, without reward models."""
    return tuple(
        stage["name"]
        for stage in _stages(home() / base / FAMILY)
        if stage["name"] != base and stage.get("kind") != "reward"
    )


def _all_stages() -> list[dict[str, Any]]:
    """Return the entries of all built-in families' members."""
    return [
        stage
        for family_file in sorted(home().glob(f"*/{FAMILY}"))
        for stage in _stages(family_file)
    ]


def _stages(family_file: Path) -> list[dict[str, Any]]:
    if not family_file.is_file():
        return []
    stages: list[dict[str, Any]] = json.loads(family_file.read_text(encoding="utf-8"))["stages"]
    return stages


def _folders() -> set[str]:
    kinds = ("config.json", "adapter_config.json")
    return {
        path.name for path in home().iterdir() if any((path / kind).is_file() for kind in kinds)
    }
