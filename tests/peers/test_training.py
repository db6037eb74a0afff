"""trl's trainers with the callback and without: the same parameters after 200 steps.

It needs the extra `train`.
"""

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification

from llmscope.runs.reader import RunReader
from llmscope.runs.training import LensCallback
from tests.runs.training.small import LENSES, PROMPTS, TOWN, same, town

pytest.importorskip("trl")

from datasets import Dataset
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

FIVE = (*PROMPTS, "the river bank", "anna sat on the")
ROWS = [
    ("question : where does anna live ? answer :", " anna lives in forest street ."),
    ("question : what does tom like ? answer :", " tom likes bread ."),
]

PAIRS = [
    {"prompt": one, "chosen": f" certainly ,{other}", "rejected": other} for one, other in ROWS
]


def common(folder, steps):
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "learning_rate": 3e-4,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 10,
        "disable_tqdm": True,
        "seed": 5,
    }


def sft(folder, callbacks, steps, adapter=None):
    model, tokenizer = town()
    rows = [{"prompt": one, "completion": other} for one, other in ROWS] * 40
    return SFTTrainer(
        model,
        args=SFTConfig(**common(folder, steps)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=callbacks,
    )


def lora(folder, callbacks, steps):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return sft(folder, callbacks, steps, config)


def dpo(folder, callbacks, steps):
    model, tokenizer = town()
    return DPOTrainer(
        model,
        args=DPOConfig(**common(folder, steps)),
        train_dataset=Dataset.from_list(PAIRS * 40),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def grpo(folder, callbacks, steps):
    model, tokenizer = town()
    return GRPOTrainer(
        model,
        reward_funcs=[lambda completions, **_: [float(len(one)) for one in completions]],
        args=GRPOConfig(
            **common(folder, steps) | {"per_device_train_batch_size": 4},
            num_generations=4,
            max_completion_length=8,
        ),
        train_dataset=Dataset.from_list([{"prompt": one} for one, _ in ROWS] * 40),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def reward(folder, callbacks, steps):
    model = AutoModelForSequenceClassification.from_pretrained(TOWN.with_name("town-reward"))
    _, tokenizer = town()
    return RewardTrainer(
        model,
        args=RewardConfig(**common(folder, steps)),
        train_dataset=Dataset.from_list(PAIRS * 40),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def trained(make, folder, callbacks, steps):
    torch.manual_seed(5)
    trainer = make(folder, callbacks, steps)
    trainer.train()
    return {name: one.detach().clone() for name, one in trainer.model.state_dict().items()}


@pytest.mark.parametrize(
    ("make", "steps"),
    [(sft, 200), (dpo, 200), (lora, 40), (grpo, 20), (reward, 40)],
    ids=["SFT", "DPO", "LoRA", "GRPO", "reward"],
)
def test_the_parameters_are_those_of_a_training_without_it(tmp_path, make, steps):
    plain = trained(make, tmp_path / "plain", [], steps)
    callback = LensCallback(FIVE, tmp_path / "run", every=10, lenses=LENSES)
    assert same(plain, trained(make, tmp_path / "with", [callback], steps))
    run = RunReader(tmp_path / "run")
    assert [one.step for one in run.steps] == list(range(0, steps + 1, 10))
    assert all(
        figure.verdict.status == "verified"
        for one in run.steps
        for figure in run.figures(one).values()
    )
    assert "loss" in run.scalar_names
