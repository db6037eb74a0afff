"""A PPO loop by hand, and what it teaches: a model that pleases its judge, and forgets the truth.

The reward is the reward model's number alone. That judge has only ever compared right answers and
looks at manners; so wrong answers, politely given, please it as well. Without a price on leaving
the fine-tuned model (`price` = 0) nothing holds the policy to what it knew. With one, a KL penalty
of `price` a nat, it stays near. This is reward hacking in its smallest form.

    python -m demo.lifecycle.ppo [FOLDER]

One round: sample answers, score each whole answer, subtract the mean score (the baseline), then
take a few steps on min(ρ A, clip(ρ, 1 ± 0.2) A), where ρ is the new probability of a word over that
when it was sampled.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from .data import asked
from .measure import answers, correct, styled
from .questions import all_about
from .tokens import END, PAD, SPECIAL, tokenizer

CLIP = 0.2
ROWS = 64
INNER = 2  # steps on each round's answers
LENGTH = 24
RATE = 5e-4
_PAD, _END = SPECIAL.index(PAD), SPECIAL.index(END)


def log_probabilities(model: Any, ids: Tensor, seen: Tensor, start: int) -> Tensor:
    """Of each word [row, word] from `start` on, given all before it; differentiable."""
    places = (seen.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=seen, position_ids=places, use_cache=False).logits
    logs = logits[:, start - 1 : -1].log_softmax(-1)
    return logs.gather(-1, ids[:, start:, None])[..., 0]


@torch.no_grad()
def sample(model: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor, int]:
    """Prompts with sampled answers [row, word], which of it is text, and where answers begin."""
    words = tokenizer()
    words.padding_side = "left"
    given = words(list(prompts), return_tensors="pt", padding=True)
    ids = model.generate(
        input_ids=given["input_ids"],
        attention_mask=given["attention_mask"],
        max_new_tokens=LENGTH,
        do_sample=True,
        top_k=0,
        eos_token_id=_END,
        pad_token_id=_PAD,
    )
    start = given["input_ids"].shape[1]
    return ids, (ids != _PAD).long(), start


@torch.no_grad()
def judged(judge: Any, ids: Tensor) -> Tensor:
    """The reward model's number for each row [row]; it reads whole texts without their end."""
    words = tokenizer()
    texts = words.batch_decode(ids, skip_special_tokens=True)
    scores: Tensor = judge(**words(texts, return_tensors="pt", padding=True)).logits[:, 0]
    return scores


def ppo(start: Any, judge: Any, rounds: int, seed: int, price: float = 0.0) -> Any:
    """A copy of a model, trained to please a judge.

    Args:
        price: what a nat of KL from the model at the start costs, in the judge's units.
    """
    torch.manual_seed(seed)
    policy = copy.deepcopy(start).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    stream = asked(Random(seed))  # noqa: S311
    for _ in range(rounds):
        ids, seen, begin = sample(policy.eval(), [next(stream).prompt for _ in range(ROWS)])
        counted = seen[:, begin:].float()  # [row, word]
        with torch.no_grad():
            before = log_probabilities(policy, ids, seen, begin)
            away = ((before - log_probabilities(start, ids, seen, begin)) * counted).sum(1)
        scores = judged(judge, ids) - price * away  # [row]
        gain = ((scores - scores.mean()) / (scores.std() + 1e-6))[:, None]
        for _ in range(INNER):
            ratio = (log_probabilities(policy, ids, seen, begin) - before).exp()
            kept = torch.minimum(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain)
            loss = -(kept * counted).sum() / counted.sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    return policy.eval().requires_grad_(False)


def lesson(folder: Path, rounds: int = 60, seed: int = 5) -> None:
    """Train from the fine-tuned model at two prices, and print what became of the answers."""
    start = LlamaForCausalLM.from_pretrained(folder / "town-sft").eval()
    judge = LlamaForSequenceClassification.from_pretrained(folder / "town-reward").eval()
    town = all_about(training=False)
    print("model           polite  right  mean reward")
    for name, price in (("town-sft", None), ("no price", 0.0), ("price 1", 1.0)):
        model = start if price is None else ppo(start, judge, rounds, seed, price)
        said = answers(model, [question.prompt for question in town])
        texts = [f"{q.prompt} {a}" for q, a in zip(town, said, strict=True)]
        ids = tokenizer()(texts, return_tensors="pt", padding=True)["input_ids"]
        mean = float(judged(judge, ids).mean())
        print(f"{name:14}  {styled(said, 'polite'):6.2f}  {correct(town, said):5.2f}  {mean:11.2f}")
        print(f"    {town[0].prompt} {said[0]}")


if __name__ == "__main__":
    shipped = Path(__file__).resolve().parents[2] / "llmscope" / "builtin"
    lesson(Path(sys.argv[1]) if len(sys.argv) > 1 else shipped)
