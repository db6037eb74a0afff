"""Prompts recorded whole in padded passes, against a pass of each."""

import inspect
import random

import numpy as np
import pytest
import torch
from torch import nn

from llmscope.errors import ScopeError
from llmscope.record.capture import padded
from llmscope.record.capture.padded import grouped, record_together, same_tensors
from llmscope.record.derive.batching import why_alone
from llmscope.record.derive.tensors import logits_after
from tests.families import FAMILIES, small_model
from tests.record.conftest import prompt_of
from tests.record.interventions.test_edited import scope_for

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]  # longer than the windows of 6
PROMPTS = (IDS, IDS[3:], IDS[-2:], IDS[:9], IDS[4:5])
TOGETHER = (
    "gpt2",
    "llama",
    "gemma2",
    "gemma3_text",
    "mixtral",
    "opt",
    "gpt_neox",
    "mamba",
)
"""Those that a padded pass must serve."""
LENSES = ("next-token", "logit-lens", "attention", "neurons", "attribution", "heads", "ablation")
REST = [pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES if one not in TOGETHER]


@pytest.mark.parametrize("family", [*TOGETHER, *REST])
@pytest.mark.few(3)
def test_the_figures_are_those_of_single_passes(family):
    scope = scope_for(small_model(family))
    single = [scope.record(ids, fresh=True) for ids in PROMPTS]
    reason = scope._instrumented.why_alone
    assert family not in TOGETHER or not reason
    together = scope.record([list(ids) for ids in PROMPTS])
    assert [one.prompt.ids for one in together] == [one.prompt.ids for one in single]
    assert scope.latest is together[-1]
    for one, own in zip(together, single, strict=True):
        assert reason or same_tensors(one, own)
        for lens in LENSES:
            found, wanted = scope.look(lens, recording=one), scope.look(lens, recording=own)
            assert found.verdict.status == wanted.verdict.status
            assert found.axes == wanted.axes
            np.testing.assert_allclose(found.values, wanted.values, rtol=2e-4, atol=2e-5)


def test_experts_in_half_precision_run_one_by_one():
    """Rounding chose another expert in a padded pass: streams differed by a third."""
    scope = scope_for(small_model("mixtral").bfloat16())
    assert scope._instrumented.why_alone == "in half precision a rounding may choose other experts"
    chance = random.Random(5)
    prompts = [[chance.randrange(3, 90) for _ in range(chance.randint(2, 48))] for _ in range(9)]
    for ids, found in zip(prompts, scope.record(prompts), strict=True):
        assert torch.equal(found.logits, scope.record(ids, fresh=True).logits)
    assert scope_for(small_model("llama").bfloat16())._instrumented.why_alone == ""


def test_a_pass_serves_as_many_prompts_as_it_may(monkeypatch):
    scope = scope_for(small_model("llama"))
    passes = []
    scope.record([IDS, IDS])  # measured by now
    hook = scope.model.model.embed_tokens.register_forward_hook(
        lambda _, args, out: passes.append(tuple(args[0].shape))
    )
    scope.prepare_reuse()  # a hook changes a model
    assert not scope._instrumented.why_alone
    passes.clear()
    scope.record([IDS[:n] for n in (3, 9, 4, 9, 2)])
    assert passes == [(5, 9)]
    passes.clear()
    monkeypatch.setattr(padded, "TOKENS", 18)
    scope.record([IDS[:n] for n in (3, 9, 4, 9, 2)])
    assert passes == [(2, 9), (3, 4)]
    hook.remove()


def test_groups_hold_each_prompt_once_and_no_more_tokens_than_they_may(monkeypatch):
    monkeypatch.setattr(padded, "TOKENS", 40)
    lengths = [3, 17, 41, 8, 8, 1, 20, 2, 2, 2]
    found = list(grouped(lengths, 4))
    assert sorted(at for group in found for at in group) == list(range(len(lengths)))
    for group in found:
        assert len(group) == 1 or len(group) * max(lengths[at] for at in group) <= 40
        assert len(group) <= 4


class Mixing(nn.Module):
    """Adds to each prompt of a batch what the first one has."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden, *args, **kwargs):
        found = self.inner(hidden, *args, **kwargs)
        return found + (found[:1] - found if len(found) > 1 else 0) * 0.01


def test_a_model_that_mixes_prompts_runs_each_alone():
    model = small_model("llama")
    model.model.layers[1].mlp = Mixing(model.model.layers[1].mlp)
    scope = scope_for(model)
    assert scope._instrumented.why_alone == "its tensors differ from those of single passes"
    own = [scope.record(ids, fresh=True).logits for ids in PROMPTS]
    for found, wanted in zip(scope.record([list(ids) for ids in PROMPTS]), own, strict=True):
        assert torch.allclose(found.logits, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["query", "stream", "mlp_write", "keys"])
def test_rows_of_another_prompt_are_found(name, monkeypatch):
    scope = scope_for(small_model("llama"))
    recorder = scope.recorder
    assert why_alone(recorder) == ""
    own = record_together(recorder, [prompt_of(ids) for ids in (IDS, IDS[::-1])])
    other, one = own
    assert same_tensors(one, one)
    if name == "keys":
        object.__setattr__(one, "keys", other.keys)
    else:
        layer = one.parts[0][0].layers[2]
        object.__setattr__(layer, name, getattr(other.parts[0][0].layers[2], name))
    assert not same_tensors(one, recorder.go_on(None, one.prompt))


def test_the_model_is_measured_anew_once_it_changed():
    scope = scope_for(small_model("llama"))
    scope.record([IDS, IDS[:4]])
    with torch.no_grad():
        scope.model.model.layers[0].mlp.down_proj.weight.mul_(1.5)
    found = scope.record([IDS, IDS[:4]])
    assert "weights" in found[0].prompt.notices[0]
    fresh = scope.record(IDS, fresh=True)
    assert torch.allclose(found[0].logits, fresh.logits, atol=1e-5)


def test_edits_run_each_prompt_alone():
    scope = scope_for(small_model("llama"))
    found = scope.record([IDS, IDS[:4]], edits=["zero head 1.1"])
    for one in found:
        own = scope.record(one.prompt.ids, edits=["zero head 1.1"], fresh=True)
        last = len(one) - 1
        assert one.base is not None
        assert torch.allclose(logits_after(one, last), logits_after(own, last), atol=1e-5)


def longer_than_the_probe():
    """A model whose own logits are other than its readout, in prompts longer than the probe."""
    model = small_model("llama")
    kind = type(model)

    class Own(kind):
        def forward(self, *args, **options):
            output = super().forward(*args, **options)
            if options["input_ids"].shape[-1] > 12:
                output.logits = output.logits * 1.2
            return output

    Own.forward.__signature__ = inspect.signature(kind.forward)
    Own.forward.__module__ = kind.forward.__module__
    model.__class__ = Own
    return model


def test_logits_of_a_batch_are_the_models_own_and_its_readout_is_held_against_them():
    scope = scope_for(longer_than_the_probe())
    ids = [*IDS, 4, 4, 9]
    alone = scope.record(ids, fresh=True)
    assert scope.look("logit-lens").verdict.status == "refused"
    together, _ = scope.record([ids, ids[:14]])
    assert torch.allclose(together.logits, alone.logits, atol=1e-5)
    assert scope.look("logit-lens", recording=together).verdict.status == "refused"
    with pytest.raises(ScopeError, match="logits: "):
        together.cache()["logits"]


def test_a_recording_of_a_batch_holds_its_own_rows_alone():
    scope = scope_for(small_model("llama"))
    for one in scope.record([IDS, IDS[:4], IDS[2:]]):
        rows = one.parts[0][0].layers[1]
        for tensor in (rows.stream, rows.query, rows.mlp_write, one.keys[1], one.logits):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
