"""A context as a PEFT adapter: the exact update of the weights, written as a plain LoRA.

LoRA adds B A x · α / r to a matrix's output. With A = the transposed pseudo-inverse of Z₀ (of G for
the down projection), B = W (Z - Z₀)ᵀ for the matrices that read the MLP's input, B = (U - U₀)ᵀ for
the down projection (see `llmscope.record.context.weight_update`), and α = r = the number of rows,
LoRA's term equals the update.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError, option
from llmscope.models.files.adapter_config import CONFIG, SAFE
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.loading.adapters import adapted
from llmscope.models.progress import silenced
from llmscope.models.spec import parse
from llmscope.record.capture.recording import Recording
from llmscope.record.context import weight_update
from llmscope.record.context.low_rank import Unpatchable, Update
from llmscope.record.context.split import Query
from llmscope.record.derive.kl import kl_divergence
from llmscope.support.fsync import sync_file, sync_folders


@dataclass(frozen=True)
class ExportedLora:
    """An adapter that was written, and its errors when peft reloads it and runs the query alone.

    Attributes:
        rank: rank of every update: one for each trained position.
        matrices: number of matrices changed.
        bytes: size of the weights file.
        kl: KL(prompted ‖ adapter) after each trained position, in nats. [position]
        kl_alone: the same for the base model without the context. [position]
        same: number of positions where the likeliest next token is the prompted run's.
        difference: the largest logit difference at these positions.
    """

    rank: int
    matrices: int
    bytes: int
    kl: tuple[float, ...]
    kl_alone: tuple[float, ...]
    same: int
    difference: float


def export_lora(recording: Recording, query: Query, folder: Path) -> ExportedLora:
    """Write the context of a recording as an adapter, and compare it with the prompted run.

    Args:
        recording: the prompted run.
        query: has a row for each position to train, and positions that count from 0.
        folder: receives adapter_config.json and adapter_model.safetensors; created if missing.

    Raises:
        ScopeError: the context cannot be expressed as an adapter of this model, or the folder
            cannot be written.
    """
    prompted = weight_update.prompted_logits(recording, query)
    try:
        learnt = weight_update.learn(recording, query, weights_only=True)
    except Unpatchable as finding:
        raise ScopeError(
            f"this context cannot be written as an adapter: {finding}", "another model"
        ) from finding
    verdict = weight_update.disagreement(recording, prompted, learnt.logits)
    if verdict.status == "refused":
        raise ScopeError(
            f"this context cannot be written as an adapter: {verdict.reason}",
            f"fewer places (a shorter continuation), or {option('dtype', 'float32')}",
        )
    updates = [
        update for layer in learnt.layers for update in (*layer.firsts, layer.down) if update
    ]
    try:
        size = _write(recording.model, updates, query.rows, folder)
    except OSError as error:
        raise ScopeError(
            f"cannot write the adapter: {error.strerror}", f"another {option('out')}"
        ) from error
    with silenced():
        model = adapted(recording.model.module, folder, folder.name)
    batch = torch.tensor([query.ids], device=recording.model.device)
    with torch.no_grad():
        by_adapter = model(input_ids=batch, use_cache=False).logits[0, -query.rows :]
    alone = weight_update.bare(recording, query).logits
    return ExportedLora(
        rank=query.rows,
        matrices=len(updates),
        bytes=size,
        kl=tuple(kl_divergence(prompted, by_adapter).tolist()),
        kl_alone=tuple(kl_divergence(prompted, alone).tolist()),
        same=int((prompted.argmax(-1) == by_adapter.argmax(-1)).sum()),
        difference=float((prompted - by_adapter).abs().max()),
    )


def _write(model: LoadedModel, updates: Sequence[Update], rank: int, folder: Path) -> int:
    from peft import LoraConfig
    from safetensors.torch import save_file

    names = {module: name for name, module in model.module.named_modules()}
    tensors: dict[str, Tensor] = {}
    for update in updates:
        key = f"base_model.model.{names[update.module]}"
        tensors[f"{key}.lora_A.weight"] = _plain(update.right)
        tensors[f"{key}.lora_B.weight"] = _plain(update.left)
    base, revision = _base(model.spec)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        revision=revision,
        inference_mode=True,
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        target_modules=_targets(model.module, [names[update.module] for update in updates]),
        fan_in_fan_out=not all(isinstance(update.module, nn.Linear) for update in updates),
    )
    config.target_modules = sorted(config.target_modules or ())  # a set: sort it for a fixed order
    folder.mkdir(parents=True, exist_ok=True)
    # Write files completely before moving them, and replace a symbolic link, not its target.
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".baking-"))
    try:
        save_file(tensors, temporary / SAFE, metadata={"format": "pt"})
        config.save_pretrained(str(temporary))
        (folder / CONFIG).unlink(missing_ok=True)  # never leave a config beside other weights
        for name in (SAFE, CONFIG):
            with (temporary / name).open("rb+") as file:
                sync_file(file.fileno())
            os.replace(temporary / name, folder / name)
        sync_folders([folder])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return (folder / SAFE).stat().st_size


def _plain(factor: Tensor) -> Tensor:
    return factor.detach().cpu().contiguous().clone()


def _base(spec: str) -> tuple[str, str | None]:
    """Return the base model's name and revision for the config; a local path becomes absolute."""
    parsed = parse(spec)
    if parsed.source in ("folder", "gguf") and os.path.exists(parsed.name):
        return os.path.abspath(parsed.name), None
    if parsed.source == "hub" and parsed.file is None:
        return parsed.name, parsed.revision
    return spec, None


def _targets(model: Any, names: Sequence[str]) -> list[str]:
    """Return the shortest name suffixes that match exactly these modules, as peft matches them."""
    wanted = set(names)
    every = [name for name, _ in model.named_modules()]
    for parts in (1, 2):
        endings = sorted({".".join(name.split(".")[-parts:]) for name in names})
        meant = {
            name
            for name in every
            if any(name == ending or name.endswith(f".{ending}") for ending in endings)
        }
        if meant == wanted:
            return endings
    return sorted(wanted)
