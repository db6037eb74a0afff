"""Learning from preferences: a reward model, DPO, and GRPO."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaForSequenceClassification
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer

from .data import preferences, take
from .life import Life
from .questions import Question
from .settings import common, run, still
from .tokens import spaced, tokenizer

BATCH = 32
BETA = 0.1  # of DPO: how dear it is to leave the fine-tuned model
GROUP = 8  # answers to one question that GRPO compares
CORRECT = 4.0  # what a right answer is worth to GRPO, in the reward model's own units


def reward(model: Any, steps: int, seed: int) -> Any:
    """A judge of answers: the fine-tuned layers with one number on top instead of words.

    Trained by Bradley and Terry's loss −log σ(r(chosen) − r(rejected)).
    """
    torch.manual_seed(seed)
    judge = LlamaForSequenceClassification._from_config(
        LlamaForSequenceClassification.config_class(**model.config.to_dict() | {"num_labels": 1})
    )
    judge.model.load_state_dict(model.model.state_dict())
    with TemporaryDirectory() as folder:
        trainer = RewardTrainer(
            judge,
            args=RewardConfig(
                per_device_train_batch_size=BATCH, **common("reward", folder, steps, seed)
            ),
            train_dataset=Dataset.from_list(preferences(steps * BATCH, seed)),
            processing_class=tokenizer(),
        )
        return still(run(trainer))


def dpo(model: Any, reference: Any, steps: int, seed: int, life: Life | None = None) -> Any:
    """Politer, by the preferences themselves, without a reward model.

    The loss has a second term, the likelihood of the chosen answer: without it DPO is content to
    make both answers unlikely, the rejected one more.
    """
    with TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model,
            ref_model=reference,
            args=DPOConfig(
                per_device_train_batch_size=BATCH,
                beta=BETA,
                loss_type=["sigmoid", "sft"],
                loss_weights=[1.0, 1.0],
                **common("dpo", folder, steps, seed),
            ),
            train_dataset=Dataset.from_list(preferences(steps * BATCH, seed)),
            processing_class=tokenizer(),
            callbacks=[] if life is None else [life.callback("dpo")],
        )
        return still(run(trainer))


def grpo(model: Any, judge: Any, steps: int, seed: int) -> Any:
    """Politer by trying: of eight answers to a question, the better ones are made likelier.

    What is better: the reward model's number, and as a second opinion whether the answer is right.
    """
    questions = {question.prompt: question for question in take(steps * BATCH, seed)}
    with TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model,
            reward_funcs=[judge, _right(questions)],
            reward_processing_classes=[tokenizer(), None],
            args=GRPOConfig(
                per_device_train_batch_size=2 * BATCH,
                num_generations=GROUP,
                max_completion_length=24,
                reward_weights=[1.0, CORRECT],
                beta=0.02,
                temperature=1.0,
                **common("grpo", folder, steps, seed),
            ),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in questions]),
            processing_class=tokenizer(),
        )
        return still(run(trainer))


def _right(questions: dict[str, Question]) -> Callable[..., list[float]]:
    def right(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [
            float(questions[prompt].is_right(spaced(said)))
            for prompt, said in zip(prompts, completions, strict=True)
        ]

    return right
