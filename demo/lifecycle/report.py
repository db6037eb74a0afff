"""What is printed after each stage: its measures, and one answer to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from .data import preferences
from .family import Stage
from .measure import SHOTS, answers, correct, learns, styled
from .questions import all_about
from .tokens import tokenizer

SEED = 77  # of what is asked; training draws from another


def read(home: Path, one: Stage) -> Any:
    """A member that answers, from its folder; an adapter on what it was trained from."""
    folder = home / one.folder
    if one.kind == "adapter":
        below = LlamaForCausalLM.from_pretrained(home / str(one.trained_from))
        return PeftModel.from_pretrained(below, folder).eval()
    return LlamaForCausalLM.from_pretrained(folder).eval()


def report(home: Path, one: Stage, count: int) -> None:
    """Print the measures of one member, on held-out questions."""
    if one.kind == "reward":
        print(f"  right about {_agreement(home / one.folder, count):.1%} of pairs", flush=True)
        return
    model = read(home, one)
    if one.trained_from is None:
        print("  examples " + "".join(f"{shots:7}" for shots in SHOTS))
        for name, found in learns(model, count, SEED).items():
            print(f"  {name:8} " + "".join(f"{share:7.2f}" for share in found.values()))
    town = all_about(training=False)[:count]
    said = answers(model, [question.prompt for question in town])
    styles = {style: styled(said, style) for style in ("plain", "polite", "pirate", "shout")}
    print(f"  facts {correct(town, said):.2f}  ", end="")
    print("  ".join(f"{style} {share:.2f}" for style, share in styles.items()))
    print(f"  {town[0].prompt} {said[0]}", flush=True)


@torch.no_grad()
def _agreement(folder: Path, count: int) -> float:
    """How often the reward model prefers what the judge preferred, on pairs it never saw."""
    judge = LlamaForSequenceClassification.from_pretrained(folder).eval()
    pairs = preferences(count, SEED, training=False)
    scores = []
    for side in ("chosen", "rejected"):
        texts = [pair["prompt"] + pair[side] for pair in pairs]
        given = tokenizer()(texts, return_tensors="pt", padding=True)
        scores.append(judge(**given).logits[:, 0])
    return float((scores[0] > scores[1]).float().mean())
