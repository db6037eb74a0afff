"""The whole family trained from nothing, a few steps a stage: the road holds with trl and peft.

What the stages can do after all of their steps is tested on those that ship: tests/models. It needs
the extra `train`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForSequenceClassification

import llmscope
from llmscope.models.sources import builtin
from llmscope.runs.reader import RunReader

pytest.importorskip("trl")

ROOT = Path(__file__).parents[2]
IDS = [2, 20, 31, 42, 53]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    home = tmp_path_factory.mktemp("family")
    command = [sys.executable, "-m", "demo.lifecycle", "--fast", "--threads", "1", "--out", home]
    subprocess.run(command, cwd=ROOT, check=True, timeout=280)
    return home


def weights(home, name):
    return load_file(next((home / name).glob("*.safetensors")))


def test_every_member_is_there_and_loads(trained, monkeypatch):
    told = json.loads((trained / "town" / "family.json").read_text(encoding="utf-8"))
    assert told["base"] == "town"
    folders = {one.name for one in trained.iterdir()} - {"town-run"}
    assert {stage["folder"] for stage in told["stages"]} == folders
    monkeypatch.setattr(builtin, "home", lambda: trained)
    scope = llmscope.load("builtin:town")
    kinds = {stage["name"]: stage["kind"] for stage in told["stages"]}
    assert scope.adapters == tuple(
        name for name, kind in kinds.items() if kind != "reward" and name != "town"
    )
    for name in (None, *scope.adapters):
        scope.use(name)
        assert torch.isfinite(scope.record(IDS).logits).all()
    judge = LlamaForSequenceClassification.from_pretrained(trained / "town-reward").eval()
    assert judge(torch.tensor([IDS])).logits.shape == (1, 1)


def test_the_life_was_recorded(trained):
    run = RunReader(trained / "town-run")
    assert [one.name for one in run.steps] == ["echo 0", "sft 4", "dpo 4"]
    for one in run.steps:
        assert all(figure.verdict.status == "verified" for figure in run.figures(one).values())


def test_every_stage_changed_what_it_started_from(trained):
    told = json.loads((trained / "town" / "family.json").read_text(encoding="utf-8"))
    for stage in told["stages"]:
        own = weights(trained, stage["name"])
        if stage["kind"] == "adapter":
            settings = json.loads((trained / stage["name"] / "adapter_config.json").read_text())
            assert settings["base_model_name_or_path"] == f"builtin:{stage['trained_from']}"
            # B starts at 0 and an IA³ at 1.
            moved = [weight for name, weight in own.items() if "lora_A" not in name]
            still = 0.0 if stage["name"] == "town-pirate" else 1.0
            assert all(bool((weight != still).any()) for weight in moved)
        elif stage["trained_from"] is not None:
            below = weights(trained, stage["trained_from"])
            shared = [name for name in own if name in below]
            assert len(shared) > 50
            assert all(not torch.equal(own[name], below[name]) for name in shared)
