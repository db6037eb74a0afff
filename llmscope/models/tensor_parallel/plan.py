"""Which modules of a model are split: those of its own `tp_plan`, with whole inputs and outputs.

In transformers' plans the outputs of `q_proj` stay split until `o_proj` has added them up, so that
each process sees some heads only. Here each split module gathers its output, since llmscope shows
all of them. Norms, sinks and other small weights are whole in every process, and so is the
embedding, with the unembedding where both share their weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmscope.errors import ScopeError, option
from llmscope.support.text import display_text

COLUMNS, ROWS = "colwise_gather_output", "rowwise_split_input"
"""Styles of transformers whose modules take and return whole tensors."""
WHOLE = "replicate"
STYLES = {"colwise": COLUMNS, COLUMNS: COLUMNS, "colwise_rep": COLUMNS, "rowwise": ROWS, ROWS: ROWS}
"""By the style in the plan of a model, that of a linear module here."""
EXPERTS = "moe_tp_experts"


def split_plan(model: Any, named: str) -> dict[str, str]:
    """Return the plan by which a model is split: by module or parameter name, the style.

    Args:
        model: the model, whose weights may be on the meta device.
        named: the user's name for the model.

    Raises:
        ScopeError: the model has no plan, or one that splits nothing but the unembedding.
    """
    styles: Mapping[str, str] = model.tp_plan or {}
    modules = {_generic(name): module for name, module in model.named_modules()}
    head = model.get_output_embeddings()
    heads = {name for name, module in modules.items() if module is head}
    tied = heads if _shares_embedding(model) else frozenset[str]()
    plan = {name: _style(name, styles, modules, tied) for name in styles}
    if {style for name, style in plan.items() if name not in heads} <= {WHOLE}:
        raise ScopeError(
            f"{display_text(named)} cannot be split over processes: transformers has no "
            f"tensor-parallel plan for the layers of {display_text(model.config.model_type)}",
            f"llmscope without torchrun, with {option('device', 'spread')} if it fits on no GPU",
        )
    return plan


def _style(
    name: str, styles: Mapping[str, str], modules: Mapping[str, nn.Module], tied: AbstractSet[str]
) -> str:
    module = modules.get(name)
    if isinstance(module, nn.Linear) and name not in tied:
        return STYLES.get(styles[name], WHOLE)
    if styles[name] == EXPERTS or styles.get(name.rpartition(".")[0]) == EXPERTS:
        return styles[name]
    return WHOLE


def _shares_embedding(model: Any) -> bool:
    """Return whether the unembedding has the weights of the embedding."""
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))


def _generic(name: str) -> str:
    """Return a module's name with a star for each number, as plans have it."""
    return re.sub(r"\d+", "*", name)


def planned(folder: Path, named: str, trust_remote_code: bool) -> dict[str, str]:
    """Return the plan for the checkpoint in a folder; see `split_plan`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=trust_remote_code
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return split_plan(model, named)


def distributed(count: int, plan: Mapping[str, str]) -> Any:
    """Return transformers' settings that split a model over `count` processes by a plan."""
    from transformers.distributed import DistributedConfig

    return DistributedConfig(tp_size=count, tp_plan=dict(plan))
