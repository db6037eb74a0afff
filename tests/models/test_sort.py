"""The model that ships does what its page says."""

import itertools

import pytest
import torch

from llmscope.models.loading.load import load_model

LETTERS = torch.tensor(list(itertools.product(range(3), repeat=6)))


@pytest.fixture(scope="module")
def sort():
    return load_model("builtin:sort")


@torch.no_grad()
def test_it_sorts_every_input(sort):
    ids = LETTERS
    for _ in range(6):
        following = sort.module(ids).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, following], dim=1)
    assert torch.equal(ids[:, 6:], LETTERS.sort(dim=1).values)


@torch.no_grad()
def test_it_is_sure_of_the_first_letter(sort):
    ids = torch.tensor([sort.tokens.encode("CABACB").ids])
    assert sort.module(ids).logits[0, -1].softmax(-1)[0] > 0.99


def test_it_is_small_and_of_the_published_shape(sort):
    from llmscope.models.sources.builtin import fetch
    from llmscope.models.sources.weights import Options
    from llmscope.models.spec import parse

    folder = fetch(parse("builtin:sort"), Options()).folder
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    assert sum(p.numel() for p in sort.module.parameters()) == 85_584
    config = sort.module.config
    assert (config.n_layer, config.n_head, config.n_embd, config.n_positions) == (3, 3, 48, 11)
    assert sort.notices == ()


@pytest.mark.slow
def test_it_can_be_trained_again(tmp_path, sort):
    import subprocess
    import sys
    from pathlib import Path

    script = Path(__file__).parents[2] / "demo" / "train_sort.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=300)
    again = load_model(str(tmp_path))
    ids = torch.tensor([[2, 0, 1, 0, 2, 1]])
    assert again.module(ids).logits[0, -1].softmax(-1)[0] > 0.99
    assert again.tokens.encode("CABACB").ids == sort.tokens.encode("CABACB").ids
