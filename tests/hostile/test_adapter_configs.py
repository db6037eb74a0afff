"""Adapter configs that hang, eat the memory, load something else or change the base: a line."""

import json
import os
import re
import socket

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

import llmscope
from llmscope.models.files.foreign_patterns import PatternError, matches
from llmscope.models.loading.adapters import adapted
from llmscope.models.spec import is_revision
from tests.families import small_model
from tests.hostile.forks import limited, refused

IDS = (3, 41, 5, 9, 41, 5, 77, 12, 60)
BOMB = r"(([a-z_.0-9]+)+)+#"


def make_adapter(folder, base, **settings):
    """An adapter with random weights, as peft saves it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for weight in (one for one in wrapped.parameters() if one.requires_grad):
            weight += 0.3 * torch.randn_like(weight)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "llama"
    small_model("llama").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(base, tmp_path_factory):
    """The files of a plain LoRA adapter."""
    folder = tmp_path_factory.mktemp("adapter")
    make_adapter(folder, base, target_modules=["q_proj", "v_proj"], r=8)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def adapter(files, tmp_path):
    """Write the adapter with changes to its config, and return its folder."""

    def write(**changes):
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        config = json.loads(files["adapter_config.json"]) | changes
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    return write


@pytest.fixture(scope="module")
def model():
    return small_model("llama")


@pytest.fixture
def put_on(model, adapter):
    """Refuse an adapter with these changes, in a fork."""

    def check(*words, **changes):
        folder = adapter(**changes)
        return refused(lambda: str(adapted(model, folder, "adapter")), *words, memory=1 << 29)

    return check


@pytest.mark.few(6)
@pytest.mark.parametrize(
    "changes",
    [
        {"r": 10**6},
        {"r": 10**12},
        {"r": 1e9},
        {"rank_pattern": {"q_proj": 10**6}},
        {"rank_pattern": {"q_proj": 10**6}, "peft_type": "LOHA"},
        {"layer_replication": [[0, 10**9]]},
        {"layer_replication": [[0, 3]] * 10**4},
        {"layer_replication": [[0, 3], [2, 1]]},
        {"init_lora_weights": "pissa_niter_1000000"},
        {"init_lora_weights": "loftq", "loftq_config": {"loftq_iter": 10**9}},
        {"peft_type": "VERA", "r": 10**8},
        {"peft_type": "FOURIERFT", "n_frequency": 10**9},
        {"peft_type": "RANDLORA", "r": 10**7},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_sizes_that_no_weight_of_the_adapter_has(put_on, changes):
    put_on(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": BOMB},
        {"exclude_modules": BOMB},
        {"rank_pattern": {BOMB: 4}},
        {"alpha_pattern": {BOMB: 4}},
        {"layers_to_transform": [1], "layers_pattern": BOMB},
        {"layers_to_transform": [1], "layers_pattern": [BOMB]},
        {"modules_to_save": [BOMB]},
        {"peft_type": "IA3", "target_modules": ["q_proj"], "feedforward_modules": BOMB},
        {"peft_type": "FOURIERFT", "n_frequency_pattern": {BOMB: 4}},
        {"target_modules": "(" * 500},
        {"target_modules": "a{1,4000000000}{1,4000000000}"},
        {"target_modules": "x" * 100_000 + "("},
    ],
    ids=lambda changes: f"{list(changes)[-1]}",
)
@pytest.mark.few(3)
def test_patterns_that_take_for_ever(put_on, changes, monkeypatch):
    monkeypatch.setattr("llmscope.models.files.foreign_patterns.SECONDS", 0.5)
    put_on(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": [f"m{at}" for at in range(50_000)]},
        {"exclude_modules": [f"m{at}" for at in range(50_000)]},
        {"layers_to_transform": list(range(50_000))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_lists_of_any_length_cost_nothing(model, adapter, changes):
    outcome = limited(lambda: str(adapted(model, adapter(**changes), "adapter")), memory=1 << 29)
    assert not outcome.killed


def test_tables_of_any_length(put_on):
    put_on("100000", rank_pattern={f"m{at}": 8 for at in range(100_000)})


PATTERNS = {
    "targets": {"target_modules": r".*layers\.[02]\.self_attn\.(q|v)_proj"},
    "targets by case": {"target_modules": r"(?i).*Q_PROJ"},
    "excluded": {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*\.1\..*"},
    "ranks": {
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "rank_pattern": {r"layers\.\d+\.self_attn\.q_proj": 4, "q_proj|down_proj": 2},
        "alpha_pattern": {r"^model\.layers\.1\..*": 32},
    },
    "many ranks": {
        "target_modules": ["q_proj"],
        "rank_pattern": {f"model.layers.{at}.self_attn.q_proj": 2 + at % 3 for at in range(90)},
    },
    "some layers": {
        "target_modules": ["q_proj"],
        "layers_to_transform": [0, 2],
        "layers_pattern": "layers",
    },
    "all linear": {"target_modules": "all-linear"},
}


@pytest.mark.parametrize("settings", PATTERNS.values(), ids=PATTERNS)
def test_patterns_adapt_what_peft_adapts(base, tmp_path, settings):
    folder = make_adapter(tmp_path / "adapter", base, **settings)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    model = adapted(AutoModelForCausalLM.from_pretrained(base), folder, "adapter")
    shapes = {name: one.shape for name, one in plain.get_base_model().named_parameters()}
    assert {name: one.shape for name, one in model.named_parameters()} == shapes
    with torch.no_grad():
        found, own = (one(torch.tensor([IDS])).logits for one in (model, plain))
    assert torch.allclose(found, own, atol=1e-5)


def test_matches_are_those_of_re():
    names = ["model.layers.0.q_proj", "model.layers.1.q_proj", "lm_head", ""]
    patterns = [r".*q_proj", r"model\.layers\.[^1].*", "lm_head|x", "", "(?i)LM_.*"]
    own = [[name for name in names if re.fullmatch(one, name)] for one in patterns]
    assert matches(patterns, names) == own
    with pytest.raises(PatternError, match="cannot be matched"):
        matches(["("], names)


@pytest.mark.parametrize("kind", ["XLORA", "SHADOW"])
def test_an_adapter_that_names_others_connects_to_nothing(model, adapter, kind, monkeypatch):
    folder = adapter(peft_type=kind, adapters={"0": "org/other"}, shadow_model="org/other")

    def connect(*_):
        raise AssertionError("connected")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert "other models" in refused(lambda: str(adapted(model, folder, "adapter")))


def test_megatron_is_not_imported(put_on):
    put_on("Megatron", megatron_config={"a": 1}, megatron_core="antigravity")


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_that_begins_with_a_part_of_the_base_leaves_the_base(base, tmp_path, init):
    settings = {"target_modules": ["q_proj", "down_proj"], "init_lora_weights": init}
    folder = make_adapter(tmp_path / "adapter", base, **settings)
    before = llmscope.load(str(base)).record(IDS).logits
    scope = llmscope.load(str(folder))
    scope.use(None)
    np.testing.assert_array_equal(scope.record(IDS).logits, before)
    scope.use("adapter")
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    with torch.no_grad():
        own = plain(torch.tensor([IDS])).logits[0, -1]
    assert np.abs(np.asarray(scope.record(IDS).logits) - own.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"[]", b"null", b"\xff", b'{"r": ' + b"9" * 10**5 + b"}", b" " * (9 << 20)],
    ids=["deep", "list", "null", "bytes", "digits", "large"],
)
def test_configs_that_are_none(model, adapter, content):
    folder = adapter()
    (folder / "adapter_config.json").write_bytes(content)
    refused(lambda: str(adapted(model, folder, "adapter")), memory=1 << 29)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "README.md"])
def test_a_pipe_in_the_folder(model, adapter, name):
    folder = adapter()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    refused(lambda: str(adapted(model, folder, "adapter")))


@pytest.mark.parametrize("revision", ["../../x", "a/../../b", "/etc", ".", "a b", ""])
def test_revisions_that_are_paths(revision):
    assert not is_revision(revision)


def test_the_revision_of_the_base_is_none_that_leads_elsewhere(adapter):
    folder = adapter(base_model_name_or_path="org/name", revision="../../../elsewhere")
    refused(lambda: str(llmscope.load(str(folder))), "no revision")
