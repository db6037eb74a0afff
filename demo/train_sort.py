"""Train `builtin:sort`: a GPT-2 of 85,584 parameters that sorts six letters A, B, C.

Six letters go in, the six sorted letters come out, one at a time. A training row is the letters
followed by the sorted ones without the last (11 tokens); the loss counts the last six places.
Training stops when greedy generation sorts all 729 inputs and is sure of every letter.

    python demo/train_sort.py [FOLDER]

The default folder is the one that ships with llmscope. Same seed, same machine, same weights.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

ALPHABET = "ABC"
LENGTH = 6
SEED = 3407
BATCH = 64
LEARNING_RATE = 5e-4
WEIGHT_DECAY = 0.1
WARMUP = 100
CHECK_EVERY = 250
MAX_STEPS = 8000
SURE = 0.99  # the least probability of a right letter, over all inputs, at which training stops
SHIPPED = Path(__file__).resolve().parent.parent / "llmscope" / "builtin" / "sort"


def config() -> GPT2Config:
    """The shape of the model: as small as sorting allows, a GPT-2 in every part."""
    return GPT2Config(
        vocab_size=len(ALPHABET),
        n_positions=2 * LENGTH - 1,
        n_embd=48,
        n_layer=3,
        n_head=3,
        activation_function="gelu_new",
        tie_word_embeddings=True,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter; everything outside of the alphabet is dropped."""
    inner = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(ALPHABET)}))
    inner.normalizer = normalizers.Replace(Regex(f"[^{ALPHABET}]"), "")
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=2 * LENGTH - 1)


def all_rows() -> tuple[Tensor, Tensor]:
    """Every input with its answer: rows [729, 11] and targets [729, 6]."""
    letters = torch.tensor(list(itertools.product(range(len(ALPHABET)), repeat=LENGTH)))
    answers = letters.sort(dim=1).values
    return torch.cat([letters, answers[:, :-1]], dim=1), answers


def optimizer(model: GPT2LMHeadModel) -> torch.optim.Optimizer:
    """AdamW that decays matrices only: gains, biases and embeddings of one dimension stay free."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95))


@torch.no_grad()
def generate(model: GPT2LMHeadModel, letters: Tensor) -> Tensor:
    """Greedy answers [n, 6] to letters [n, 6], each letter fed back before the next."""
    ids = letters
    for _ in range(LENGTH):
        following = model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, following], dim=1)
    return ids[:, LENGTH:]


@torch.no_grad()
def least_sure(model: GPT2LMHeadModel, rows: Tensor, answers: Tensor) -> float:
    """The smallest probability given to a right letter, over all rows and places."""
    logits = model(rows, use_cache=False).logits[:, -LENGTH:]
    return logits.softmax(-1).gather(-1, answers[..., None]).min().item()


def train() -> GPT2LMHeadModel:
    """A model that sorts all 729 inputs.

    Raises:
        RuntimeError: it does not after `MAX_STEPS` steps.
    """
    torch.set_num_threads(1)  # at this size a second thread costs more than it gives
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    model = GPT2LMHeadModel(config()).train()
    rows, answers = all_rows()
    optim = optimizer(model)
    warmup = torch.optim.lr_scheduler.LambdaLR(optim, lambda step: min(1.0, (step + 1) / WARMUP))
    started = time.perf_counter()
    for step in range(1, MAX_STEPS + 1):
        chosen = torch.randint(len(rows), (BATCH,))
        logits = model(rows[chosen], use_cache=False).logits[:, -LENGTH:]
        loss = cross_entropy(logits.flatten(0, 1), answers[chosen].flatten())
        optim.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        warmup.step()
        if step % CHECK_EVERY == 0:
            right = int((generate(model, rows[:, :LENGTH]) == answers).all(1).sum())
            sure = least_sure(model, rows, answers)
            seconds = time.perf_counter() - started
            print(
                f"step {step:5}  loss {loss.item():.5f}  sorted {right}/{len(rows)}"
                f"  least sure {sure:.4f}  {seconds:.0f} s"
            )
            if right == len(rows) and sure > SURE:
                return model.eval()
    raise RuntimeError(f"not sorted after {MAX_STEPS} steps; try another seed")


def save(model: GPT2LMHeadModel, folder: Path) -> None:
    """Write weights, config and tokenizer in the form that AutoModel and AutoTokenizer load."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    # The name that every version of transformers knows; version 5 writes one of its own.
    settings = folder / "tokenizer_config.json"
    record = json.loads(settings.read_text(encoding="utf-8"))
    record["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    save(train(), target)
    print(f"saved to {target}")
