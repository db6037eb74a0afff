"""A small model, a corpus, and plain training loops."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOWN = Path(__file__).resolve().parents[3] / "llmscope" / "builtin" / "town"
PROMPTS = (
    {"prompt": "the capital of france is", "target": "paris"},
    "cat -> kitten , dog -> puppy , cow ->",
    {"prompt": "question : where does anna live ? answer :", "answer": "anna lives"},
)
LENSES = ("tokens", "next-token", "logit-lens", "heads")
TEXTS = (
    "anna lives in forest street .",
    "the money is in the bank of the river .",
    "tom has a dog and likes bread .",
)


def town():
    return AutoModelForCausalLM.from_pretrained(TOWN), AutoTokenizer.from_pretrained(TOWN)


def batches(tokenizer, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = [tokenizer(text, return_tensors="pt").input_ids for text in TEXTS]
    for _ in range(count):
        yield rows[int(torch.randint(len(rows), (), generator=generator))]


def loop(model, tokenizer, steps, record=lambda step, loss: None, rate=1e-3):
    """Train with AdamW and dropout, so that the random state matters too."""
    torch.manual_seed(1)
    model.train()
    dropout = torch.nn.Dropout(0.1)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=rate)
    record(0, None)
    for step, ids in enumerate(batches(tokenizer, steps), 1):
        hidden = model.get_input_embeddings()(ids)
        loss = model(inputs_embeds=dropout(hidden), labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        record(step, float(loss.detach()))
    return {name: one.detach().clone() for name, one in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
