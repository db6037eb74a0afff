"""What was refused, again in float64: a wrong structure stays wrong, and rounding falls away."""

from __future__ import annotations

import pytest
import torch

from llmscope.models.loading import memory
from llmscope.record.compare import float64_check
from llmscope.record.compare.float64_check import check_in_float64
from llmscope.record.derive.verify import verify
from tests.all_families import small_model as any_small_model
from tests.families import small_model
from tests.record.conftest import recorder_for


def cancelling():
    """A model whose heads give large numbers that its output projection takes out again.

    Each pattern's row sums to one, so that the bias of the values comes through whole, and the
    weights that read it sum to zero: what is left stands behind many digits.
    """
    model = small_model("qwen2")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.v_proj.bias.fill_(3000.0)
            weight = layer.self_attn.o_proj.weight
            heads = weight.view(len(weight), 4, -1)
            heads -= heads.mean(-1, keepdim=True)
    return model


def checked(model):
    recorder = recorder_for(model)
    verdicts = verify(recorder)
    return verdicts, check_in_float64(recorder.model, verdicts)


def test_rounding_falls_by_many_orders():
    verdicts, exact = checked(cancelling())
    refused = verdicts("patterns")
    assert refused.status == "refused"
    check = exact.over("patterns")
    assert check.cause == "rounding"
    assert check.discrepancy < refused.discrepancy / 1e6
    assert check.words == f"falls to {check.discrepancy:.0e} in float64: rounding"
    assert exact.over("writes") is None  # it was not refused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("family", "capability"), [("doge", "writes"), ("minimax", "writes")])
def test_a_wrong_structure_stays(family, capability, dtype):
    verdicts, exact = checked(any_small_model(family).to(dtype))
    assert verdicts(capability).status in ("refused", "partial")
    check = exact.over(capability)
    assert check.cause == "structure"
    assert check.discrepancy > 0.1
    assert check.words.startswith(f"stays at {check.discrepancy:.1e} in float64")


def test_a_part_that_a_model_lacks_is_not_measured_again():
    verdicts, exact = checked(small_model("mamba"))
    assert verdicts("activations").status == "refused"
    assert exact.over("activations") is None


def test_only_the_layers_that_are_asked_for_are_told():
    _, exact = checked(any_small_model("minimax"))
    assert exact.over("writes", [1]).cause == "structure"
    assert exact.over("writes", [0]) is None


def test_where_no_copy_can_be_made_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(float64_check, "available", lambda _: 1000)
    _, exact = checked(any_small_model("doge"))
    check = exact.over("writes")
    assert (check.discrepancy, check.cause) == (None, "")
    assert check.words.startswith("in float64: a copy takes 0.0 GiB of memory")
    monkeypatch.setattr(float64_check, "available", memory.available)

    def fail(*_):
        raise RuntimeError("no float64 here")

    monkeypatch.setattr(float64_check, "copy_in", fail)
    _, exact = checked(any_small_model("doge"))
    assert "no float64 here" in exact.over("writes").words
