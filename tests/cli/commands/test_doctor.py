"""`llmscope doctor`: what it says is so."""

import json
import os
import sys
from importlib.metadata import version

import pytest
import torch

import llmscope
from tests.all_families import small_model as any_small_model
from tests.cli.running import failure, fresh, run
from tests.families import small_model
from tests.models.checkpoints import save_model
from tests.models.loading.test_adapters import LLAMA, make_adapter, make_base


def report(*arguments):
    result = run("doctor", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_versions_machine_and_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "file" / "state"))
    (tmp_path / "file").touch()
    found = report()
    assert found["versions"]["llmscope"] == llmscope.__version__
    assert found["versions"]["python"] == sys.version.split()[0]
    for package in ("torch", "transformers", "textual", "plotext"):
        assert found["versions"][package] == version(package)
    machine = found["machine"]
    assert machine["cores"] == os.cpu_count()
    names = [device["name"] for device in machine["devices"]]
    assert names[0] == "cpu"
    assert len([name for name in names if "cuda" in name]) == torch.cuda.device_count()
    memory = machine["devices"][0]
    assert 0 < memory["free"] < memory["total"]
    assert found["folders"]["cache"] == {"path": str(tmp_path / "cache"), "writable": True}
    assert found["folders"]["state"]["writable"] is False
    assert not (tmp_path / "cache").exists()
    missing = [entry["what"] for entry in found["missing"]]
    assert [what for what in missing if "folder" in what] == [
        f"the state folder {tmp_path / 'file' / 'state'} cannot be written"
    ]
    assert "model" not in found


@pytest.mark.parametrize(
    ("environment", "colours", "advice"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor", False),
        ({"TERM": "xterm-256color"}, "256", False),
        ({"TERM": "screen"}, "16", True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "none", False),
    ],
)
def test_the_terminal(monkeypatch, environment, colours, advice):
    for name in ("TERM", "COLORTERM", "NO_COLOR", "WT_SESSION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = report()
    assert found["terminal"]["colours"] == colours
    assert found["terminal"]["TERM"] == environment["TERM"]
    assert found["terminal"]["COLORTERM"] == environment.get("COLORTERM")
    assert any("COLORTERM" in entry["try"] for entry in found["missing"]) == advice


def test_the_sample_of_the_ramp_needs_no_colour_in_a_file(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert "  ramp       ░▒▓█" in run("doctor").stdout
    monkeypatch.setenv("LC_ALL", "C")
    text = run("doctor").stdout
    assert "  ramp       .:-=+*#%@" in text
    assert "the locale is not UTF-8" in text


def without_torch(folder):
    """Make a torch that cannot be imported. Return the variable that puts it first."""
    (folder / "torch").mkdir()
    code = "raise ImportError('libcudart.so.12: no such file')"
    (folder / "torch" / "__init__.py").write_text(code)
    return {"PYTHONPATH": f"{folder}:{os.getcwd()}"}


@pytest.mark.parametrize("torch_too", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_secrets_stay_secret(tmp_path, torch_too):
    """To import torch takes longer than all else here."""
    secrets = {
        "HF_TOKEN": "hf_secretsecret",
        "HF_ENDPOINT": "http://me:secretsecret@127.0.0.1:9",
        "HF_HUB_OFFLINE": "1",
    }
    result = fresh("doctor", "--json", **secrets, **({} if torch_too else without_torch(tmp_path)))
    assert "secretsecret" not in result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found["hub"]["token"] is True
    assert found["hub"]["offline"] is True
    assert found["hub"]["HF_ENDPOINT"] == found["hub"]["endpoint"] == "http://127.0.0.1:9"
    assert any("HF_HUB_OFFLINE" in entry["what"] for entry in found["missing"])


@pytest.mark.slow
def test_an_empty_token_counts_as_no_token():
    assert json.loads(fresh("doctor", "--json", HF_TOKEN="").stdout)["hub"]["token"] is False


def test_what_is_not_installed_is_missing(monkeypatch):
    from llmscope.cli.output import doctor_checks

    installed = doctor_checks.installed
    old = {"plotext": "5.3.2", "resvg-py": None, "gguf": None, "transformers": "5.99.0"}
    monkeypatch.setattr(
        doctor_checks, "installed", lambda name: old[name] if name in old else installed(name)
    )
    missing = {entry["what"]: entry["try"] for entry in report()["missing"]}
    assert missing["png needs resvg-py"] == "pip install resvg-py"
    assert "gguf>=" in missing["gguf is not installed"]
    wrong = next(what for what in missing if what.startswith("plotext 5.3.2 is installed"))
    assert "plotext<7,>=6.1" in wrong
    newer = next(what for what in missing if what.startswith("transformers 5.99.0"))
    assert "is newer than tested, which is below 5." in newer
    assert "pip install 'transformers<5." in missing[newer]


def test_a_torch_that_cannot_be_imported_is_the_diagnosis(tmp_path):
    result = fresh("doctor", **without_torch(tmp_path))
    assert result.returncode == 0
    assert "libcudart.so.12" in result.stdout.partition("missing")[2]
    assert "Traceback" not in result.stderr


def test_the_verdicts_are_those_of_the_scope(tmp_path):
    model = save_model(tmp_path, "gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight.fill_(torch.nan)
    model.save_pretrained(tmp_path)
    found = report(str(tmp_path))["model"]
    scope = llmscope.load(str(tmp_path))
    assert (found["architecture"], found["layers"], found["heads"]) == ("GPT2LMHeadModel", 3, 4)
    assert found["parameters"] == model.num_parameters()
    assert found["notices"] == list(scope.loaded_model.notices)
    statuses = set()
    for capability, verdict in found["verdicts"].items():
        expected = scope.verdicts(capability)
        assert (verdict["status"], verdict["reason"]) == (expected.status, expected.reason)
        assert verdict["discrepancy"] == expected.discrepancy
        statuses.add(verdict["status"])
    assert statuses >= {"partial"}
    measured = ["readout", "writes", "patterns", "activations", "experts"]
    assert list(found["verdicts"]) == measured


def test_the_table_of_verdicts_for_people():
    text = run("doctor", "builtin:sort").stdout.partition("capability")[2]
    scope = llmscope.load("builtin:sort")
    rows = [line.split() for line in text.splitlines()[1:]]
    expected = []
    for capability in ("readout", "writes", "patterns", "activations"):
        verdict = scope.verdicts(capability)
        measured = "0" if verdict.discrepancy is None else f"{verdict.discrepancy:.1e}"
        expected.append([capability, verdict.status, measured])
    reason = ["this", "layer", "has", "no", "experts"]
    assert rows == [*expected, ["experts", "refused", "–", *reason]]


def test_a_model_that_does_not_load_fails_after_the_report():
    result = run("doctor", "builtin:nope")
    assert result.exit_code == 1
    assert "versions" in result.stdout
    assert result.stderr.startswith("error: there is no built-in model")
    assert "builtin:nope" not in failure("doctor", "--json", "builtin:nope")


def test_foreign_text_is_harmless(monkeypatch):
    monkeypatch.setenv("TERM", "evil\x1b[31m[/nope]")
    text = run("doctor").stdout
    assert "\x1b" not in text
    assert r"evil\x1b[31m[/nope]" in text


def test_layers_of_several_sorts_are_told_apart(tmp_path):
    small_model("jamba").save_pretrained(tmp_path)
    sorts = report(str(tmp_path))["model"]["sorts"]
    assert [(entry["sort"], entry["layers"]) for entry in sorts] == [
        ("state space", [0, 2]),
        ("attention, experts", [1]),
    ]
    states, attends = (
        {name: verdict["status"] for name, verdict in entry["verdicts"].items()} for entry in sorts
    )
    measured = ("readout", "writes", "patterns", "activations", "experts")
    yes, no = "verified", "refused"
    assert states == dict(zip(measured, (yes, yes, no, yes, no), strict=True)) | {"maps": yes}
    assert attends == dict(zip(measured, (yes, yes, yes, yes, yes), strict=True)) | {"maps": no}
    scope = llmscope.load(str(tmp_path))
    for entry in sorts:
        worst = max(scope.verdicts("writes", at).discrepancy or 0 for at in entry["layers"])
        assert (entry["verdicts"]["writes"]["discrepancy"] or 0) == worst
    text = run("doctor", str(tmp_path)).stdout
    assert "layers of state space: 0, 2\n" in text
    assert "layers of attention, experts: 1\n" in text


def test_what_is_refused_is_measured_again_in_float64(tmp_path):
    any_small_model("doge").save_pretrained(tmp_path)
    found = report(str(tmp_path))["model"]
    exact = found["verdicts"]["writes"]["float64"]
    assert (exact["cause"], found["sorts"][0]["verdicts"]["writes"]["float64"]) == (
        "structure",
        exact,
    )
    assert exact["discrepancy"] > 0.1
    assert "float64" not in found["verdicts"]["readout"]
    assert "float64" not in found["verdicts"]["experts"]  # it has none: nothing was measured
    text = run("doctor", str(tmp_path)).stdout
    assert f"; {exact['words']}\n" in text
    assert "in float64: the structure is not what was found" in exact["words"]


def test_what_mixes_tokens_beside_the_attention_is_named(tmp_path):
    small_model("falcon_h1").save_pretrained(tmp_path)
    assert "layers of attention + state space: 0, 1, 2\n" in run("doctor", str(tmp_path)).stdout


def test_an_adapter_is_examined_with_its_model(tmp_path):
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "poet", base, LLAMA["lora"])
    found = report(str(base), "--adapter", str(adapter))["model"]
    assert found["adapter"] == "poet"
    assert found["verdicts"]["activations"]["status"] == "verified"
    assert found["parameters"] > report(str(base))["model"]["parameters"]


def test_the_rules_by_which_a_model_writes_are_told(tmp_path):
    model = save_model(tmp_path)
    model.generation_config.repetition_penalty = 1.3
    model.generation_config.num_beams = 4
    model.save_pretrained(tmp_path)
    found = report(str(tmp_path))["model"]["generation"]
    assert found["applied"] == ["repetition_penalty 1.3"]
    assert [rule.partition(":")[0] for rule in found["ignored"]] == ["num_beams 4"]
    text = run("doctor", str(tmp_path)).stdout
    assert "repetition_penalty 1.3" in text
    assert "a beam search weighs whole texts" in text


def test_a_foreign_distribution_of_the_name_is_told(tmp_path, monkeypatch):
    home = tmp_path / "site-packages"
    for name in ("llmscope_tui-0.2.0.dist-info", "llmscope-0.1.1.dist-info"):
        (home / name).mkdir(parents=True)
    monkeypatch.setattr("sys.path", [*sys.path, str(home)])
    entries = [entry for entry in report()["missing"] if "llmscope" in entry["try"]]
    assert [(entry["what"], entry["try"]) for entry in entries] == [
        (
            "llmscope and llmscope-tui are installed together, and each overwrites files of the "
            "other (llmscope is another project)",
            "pip uninstall llmscope llmscope-tui, then install llmscope-tui again",
        )
    ]
