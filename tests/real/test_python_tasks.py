"""The blocks of llmscope on the page of eight tasks, without the libraries beside them."""

import pytest
import torch

from tests.peers.tasks import run, sections

pytestmark = pytest.mark.xdist_group("smollm2")
TASKS = sections()
SETUP = TASKS.pop("setup")


@pytest.fixture(scope="module")
def names(smollm2, tmp_path_factory):
    pytest.importorskip("matplotlib").use("agg")
    folder = tmp_path_factory.mktemp("blocks")
    before = torch.is_grad_enabled()
    names = {"model": smollm2.model, "tokenizer": smollm2.tokenizer}
    names = run(SETUP["llmscope"], run(SETUP[""], names, folder), folder)
    yield names, folder
    torch.set_grad_enabled(before)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_it_runs(task, names):
    given, folder = names
    made = run(TASKS[task]["llmscope"], given, folder)
    assert made["result"] is not None
    if "figure" in made:
        assert made["figure"].verdict.status == "verified"
