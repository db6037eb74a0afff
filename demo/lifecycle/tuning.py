"""Supervised fine-tuning: of all weights (`sft`), by LoRA (`pirate`) and by IA³ (`shout`)."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from peft import IA3Config, LoraConfig, PeftConfig
from trl import SFTConfig, SFTTrainer

from .data import Row, in_style, instructions
from .life import Life
from .settings import common, run, still
from .tokens import tokenizer

BATCH = 32
RANK = 4
MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def fine_tune(model: Any, steps: int, seed: int, life: Life | None = None) -> Any:
    """The base taught to answer questions, by all of its weights; the model itself is changed."""
    rows = instructions(steps * BATCH, seed)
    return still(_train("sft", model, rows, steps, seed, life=life))


def pirate(model: Any, steps: int, seed: int) -> Any:
    """A LoRA of rank 4 on every matrix of every layer, that answers as a pirate."""
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=MATRICES, task_type="CAUSAL_LM")
    return _train("pirate", model, in_style("pirate", steps * BATCH, seed), steps, seed, config)


def shout(model: Any, steps: int, seed: int) -> Any:
    """An IA³: three vectors a layer that scale keys, values and neurons, and it shouts."""
    config = IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        task_type="CAUSAL_LM",
    )
    return _train("shout", model, in_style("shout", steps * BATCH, seed), steps, seed, config)


def _train(
    stage: str,
    model: Any,
    rows: list[Row],
    steps: int,
    seed: int,
    adapter: PeftConfig | None = None,
    life: Life | None = None,
) -> Any:
    """The loss counts the answer only, as is usual: the prompt is a person's."""
    with TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model,
            args=SFTConfig(per_device_train_batch_size=BATCH, **common(stage, folder, steps, seed)),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(),
            peft_config=adapter,
            callbacks=[] if life is None else [life.callback(stage)],
        )
        return run(trainer).eval()
