"""The noise has the size of the change, tensor by tensor, and leaves no trace."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from llmscope.jobs.activation_difference.measure import activation_difference
from llmscope.jobs.activation_difference.noise_control import NoControl, noisy, weight_changes
from llmscope.jobs.activation_difference.texts import default_texts
from llmscope.models.anatomy import find
from llmscope.scope.instrumented import InstrumentedModel


@pytest.fixture(scope="module")
def sft(town):
    return town.base.adapted["town-sft"]


def test_changes_of_another_checkpoint_are_those_of_its_tensors(town, sft):
    theirs = dict(sft.module.named_parameters())
    found = weight_changes(town.base, sft)
    for name, ours in town.base.module.named_parameters():
        change = theirs[name].detach().numpy().astype(float) - ours.detach().numpy()
        assert found.get(name, 0.0) == pytest.approx(np.linalg.norm(change), rel=1e-5)
    assert weight_changes(town.base, town.base) == {}


def test_changes_of_a_lora_are_those_of_its_product(town, sft):
    tuned = town.base.adapted["town-pirate"]
    found = weight_changes(sft, tuned)
    module = tuned.module.model.layers[2].mlp.down_proj
    up, down = (getattr(module, one)["default"].weight.double() for one in ("lora_B", "lora_A"))
    expected = float(torch.linalg.matrix_norm(up @ down * module.scaling["default"]))
    assert found["model.layers.2.mlp.down_proj.weight"] == pytest.approx(expected, rel=1e-4)
    assert all("proj" in name for name in found)
    assert len(found) == 7 * 6


def test_noise_has_these_norms_and_goes_without_a_trace(town, sft):
    town.use(None)
    recording = town.record("anna lives in mill street .")
    before = {name: one.detach().clone() for name, one in town.model.named_parameters()}
    norms = weight_changes(town.base, sft)
    with noisy(town.base, norms, seed=7):
        first = {name: one.detach().clone() for name, one in town.model.named_parameters()}
        for name, one in first.items():
            size = float(torch.linalg.vector_norm((one - before[name]).double()))
            assert size == pytest.approx(norms.get(name, 0.0), rel=1e-4)

    def fail():
        again = dict(town.model.named_parameters())
        assert not any(torch.equal(again[name], first[name]) for name in norms)
        raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"), noisy(town.base, norms, seed=8):
        fail()
    for name, one in town.model.named_parameters():
        assert torch.equal(one, before[name])
    assert not town.stale(recording)


def test_noise_is_seeded(town, sft):
    norms = weight_changes(town.base, sft)
    name = next(iter(norms))
    drawn = []
    for _ in range(2):
        with noisy(town.base, norms, seed=1):
            drawn.append(dict(town.base.module.named_parameters())[name].detach().clone())
    assert torch.equal(*drawn)


def test_other_shapes_give_no_control(town, sft):
    model = copy.deepcopy(sft.module)
    model.model.layers[0].mlp.down_proj = torch.nn.Linear(3, 4)
    with pytest.raises(NoControl, match=r"the weight model\.layers\.0\.mlp\.down_proj\.weight has"):
        weight_changes(town.base, replace(sft, module=model))


def test_a_model_with_noise_is_not_told_from_noise(town, sft):
    noise = replace(town.base, module=copy.deepcopy(town.base.module), adapter="noise")
    norms = weight_changes(town.base, sft)
    for name, one in noise.module.named_parameters():
        with noisy(town.base, norms, seed=500):
            changed = dict(town.base.module.named_parameters())[name].detach().clone()
        one.data = changed
    noise.anatomy = find(noise.module)
    texts = default_texts("builtin:town")
    found = activation_difference(*map(InstrumentedModel, (town.base, noise)), texts)
    assert found.verdict.status == "partial"
    assert "not told from noise" in found.verdict.reason
    doubtful = [bool(one.doubt) for one in found.readings]
    assert sum(doubtful) >= 0.9 * len(doubtful)  # each is wrong once or twice in a hundred times
