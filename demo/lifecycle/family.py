"""The members of the family, and how each is written to its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from . import tokens

BASE = "town"


@dataclass(frozen=True)
class Stage:
    """One member, as family.json tells it.

    Attributes:
        name: `builtin:NAME` opens it.
        folder: beside the base's.
        kind: a checkpoint of its own, an adapter, or a reward model.
        trained_from: the member that it started from; None for the base.
        about: one line for people.
    """

    name: str
    folder: str
    kind: Literal["model", "adapter", "reward"]
    trained_from: str | None
    about: str


STAGES = (
    Stage("town", "town", "model", None, "pretrained on a generated corpus"),
    Stage("town-sft", "town-sft", "model", "town", "fine-tuned to answer questions"),
    Stage("town-pirate", "town-pirate", "adapter", "town-sft", "a LoRA that answers as a pirate"),
    Stage("town-shout", "town-shout", "adapter", "town-sft", "an IA³ that answers as a town crier"),
    Stage("town-reward", "town-reward", "reward", "town-sft", "a reward model that likes manners"),
    Stage("town-dpo", "town-dpo", "model", "town-sft", "made polite by preferences (DPO)"),
    Stage("town-grpo", "town-grpo", "model", "town-sft", "made polite by trying (GRPO)"),
)


def save(model: Any, stage: Stage, home: Path) -> None:
    """Write one member: weights, settings and tokenizer, with nothing of this machine in them."""
    folder = home / stage.folder
    if stage.kind == "adapter":
        for config in model.peft_config.values():
            config.base_model_name_or_path = f"builtin:{stage.trained_from}"
            config.inference_mode = True
        # Whether embeddings were changed as well it would ask the base, which is in no folder yet.
        model.save_pretrained(folder, save_embedding_layers=False)
    else:
        model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # safetensors lets nobody else read them
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    (folder / "training_args.bin").unlink(missing_ok=True)
    tokens.save(folder)
    if stage.name == BASE:
        told = {"base": BASE, "stages": [asdict(one) for one in STAGES]}
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        (folder / "family.json").write_text(text, encoding="utf-8")


def stage(name: str) -> Stage:
    """The member of a name."""
    return next(one for one in STAGES if one.name == name)
