"""What the trainers of all stages share, and how fast each learns."""

from __future__ import annotations

from typing import Any

from transformers import PrinterCallback

RATES = {  # learning rates
    "sft": 5e-4,
    "pirate": 4e-3,
    "shout": 5e-2,
    "reward": 5e-4,
    "dpo": 3e-4,
    "grpo": 3e-4,
}


def common(stage: str, folder: str, steps: int, seed: int) -> dict[str, Any]:
    """Arguments of transformers' trainer: CPU, float32, seeded, nothing written on the way."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "learning_rate": RATES[stage],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 10,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def run(trainer: Any) -> Any:
    """Train without a word, and give the model back."""
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.model


def still(model: Any) -> Any:
    """A trained model at rest: in eval mode, no weight waiting for a gradient."""
    for weight in model.parameters():
        weight.requires_grad_(False)
    return model.eval()
