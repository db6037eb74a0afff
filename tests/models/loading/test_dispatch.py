"""Models that are spread over memory and disk: the numbers of the same model loaded whole."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import llmscope
from llmscope.errors import ScopeError
from llmscope.lenses import lens, names
from llmscope.models.loading import dispatch, load, memory
from llmscope.models.loading.load import load_model
from llmscope.record.derive.tensors import activations, pattern
from llmscope.record.derive.verify import CAPABILITIES
from tests.families import small_model

IDS = [5, 17, 3, 42, 8, 29, 11, 64]


@pytest.fixture
def little_memory(monkeypatch, empty_cache):
    """Room for a part of the weights only."""

    def shrink(model, part=0.5):
        size = sum(weight.numel() * 4 for weight in model.parameters())
        monkeypatch.setattr(dispatch, "MAX_MEMORY", {"cpu": int(size * part)})

    return shrink


def both(folder, family, little_memory, part=0.5):
    """The same checkpoint spread and whole."""
    model = small_model(family)
    model.save_pretrained(folder)
    little_memory(model, part)
    scope = llmscope.load(str(folder), device="spread")
    homes = [weight.device.type for weight in scope.model.parameters()]
    assert homes.count("meta") > len(homes) / 3
    return scope, llmscope.load(str(folder), device="cpu")


# Experts that stand stacked, sinks beside the projections, softcaps, fused and parallel parts.
FAMILIES = ["llama", "gpt2", "gemma2", "gpt_oss", "qwen2_moe", "gpt_neox", "bloom", "mamba"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.few(3)
def test_what_is_shown_is_the_same_as_of_the_model_loaded_whole(tmp_path, little_memory, family):
    scope, whole = both(tmp_path / "model", family, little_memory)
    for capability in CAPABILITIES:
        for layer in range(3):
            ours, theirs = scope.verdicts(capability, layer), whole.verdicts(capability, layer)
            if capability == "activations" and whole.loaded_model.anatomy.layers[layer].neurons:
                assert ours.status == "refused"
                assert "the weights of this layer's experts are not here" in ours.reason
                continue
            assert (ours.status, ours.discrepancy) == (theirs.status, theirs.discrepancy)
    recording, other = scope.record(IDS), whole.record(IDS)
    with torch.no_grad():
        plain = small_model(family)(torch.tensor([IDS])).logits[0, -1]
    assert (recording.logits - plain).abs().max() < 1e-4
    for layer in range(4):
        assert torch.equal(recording.rows("stream", layer), other.rows("stream", layer))
    for layer in range(3):
        for capability, derived in (("patterns", pattern), ("activations", activations)):
            if scope.verdicts(capability, layer).status == "verified":
                assert torch.equal(derived(recording, layer), derived(other, layer))
    for name, mode in (
        *(("tokens", ""), ("logit-lens", "top")),
        *(("residual", "stream"), ("residual", "cosine")),
    ):
        ours, theirs = (one.look(name, mode=mode) for one in (scope, whole))
        assert ours.verdict.status == theirs.verdict.status, name
        np.testing.assert_array_equal(ours.values, theirs.values)


@pytest.mark.few(1)
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_each_lens_shows_the_same_or_says_that_weights_are_offloaded(
    tmp_path, little_memory, family
):
    scopes, offloaded = both(tmp_path / "model", family, little_memory), []
    recordings = [scope.record(IDS) for scope in scopes]
    for name in names():
        for mode in lens(name).modes or ("",):
            found = []
            for scope, recording in zip(scopes, recordings, strict=True):
                try:
                    figure = scope.look(name, recording=recording, mode=mode)
                except (ScopeError, ValueError) as error:
                    found.append(str(error))
                else:
                    found.append((figure.verdict.status, figure.verdict.reason))
            if found[0] != found[1]:
                offloaded.append((name, *found[0]))
    expected = {("walkthrough", "partial")}
    if family == "llama":  # experts refuse a context wherever their weights are
        expected.add(("context", "refused"))
    else:
        expected |= {(name, "refused") for name in ("attribution", "mlp", "neurons")}
    assert {(name, status) for name, status, _ in offloaded} == expected
    reasons = ("its weights are ", "the weights of this layer's experts are not here")
    assert all(any(part in reason for part in reasons) for *_, reason in offloaded)


def test_a_prompt_goes_on_from_what_it_shares(tmp_path, little_memory):
    scope, whole = both(tmp_path / "model", "llama", little_memory)
    scope.record(IDS[:5])
    appended = scope.record(IDS)
    assert (appended.ran, appended.reused) == (3, 5)
    fresh = whole.record(IDS, fresh=True)
    assert (appended.logits - fresh.logits).abs().max() < 1e-4
    assert (pattern(appended, 2) - pattern(fresh, 2)).abs().max() < 1e-5
    scope.record([*IDS[:3], 9])
    assert torch.equal(scope.record(IDS, fresh=True).logits, fresh.logits)


def test_a_pass_that_is_given_up_leaves_nothing_amiss(tmp_path, little_memory):
    from llmscope.support.sandbox import Cancelled

    scope, whole = both(tmp_path / "model", "gpt_oss", little_memory)
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        scope.record(IDS, fresh=True, cancelled=lambda: next(asked))
    assert torch.equal(scope.record(IDS).logits, whole.record(IDS).logits)


def test_weights_of_another_dtype_become_the_one_asked_for(tmp_path, little_memory):
    model = small_model("llama").bfloat16()
    model.save_pretrained(tmp_path)
    little_memory(model)
    scope = llmscope.load(str(tmp_path), device="spread")
    assert (scope.info().dtype, scope.info().device) == ("float32", "cpu")
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        own = plain(torch.tensor([IDS])).logits[0, -1]
    assert (scope.record(IDS).logits - own).abs().max() < 1e-5
    assert scope.verdicts("patterns").status == "verified"


def test_it_says_where_the_weights_are(tmp_path, little_memory):
    scope, whole = both(tmp_path / "model", "llama", little_memory)
    assert "weights are spread over cpu and disk" in scope.info().notices
    assert not any("spread" in notice for notice in whole.info().notices)


def test_where_all_fit_nothing_is_put_aside(tmp_path, empty_cache):
    small_model("llama").save_pretrained(tmp_path)
    model = load_model(str(tmp_path), device="spread")
    assert {weight.device.type for weight in model.module.parameters()} == {"cpu"}


@pytest.mark.parametrize(("free", "spreads"), [(0.5, True), (1.05, True), (2.0, False)])
def test_what_does_not_fit_on_the_gpu_is_spread(
    tmp_path, little_memory, monkeypatch, free, spreads
):
    """A CPU that is taken for a GPU."""
    module = small_model("gpt_neox")  # ties nothing, so that the file holds all of it
    module.save_pretrained(tmp_path)
    little_memory(module)
    size = sum(weight.numel() * 4 for weight in module.parameters())
    gpu = SimpleNamespace(type="cuda", __str__=lambda self: "cuda")
    monkeypatch.setattr(load, "choose_device", lambda name: gpu)
    monkeypatch.setattr(load, "_move", lambda module, *_: module)
    monkeypatch.setattr(memory, "available", lambda device: int(size * free))
    model = load_model(str(tmp_path))
    assert any("do not fit" in notice for notice in model.notices) == spreads
    assert any("spread over" in notice for notice in model.notices) == spreads
    assert not load_model(str(tmp_path), device="cuda").notices[0].startswith("its weights")


PROGRAM = """
import sys, llmscope
from pathlib import Path
from llmscope.models.files import cache; from llmscope.models.loading import dispatch as spread
spread.MAX_MEMORY = {"cpu": 40_000}
scope = llmscope.load(sys.argv[1], device="spread")
(folder,) = (cache.cache_folder() / "offload").iterdir()
print(len(list(folder.iterdir())))
"""


@pytest.mark.slow
def test_what_is_put_aside_is_gone_at_the_end(tmp_path, empty_cache):
    """And so is what a program that was killed left behind."""
    small_model("qwen2_moe").save_pretrained(tmp_path / "model")  # its experts are put together
    left = empty_cache / "offload" / "999999999-left"
    left.mkdir(parents=True)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model")]
    ran = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 0
    assert list((empty_cache / "offload").iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path, empty_cache):
    small_model("llama").save_pretrained(tmp_path / "model")
    empty_cache.write_text("")
    with pytest.raises(ScopeError, match="cannot be written") as caught:
        load_model(str(tmp_path / "model"), device="spread")
    assert "LLMSCOPE_CACHE" in caught.value.hint
