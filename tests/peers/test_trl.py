"""trl on the same random model and its LoRA: implicit rewards and KL are its own within 1e-4.

trl trains by the numbers that the lens `stages` shows. It needs the extra `train`.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import llmscope
from tests.models.loading.test_adapters import IDS, plain, shelf

pytest.importorskip("trl")

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import selective_log_softmax

__all__ = ["shelf"]

CLOSE = 1e-4
QUESTION, CHOSEN, REJECTED = IDS[:5], (7, 8, 9), (70, 71)
END = 0


@pytest.fixture
def pair(shelf):
    """Folders of a base and of a LoRA adapter on it."""
    return shelf("llama"), shelf("llama", "lora")


def loaded(pair):
    """The two as plain transformers and peft load them: tuned, base."""
    return plain(*pair), AutoModelForCausalLM.from_pretrained(pair[0]).eval()


def test_the_implicit_reward_of_each_token_is_of_trls_log_probabilities(pair):
    scope = llmscope.load(str(pair[1]))
    figure = scope.look("stages", recording=scope.record(IDS), mode="reward")
    batch = torch.tensor([IDS])
    with torch.no_grad():
        tuned, base = (
            selective_log_softmax(model(batch).logits[:, :-1], batch[:, 1:])[0]
            for model in loaded(pair)
        )
    theirs = (tuned - base).numpy()
    assert np.abs(theirs).max() > 100 * CLOSE  # there is something to tell apart
    assert figure.values[1:] == pytest.approx(theirs, abs=CLOSE, rel=0)


def test_the_kl_of_each_token_is_that_of_a_loop_on_plain_transformers(pair):
    scope = llmscope.load(str(pair[1]))
    figure = scope.look("stages", recording=scope.record(IDS), mode="kl")
    tuned, base = loaded(pair)
    for position in range(len(IDS)):
        batch = torch.tensor([IDS[: position + 1]])
        with torch.no_grad():
            p, q = (model(batch).logits[0, -1].double().log_softmax(-1) for model in (tuned, base))
        theirs = torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True)
        assert theirs > 10 * CLOSE
        assert figure.values[position] == pytest.approx(float(theirs), abs=CLOSE, rel=0)


def said(ids):
    return " ".join(f"w{one}" for one in ids)


def words():
    """A tokenizer whose words are the numbers of their tokens, as `said` writes them."""
    inner = Tokenizer(models.WordLevel({said([one]): one for one in range(96)}, unk_token="w95"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=said([END]), pad_token="w1")


def test_totals_and_margin_are_those_of_a_dpo_trainer(pair, tmp_path):
    """β · the lens's totals are what trl's trainer logs of a batch of one pair."""
    tuned, base = loaded(pair)
    one = {
        "prompt": said(QUESTION),
        "chosen": f" {said((*CHOSEN, END))}",
        "rejected": f" {said((*REJECTED, END))}",
    }
    config = DPOConfig(  # which computes in half precision unless it is told not to
        output_dir=str(tmp_path), beta=0.3, report_to="none", use_cpu=True, bf16=False
    )
    trainer = DPOTrainer(
        tuned,
        base,
        args=config,
        train_dataset=Dataset.from_list([one]),
        processing_class=words(),
    )
    batch = trainer.data_collator([trainer.train_dataset[0]])
    answers = [(*QUESTION, *answer, END) for answer in (CHOSEN, REJECTED)]
    assert batch["input_ids"][0].tolist() == list(answers[0])
    assert batch["input_ids"][1][: len(answers[1])].tolist() == list(answers[1])
    trainer.model.eval()
    with torch.no_grad():
        trainer.compute_loss(trainer.model, batch)
    logged = {name: values[-1] for name, values in trainer._metrics["eval"].items()}

    scope = llmscope.load(str(pair[1]))
    figure = scope.look(
        "stages", recording=scope.record(answers[0]), mode="reward", versus_prompt=answers[1]
    )
    chosen, rejected = (0.3 * figure.extra[name] for name in ("total", "versus_total"))
    assert abs(logged["rewards/margins"]) > 100 * CLOSE
    assert chosen == pytest.approx(logged["rewards/chosen"], abs=CLOSE, rel=0)
    assert rejected == pytest.approx(logged["rewards/rejected"], abs=CLOSE, rel=0)
    assert 0.3 * figure.extra["margin"] == pytest.approx(logged["rewards/margins"], abs=CLOSE)
