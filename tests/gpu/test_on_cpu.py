"""The command on a CPU: what can run there passes, the rest says why not, and checks can fail."""

import json
import os
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from tests.gpu import run
from tests.gpu.errors import bound, by_row, largest, stated
from tests.gpu.report import Section, Skipped
from tests.gpu.setting import child_environment

ONLY_CUDA = {"shared"}


@pytest.fixture(autouse=True)
def own_environment():
    with patch.dict(os.environ):
        yield


def report(tmp_path, *options, **how):
    """The exit status of the command in this process, and its report."""
    out = tmp_path / "report.json"
    status = run.main(["--device", "cpu", "--quick", "--out", str(out), *options], **how)
    return status, json.loads(out.read_text())


@pytest.mark.slow
def test_each_section_passes_or_says_what_it_lacks(tmp_path):
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--quick", "--out", str(out)]
    ran = subprocess.run(
        command, capture_output=True, text=True, env=child_environment(), check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(out.read_text())
    assert {"device", "driver", "date", "llmscope"} <= found.keys()
    assert {"torch", "transformers"} <= found["machine"]["versions"].keys()
    sections = {one["name"]: one for one in found["sections"]}
    assert tuple(sections) == run.SECTIONS
    for name, section in sections.items():
        expected = "skipped" if name in ONLY_CUDA else "passed"
        assert (name, section["status"]) == (name, expected), section["reason"]
        if name in ONLY_CUDA:
            assert "needs a GPU" in section["reason"]
            continue
        assert section["seconds"] > 0
        held = [one for one in section["figures"] if one["holds"] is not None]
        assert all(one["holds"] for one in held)
        assert bool(held) == (name != "speed")  # on a CPU its limits are not those of the GPU
    assert "needs a GPU" in sections["big"]["reason"]
    assert "not installed" in sections["quantised"]["reason"]
    assert "limit" in sections["truth"]["figures"][0]
    assert f"truth      {sections['truth']['figures'][1]['what']}: " in ran.stdout
    told = sum(one["seconds"] for one in sections.values())
    assert told <= found["seconds"]


def scaled_weight(model):
    """Change a matrix of the second layer by a hundredth."""
    with torch.no_grad():
        named = [name for name, one in model.named_parameters() if one.dim() == 2]
        name = next(name for name in named if ".1." in name and "mlp" in name)
        model.get_parameter(name).mul_(1.01 if model.dtype == torch.float32 else 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["truth", "reuse", "edits", "batches", "quantised", "offload", "compiled", "big"]
)
def test_a_weight_that_differs_between_the_two_sides_fails(tmp_path, name):
    status, found = report(tmp_path, "--only", name, spoil=scaled_weight)
    (section,) = found["sections"]
    assert (status, section["status"]) == (1, "failed")
    assert "do not hold" in section["reason"]
    wrong = [one["what"] for one in section["figures"] if one["holds"] is False]
    kinds = {"float32", "bfloat16"} if name in ("truth", "reuse", "edits", "batches") else {""}
    for kind in kinds:
        assert any(kind in what for what in wrong), kind


@pytest.mark.slow
def test_numbers_that_are_derived_wrongly_fail(tmp_path, monkeypatch):
    """The model is the same on both sides; only what is derived from its rows is not."""
    cache = "llmscope.record.derive.activation_cache"
    for name, factor in (("pattern", 0.8), ("mixed_values", 1.2)):
        own = getattr(import_module(cache), name)
        wrong = lambda *given, own=own, factor=factor: own(*given) * factor  # noqa: E731
        monkeypatch.setattr(f"{cache}.{name}", wrong)
    status, found = report(tmp_path, "--only", "truth")
    assert status == 1
    wrong = [one["what"] for one in found["sections"][0]["figures"] if one["holds"] is False]
    for kind in ("error of a pattern of eager", ": z", "largest error of a verified number"):
        for dtype in ("float32", "bfloat16", "float16"):
            assert any(kind in what and dtype in what for what in wrong), (kind, dtype)
    assert not any("logits" in what and "verified number" not in what for what in wrong)


@pytest.mark.slow
def test_memory_fails_where_it_is_not_told(tmp_path, monkeypatch):
    """An error of torch, in place of one line."""
    from contextlib import nullcontext

    monkeypatch.setattr("llmscope.scope.scope.enough_memory", lambda *_: nullcontext())
    status, found = report(tmp_path, "--only", "memory")
    (section,) = found["sections"]
    assert (status, section["status"]) == (1, "failed")
    assert "pass: what it raises" in section["reason"]


def swapped(monkeypatch, checks):
    """Let sections run functions of a test."""
    made = {f"tests.gpu.{name}": SimpleNamespace(check=check) for name, check in checks.items()}
    monkeypatch.setattr(run, "import_module", lambda name: made[name])


def test_a_section_that_raises_fails_and_the_others_run(tmp_path, monkeypatch):
    def raises(setting, section):
        section.tell("one", 1)
        raise RuntimeError("it broke\nin two lines")

    def skips(setting, section):
        setting.need_cuda("this")

    checks = {
        "truth": raises,
        "reuse": lambda setting, section: section.at_most("two", 1.0, 2.0),
        "edits": lambda setting, section: section.at_most("three", float("nan"), 2.0),
        "batches": lambda setting, section: section.at_least("four", 1.0, 2.0),
        "quantised": skips,
        "offload": lambda setting, section: None,
    }
    swapped(monkeypatch, checks)
    status, found = report(tmp_path, "--only", *checks)
    assert status == 1
    assert [(one["status"], one["reason"]) for one in found["sections"]] == [
        ("failed", "RuntimeError: it broke"),
        ("passed", ""),
        ("failed", "1 of 1 do not hold, first: three"),
        ("failed", "1 of 1 do not hold, first: four (at least)"),
        ("skipped", "this needs a GPU"),
        ("failed", "it made no figure"),
    ]


def test_what_begins_too_late_is_skipped(tmp_path, monkeypatch):
    swapped(monkeypatch, {})
    status, found = report(tmp_path, "--minutes", "0")
    assert status == 0
    assert {one["reason"] for one in found["sections"]} == {"out of time"}
    assert len(found["sections"]) == len(run.SECTIONS)


@pytest.mark.parametrize(
    "options",
    [
        ["--only", "nothing"],
        ["--device", "tpu"],
        ["--model", "/nonexistent"],
        ["--out", "/nonexistent/report.json"],
    ],
)
def test_wrong_use_ends_with_2(options, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(options)
    assert ended.value.code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_so_does_a_gpu_that_is_missing(capsys):
    assert run.main(["--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_errors_are_those_of_the_tensors():
    own = torch.tensor([[1.0, 100.0], [0.5, 0.25]])
    assert largest(own, own) == by_row(own, own) == 0
    found = own + torch.tensor([[0.0, 0.0], [0.05, 0.0]])
    assert largest(found, own) == pytest.approx(0.05 / 100)
    assert by_row(found, own) == pytest.approx(0.05 / 0.5)
    assert largest(own[:1], own) == float("inf")
    assert not largest(own * float("nan"), own) <= 1
    assert bound("float32", 30) == 1e-4
    assert bound("bfloat16", 4) == pytest.approx(8 * 2**-7)
    verdict = SimpleNamespace(within="within 0.031, scale within 0.002, in bfloat16")
    assert stated(verdict) == 0.031
    assert stated(SimpleNamespace(within="", discrepancy=2e-7)) == 1e-5


def test_a_part_that_is_skipped_is_told():
    section = Section("one")
    section.skip("a part", Skipped("nothing to see"))
    section.settle()
    assert (section.status, section.reason) == ("skipped", "a part: nothing to see")
    section.at_most("another", 1.0, 2.0)
    section.status = "passed"
    section.settle()
    assert (section.status, section.reason) == ("passed", "skipped: a part: nothing to see")
