"""Which modules are split, and which models and options are refused."""

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.loading.dispatch import place
from llmscope.models.tensor_parallel import processes
from llmscope.models.tensor_parallel.plan import COLUMNS, EXPERTS, ROWS, WHOLE, split_plan
from tests import all_families
from tests.families import small_model


def test_linear_modules_gather_their_outputs_and_the_embedding_is_whole():
    plan = split_plan(small_model("llama"), "it")
    layer = "model.layers.*."
    assert {plan[f"{layer}self_attn.{one}_proj"] for one in "qkv"} == {COLUMNS}
    assert plan[f"{layer}self_attn.o_proj"] == plan[f"{layer}mlp.down_proj"] == ROWS
    assert plan["lm_head"] == COLUMNS
    assert plan["model.embed_tokens"] == WHOLE


def test_an_unembedding_that_shares_the_embedding_is_whole():
    model = small_model("gemma2")
    assert model.config.tie_word_embeddings
    assert split_plan(model, "it")["lm_head"] == WHOLE


def test_experts_are_split_and_norms_of_heads_are_not():
    assert split_plan(small_model("qwen3_moe"), "it")["model.layers.*.self_attn.q_norm"] == WHOLE
    # From transformers 5.25 on, the plans of most mixtures leave their experts whole.
    plan = split_plan(all_families.small_model("llama4_text"), "it")
    assert plan["model.layers.*.feed_forward.experts"] == EXPERTS
    assert plan["model.layers.*.feed_forward.experts.down_proj"] == "colwise"


@pytest.mark.parametrize("family", ["gpt2", "gpt_oss"])  # no plan; a plan for the unembedding alone
def test_a_model_without_a_plan_for_its_layers_is_refused(family):
    with pytest.raises(ScopeError, match=f"no tensor-parallel plan for the layers of {family}"):
        split_plan(small_model(family), "it")


@pytest.fixture
def two(monkeypatch):
    """Two processes of torchrun, of which this is rank 0."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "_leader", processes.Processes())


@pytest.mark.parametrize(
    ("device", "config", "why"),
    [
        ("spread", {}, 'device="spread"'),
        ("cpu", {"quantization_config": {"quant_method": "gptq"}}, "quantized"),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_sentence(two, tmp_path, device, config, why):
    cpu = torch.device("cpu")
    with pytest.raises(ScopeError, match=why) as refused:
        place(device, cpu, "float32", tmp_path, config, "it")
    assert "without torchrun" in refused.value.hint


def test_one_process_of_torchrun_splits_nothing(monkeypatch):
    monkeypatch.setenv(processes.TORCHRUN, "none")
    for count, rank, ours in (("1", "0", None), ("2", "0", 0), ("2", "1", 1)):
        monkeypatch.setenv("WORLD_SIZE", count)
        monkeypatch.setenv("RANK", rank)
        assert processes.rank() == ours
    monkeypatch.delenv(processes.TORCHRUN)
    assert processes.rank() is None
