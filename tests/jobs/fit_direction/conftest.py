"""Small models whose streams are known, and texts of ids for them."""

from pathlib import Path

import pytest
import torch

import llmscope
from llmscope.jobs.fit_direction.pairs import LabelledText, read_examples
from llmscope.jobs.snapshots import PromptSource
from tests.families import small_model

SENTIMENT = Path("demo/directions/sentiment.jsonl")
UP, DOWN = 60, 61
"""The tokens that the texts of the two classes end in, or hold."""


def ids_texts(groups=8, each=3, seed=0, *, first=False):
    """Pairs of texts of ids, which differ in their last token alone, or in the first one."""
    random = torch.Generator().manual_seed(seed)
    found, line = [], 0
    for group in range(groups):
        for _ in range(each):
            line += 1
            length = int(torch.randint(3, 8, (), generator=random))
            ids = torch.randint(1, 50, (length,), generator=random).tolist()
            for token in (UP, DOWN):
                text = " ".join(map(str, (token, *ids) if first else (*ids, token)))
                found.append(LabelledText(text, token == UP, f"g{group}", line))
    return found


def planted_model(size=6.0):
    """A llama in whose embedding and unembedding two tokens are apart along one known direction."""
    model = small_model("llama")
    width = model.config.hidden_size
    truth = torch.randn(width, generator=torch.Generator().manual_seed(5))
    truth /= truth.norm()
    with torch.no_grad():
        for layer in model.model.layers:  # blocks that write little leave the direction as it is
            layer.self_attn.o_proj.weight *= 0.05
            layer.mlp.down_proj.weight *= 0.05
        for rows in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            rows[DOWN] = rows[UP]
            rows[UP] += size / 2 * truth
            rows[DOWN] -= size / 2 * truth
    return model, truth


@pytest.fixture(scope="session")
def planted():
    """A scope of the model, the model itself, and the direction."""
    model, truth = planted_model()
    return llmscope.wrap(model), model, truth


@pytest.fixture(scope="session")
def sentiment():
    return read_examples(PromptSource(str(SENTIMENT), None))
