"""Train the dictionaries that ship with the built-in base, and measure what their features mean."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

import llmscope
from demo.lifecycle.base import config

from .activations import Activations, Hook, capture, shuffled
from .dictionary import Dictionary, write
from .measure import compare
from .texts import CONTEXT, SPECIAL_IDS, ordinary, rows
from .training import Settings, Site, train

MODEL = "builtin:town"
SHIPPED = Path(llmscope.__file__).parent / "builtin" / "town-features"
RESULTS = "town.json"
CONTROLS = (0, 2, 4)  # of the plans: enough for a model whose layers are all alike, random
BATCH, POOL, ROWS = 1024, 131_072, 64


@dataclass(frozen=True)
class Plan:
    """A dictionary that ships.

    Attributes:
        name: its folder, and its source in the labels: layer and kind.
        site: where it reads and writes.
        settings: how it is trained.
    """

    name: str
    site: Site
    settings: Settings


def _autoencoder(layer: int, settings: Settings) -> Plan:
    hook = Hook(layer, "resid_post")
    return Plan(f"{layer}-res", Site(hook, hook), settings)


PLANS = (
    *(_autoencoder(layer, Settings("jumprelu", 768, 10)) for layer in range(5)),
    _autoencoder(5, Settings("topk", 768, 10)),
    Plan(
        "3-transcoder",
        Site(Hook(3, "mlp_in"), Hook(3, "mlp_out")),
        Settings("jumprelu_transcoder", 768, 10, rate=2e-3, lift=1.0),
    ),
)


def fit(out: Path, tokens: int, seed: int) -> None:
    """Train all dictionaries on the same tokens, measure them, and write a folder each.

    As a control some are trained, in the same way, on a model of the same shape whose weights are
    random.

    Args:
        out: the folder of the folders.
        tokens: of training.
        seed: of texts and first weights. The base was taught texts of another seed.
    """
    began = time.perf_counter()
    model = llmscope.load(MODEL).model
    made = fit_all(model, PLANS, tokens, seed)
    seconds = time.perf_counter() - began
    print(f"trained on {tokens:,} tokens in {seconds:.0f} s", flush=True)
    torch.manual_seed(seed)
    control = LlamaForCausalLM(config()).eval()
    untrained = fit_all(control, tuple(PLANS[number] for number in CONTROLS), tokens, seed)
    sites = {plan.name: plan.site for plan in PLANS}
    compared = compare(model, control, sites, made, untrained, seed)
    for plan in PLANS:
        folder = out / plan.name
        held_out = compared.held_out(plan.name)
        frequency = compared.quality[plan.name].frequency
        write(made[plan.name], folder, _metadata(plan, tokens, seed, held_out), frequency)
        lines = compared.labels(plan.name, "town")
        (folder / "labels.jsonl").write_text("".join(lines), encoding="utf-8")
    (Path(__file__).parent / RESULTS).write_text(compared.to_json(), encoding="utf-8")
    print(compared.to_markdown())


def fit_all(
    model: Any, plans: tuple[Plan, ...], tokens: int, seed: int, batch: int = BATCH
) -> dict[str, Dictionary]:
    """Train dictionaries of a model of the base's shape, by name, without measuring them."""
    hooks = {hook for plan in plans for hook in (plan.site.source, plan.site.target)}
    generator = torch.Generator().manual_seed(seed)
    steps = tokens // batch
    batches = islice(shuffled(_source(model, hooks, seed), batch, POOL, generator), steps)
    chosen = {plan.site: plan.settings for plan in plans}
    made, _ = train(chosen, batches, steps, seed, report=500)
    return {plan.name: made[plan.site] for plan in plans}


def _source(model: Any, hooks: set[Hook], seed: int) -> Iterator[Activations]:
    """Yield activations of ordinary tokens without end."""
    for ids in rows(seed, ROWS):
        yield capture(model, ids, hooks, ordinary(ids))


def _metadata(plan: Plan, tokens: int, seed: int, held_out: Mapping[str, float]) -> dict[str, Any]:
    """Return what SAELens keeps of a dictionary's origin, and what was measured."""
    source, target = plan.site.source, plan.site.target
    found: dict[str, Any] = {
        "model_name": MODEL,
        "hook_name": source.name,
        "hf_hook_name": source.hf_name,
        "hook_head_index": None,
    }
    if source != target:
        found |= {"hook_name_out": target.name, "hf_hook_name_out": target.hf_name}
    return found | {
        "neuronpedia_id": f"town/{plan.name}",
        "model_from_pretrained_kwargs": {"center_writing_weights": False, "fold_ln": False},
        "prepend_bos": True,
        "exclude_special_tokens": SPECIAL_IDS,
        "context_size": CONTEXT,
        "dataset_path": "demo.lifecycle.base.documents",
        "training_tokens": tokens,
        "seed": seed,
        "held_out": dict(held_out),
    }
