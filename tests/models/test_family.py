"""A built-in model that brings its stages along: known at once, loaded when they are asked for."""

import json

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.sources import builtin
from llmscope.models.sources.weights import Options
from llmscope.models.spec import parse
from llmscope.models.variants import Variants
from llmscope.tui.features.copy.repro_command import ModelSource
from tests.models.loading.test_adapters import IDS, make_adapter, make_base, plain

STAGES = ("small-sft", "small-lora", "small-late")


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A base, a checkpoint that was trained from it and a LoRA, in the place of those that ship."""
    base = make_base(tmp_path / "small")
    tuned = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.02 * torch.randn_like(weight)
    tuned.save_pretrained(tmp_path / "small-sft")
    make_adapter(tmp_path / "small-lora", base, LoraConfig(target_modules=["q_proj"]))
    make_adapter(
        tmp_path / "small-late", tmp_path / "small-sft", LoraConfig(target_modules=["q_proj"])
    )
    make_base(tmp_path / "small-judge")
    stages = [
        {"name": name, "kind": kind, "trained_from": below}
        for name, kind, below in (
            ("small", "model", None),
            ("small-sft", "model", "small"),
            ("small-lora", "adapter", "small"),
            ("small-late", "adapter", "small-sft"),
            ("small-judge", "reward", "small-sft"),
        )
    ]
    for name, below in (("small-lora", "small"), ("small-late", "small-sft")):
        settings = tmp_path / name / "adapter_config.json"
        told = json.loads(settings.read_text()) | {"base_model_name_or_path": f"builtin:{below}"}
        settings.write_text(json.dumps(told))
    (base / "family.json").write_text(json.dumps({"base": "small", "stages": stages}))
    monkeypatch.setattr(builtin, "home", lambda: tmp_path)
    return tmp_path


def test_it_is_opened_as_the_base_and_nothing_more_is_loaded(family):
    scope = llmscope.load("builtin:small")
    assert scope.adapter is None
    assert scope.adapters == STAGES
    assert scope.info().family == STAGES
    assert not scope.base.adapted.loaded


@pytest.mark.parametrize("name", ["small-sft", "small-lora"])
def test_a_stage_is_loaded_when_it_is_switched_on_and_is_what_transformers_loads(family, name):
    scope = llmscope.load("builtin:small")
    scope.use(name)
    assert list(scope.base.adapted.loaded) == [name]
    assert scope.loaded_model.origin is scope.base
    recording = scope.record(IDS)
    folder = family / name
    if (folder / "config.json").is_file():
        theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    else:
        theirs = plain(family / "small", folder)
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0, -1]
    assert float((recording.logits - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    first = scope.loaded_model
    scope.use(None)
    scope.use(name)
    assert scope.loaded_model is first, "it is loaded once"


def test_an_adapter_that_is_named_comes_without_the_others(family):
    scope = llmscope.load("builtin:small", adapters=["builtin:small-lora"])
    assert scope.adapters == ("small-lora",)
    assert scope.adapter == "small-lora"
    assert not scope.info().family


def test_one_that_is_damaged_is_told_when_it_is_asked_for_and_the_base_goes_on(family):
    (family / "small-sft" / "model.safetensors").write_bytes(b"nothing")
    scope = llmscope.load("builtin:small")
    scope.record(IDS)
    with pytest.raises(ScopeError, match="damaged"):
        scope.use("small-sft")
    assert scope.adapter is None
    assert scope.record(IDS).ran == 0


def test_the_command_line_names_it_as_an_adapter_of_the_base(family):
    scope = llmscope.load("builtin:small")
    source = ModelSource("builtin:small")
    assert source.adapters_for(scope.info(), None) == ()
    adapters = source.adapters_for(scope.info(), "small-lora")
    assert adapters == ("builtin:small-lora",)
    again = llmscope.load("builtin:small", adapters=adapters)
    scope.use("small-lora")
    assert torch.equal(again.record(IDS).logits, scope.record(IDS).logits)


def test_a_context_that_is_taught_comes_after_the_family():
    stages = Variants(later={"a": lambda: pytest.fail("loaded")})
    stages.add("b", object())
    assert list(stages) == ["a", "b"]
    assert stages.family == ("a",)
    assert "a" in stages
    assert "c" not in stages
    with pytest.raises(KeyError):
        stages["c"]


def logits_on(below, adapter):
    """Plain peft: an adapter on the checkpoint that it was trained on."""
    with torch.no_grad():
        return plain(below, adapter)(torch.tensor([IDS])).logits[0, -1]


@pytest.mark.parametrize("opened", ["switched", "named", "alone"])
def test_an_adapter_goes_on_the_member_that_it_was_trained_on(family, opened):
    spec = "builtin:small-late" if opened == "alone" else "builtin:small"
    scope = llmscope.load(spec, adapters=["builtin:small-late"] if opened == "named" else [])
    if opened == "switched":
        scope.use("small-late")
    expected = logits_on(family / "small-sft", family / "small-late")
    wrong = logits_on(family / "small", family / "small-late")
    bound = 1e-5 * float(expected.abs().max())
    logits = scope.record(IDS).logits
    assert float((logits - expected).abs().max()) <= bound
    assert float((logits - wrong).abs().max()) > 100 * bound
    assert scope.loaded_model.origin is scope.base, (
        "what it is compared with is the base that is open"
    )


def test_the_member_below_an_adapter_is_loaded_once(family):
    scope = llmscope.load("builtin:small")
    scope.use("small-late")
    loaded = scope.base.adapted.loaded
    assert set(loaded) == {"small-sft", "small-late"}
    below, above = loaded["small-sft"], loaded["small-late"]
    assert above.module.get_input_embeddings().weight is below.module.get_input_embeddings().weight


def test_a_reward_model_is_not_listed_and_can_be_fetched(family):
    assert builtin.names() == ("small", "small-late", "small-lora", "small-sft")
    assert builtin.fetch(parse("builtin:small-judge"), Options()).folder == family / "small-judge"
