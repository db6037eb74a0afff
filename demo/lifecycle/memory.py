"""Train `builtin:town-memory`: a hybrid, whose heads are memories in two layers of three.

    python -m demo.lifecycle.memory [FOLDER] [--fast]

A Qwen3.5 of width 64 with two heads a layer: the gated delta rule in the first two, attention in
the last. It reads pairs of random words that come again, and then the corpus of `builtin:town`. The
attention is still during the pairs, so that a memory has to find what came after the same word
before. The default folder is the one that ships. Same seed, same machine, same weights.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig
from transformers.models.qwen3_5 import modeling_qwen3_5
from transformers.utils import logging

from . import tokens
from .__main__ import SHIPPED
from .base import RATE, RATE_OF_WORDS, WARMUP, batches, echoes, schedule
from .measure import SHOTS, learns

LAYERS = ("linear_attention", "linear_attention", "full_attention")
HEADS, WIDTH, STATE = 2, 64, 32
SEED = 1
PAIR_STEPS, PAIR_LOSS, CORPUS_STEPS = 400, 1.6, 1000
SLOW = -4.0
"""Bias of the decay at first: with the library's own, which forgets at once, nothing is learnt."""
EPS = 1e-6


def config() -> Qwen3_5TextConfig:
    """Return the shape."""
    return Qwen3_5TextConfig(
        vocab_size=len(tokens.vocabulary()),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH // 2,
        num_hidden_layers=len(LAYERS),
        layer_types=list(LAYERS),
        linear_num_key_heads=HEADS,
        linear_num_value_heads=HEADS,
        linear_key_head_dim=STATE,
        linear_value_head_dim=STATE,
        linear_conv_kernel_dim=4,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=STATE,
        max_position_embeddings=tokens.CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 100.0,
            "partial_rotary_factor": 0.5,
        },
        initializer_range=0.05,
        pad_token_id=tokens.SPECIAL.index(tokens.PAD),
        bos_token_id=tokens.SPECIAL.index(tokens.BEGIN),
        eos_token_id=tokens.SPECIAL.index(tokens.END),
    )


def delta_rule(
    query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor, **_: object
) -> tuple[Tensor, None]:
    """Return the gated delta rule of whole rows, by one triangular solve: it trains faster.

    What a key newly stores is u_t = b_t (v_t - sum over s < t of a_ts (k_t . k_s) u_s), where a_ts
    is what is left at t of what s stored. The output is the sum over s <= t of a_ts (q_t . k_s)
    u_s.

    Args:
        query, key, value: `[prompt, row, head, width]`
        g, beta: logarithm of the decay, and strength. `[prompt, row, head]`
    """
    query, key, value, g, beta = (x.transpose(1, 2).float() for x in (query, key, value, g, beta))
    query, key = (x * torch.rsqrt(x.square().sum(-1, keepdim=True) + EPS) for x in (query, key))
    total = g.cumsum(-1)  # [prompt, head, row]
    causal = torch.ones(total.shape[-1], total.shape[-1]).tril().bool()
    left = (total[..., :, None] - total[..., None, :]).masked_fill(~causal, -torch.inf).exp()
    overlap = (beta[..., None] * left * (key @ key.transpose(-1, -2))).tril(-1)
    stored = torch.linalg.solve_triangular(
        overlap + torch.eye(len(causal)), beta[..., None] * value, upper=False, unitriangular=True
    )
    read = left * (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    return (read @ stored).transpose(1, 2), None


def optimizers(model: Qwen3_5ForCausalLM) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices, and AdamW for embedding, gains, gates and convolutions."""
    embedding = model.get_input_embeddings().weight
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.dim() == 2 and p is not embedding and len(p) > HEADS]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in parameters if id(parameter) not in chosen]
    return [
        torch.optim.Muon(
            matrices, lr=RATE, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=RATE_OF_WORDS, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(fast: bool = False) -> Qwen3_5ForCausalLM:
    """Return the trained model; with `fast`, after a few steps, as a test of the road."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    model = Qwen3_5ForCausalLM(config()).train()
    *memories, attends = model.model.layers
    for layer in memories:
        torch.nn.init.zeros_(layer.linear_attn.A_log)
        torch.nn.init.constant_(layer.linear_attn.dt_bias, SLOW)
    writes = attends.self_attn.o_proj.weight
    torch.nn.init.zeros_(writes)
    library = modeling_qwen3_5.torch_chunk_gated_delta_rule
    modeling_qwen3_5.torch_chunk_gated_delta_rule = delta_rule
    random, chosen = Random(SEED), optimizers(model)  # noqa: S311
    rates = [group["lr"] for optimizer in chosen for group in optimizer.param_groups]
    try:
        for name, rows, steps, enough in (
            ("pairs", echoes(random, pairs=True), PAIR_STEPS, PAIR_LOSS),
            ("corpus", batches(random), CORPUS_STEPS, 0.0),
        ):
            steps, lately, began = 4 if fast else steps, 0.0, time.perf_counter()
            writes.requires_grad_(name == "corpus")
            for step, ids in enumerate(islice(rows, steps)):
                share = schedule(step, steps) if name == "corpus" else min(1, (step + 1) / WARMUP)
                groups = (group for optimizer in chosen for group in optimizer.param_groups)
                for group, rate in zip(groups, rates, strict=True):
                    group["lr"] = rate * share
                logits = model(ids, use_cache=False).logits[:, :-1]  # [row, token, word]
                loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
                model.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for optimizer in chosen:
                    optimizer.step()
                lately = 0.9 * lately + 0.1 * loss.item() if step else loss.item()
                if step % 50 == 49 or lately < enough:
                    seconds = time.perf_counter() - began
                    print(f"  {name} {step + 1:5}  loss {lately:.3f}  {seconds:.0f} s", flush=True)
                if lately < enough:
                    break
    finally:
        modeling_qwen3_5.torch_chunk_gated_delta_rule = library
    return model.eval()


def main() -> None:
    """Train, write the folder, and print how many questions of the tasks it answers."""
    parser = argparse.ArgumentParser(prog="python -m demo.lifecycle.memory", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED / "town-memory")
    parser.add_argument("--fast", action="store_true", help="a few steps of each stage, as a test")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = train(options.fast)
    model.save_pretrained(options.folder)
    for weights in options.folder.glob("*.safetensors"):
        weights.chmod(0o644)  # safetensors lets nobody else read them
    tokens.save(options.folder)
    print("examples " + "".join(f"{shots:7}" for shots in SHOTS))
    for name, shares in learns(model, 20 if options.fast else 200, SEED).items():
        print(f"{name:8} " + "".join(f"{share:7.2f}" for share in shares.values()))


if __name__ == "__main__":
    main()
