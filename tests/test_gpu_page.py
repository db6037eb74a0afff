"""The numbers of docs/gpu.md are computed: memory on paper, and what doctor says."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from demo import gpu_memory
from llmscope.cli.output.hardware_report import memory_report
from llmscope.models.loaded_model import RowMemory
from llmscope.models.loading.memory import room
from llmscope.models.loading.token_memory import ModelMemory, tokens_that_fit

PAGE = (Path(__file__).parents[1] / "docs" / "gpu.md").read_text("utf-8")


@pytest.fixture(scope="module")
def papers():
    return gpu_memory.papers()


def test_the_tables_are_those_that_the_script_makes(papers, monkeypatch):
    monkeypatch.setattr(gpu_memory, "papers", lambda: papers)
    assert gpu_memory.tables() in PAGE


def test_parameters_are_those_that_the_makers_state(papers):
    """7.25, 70.6 and 46.7 billion, as their model cards say."""
    counts = {one.name: (one.layers + one.beside) / 1e9 for one in papers}
    assert counts == pytest.approx(
        {"Mistral 7B": 7.25, "Llama 3.1 70B": 70.55, "Mixtral 8x7B": 46.70}, abs=0.01
    )


@pytest.mark.parametrize("family", ["mistral", "llama", "mixtral"])
def test_a_token_takes_in_the_cache_what_is_told(papers, family):
    """In transformers' own cache, of one layer of a model with the same heads, without weights."""
    paper = next(one for one in papers if one.config.model_type == family)
    config = type(paper.config)(**{**paper.config.to_dict(), "num_hidden_layers": 1})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        cache = model(input_ids=torch.zeros(1, 5, dtype=torch.long), use_cache=True)
    layer = cache.past_key_values.layers[0]
    found = (layer.keys.nbytes + layer.values.nbytes) // 5
    assert found * paper.config.num_hidden_layers == paper.token.cache


def test_the_example_of_a_model_is_what_doctor_says(papers):
    (paper,) = (one for one in papers if one.name == "Mistral 7B")
    free, limit, weights = 25_400_000_000, RowMemory().limit, paper.weights("bfloat16")
    tokens = tokens_that_fit(paper.token, room(free) - weights, limit)
    told = ModelMemory("cuda", weights, paper.token, limit, free, tokens, 32_768)
    assert memory_report(asdict(told)) in PAGE
