"""torchrun with two processes of this machine: the numbers of the whole model, or one line."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from llmscope.errors import ScopeError
from llmscope.models.tensor_parallel.plan import EXPERTS, split_plan
from tests.cli.running import record
from tests.ending import ended
from tests.families import FAMILIES, small_model
from tests.models.checkpoints import edit_config
from tests.test_terminal import Terminal

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="torchrun has no gloo here"),
    pytest.mark.xdist_group("torchrun"),  # two processes more at a time are enough
]

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
BOUND = 1e-5
"""Largest difference, as a share of the largest number: sums are in another order."""


def torchrun(*arguments, limit=280):
    return subprocess.run(
        [sys.executable, *TORCHRUN, *map(str, arguments)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=limit,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )


def said(process):
    """The lines that llmscope said, without those of torchrun."""
    return [line for line in process.stderr.splitlines() if line.startswith(("note: ", "error: "))]


def against_whole(families, tmp_path):
    for family in families:
        small_model(family).save_pretrained(tmp_path / "models" / family)
    out = tmp_path / "found.json"
    ran = torchrun("tests.models.tensor_parallel.against_whole", tmp_path / "models", out)
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(out.read_text())


def checked(found, family):
    split, more = found.pop("split"), found.pop("no gradients", "")
    model = small_model(family)
    # From transformers 5.25 on, plans leave the experts whole.
    share = 0.4 if splits_experts(family) or not has_experts(model) else 0.05
    assert split > share * sum(one.numel() for one in model.parameters()) or more
    assert {"resid_post", "logits", "given up", "reuse", "batch"} <= set(found)
    assert ("experts" in more) == ("gradients" not in found)
    assert max(found.values()) <= BOUND, found


@pytest.mark.slow
def test_each_number_is_that_of_the_whole_model(tmp_path):
    found = against_whole(["llama", "gemma2", "mixtral"], tmp_path)
    for family, own in found.items():
        assert ("gradients" in own) != splits_experts(family)
        assert {"pattern", "ablation"} <= set(own)
        checked(own, family)


def splits_experts(family):
    return EXPERTS in split_plan(small_model(family), family).values()


def has_experts(model):
    return any(name.endswith("experts") for name, _ in model.named_modules())


def has_plan(family):
    try:
        return bool(split_plan(small_model(family), family))
    except ScopeError:
        return False


@pytest.mark.slow
def test_each_family_with_a_plan_is_split(tmp_path):
    families = [family for family in FAMILIES if has_plan(family)]
    assert len(families) >= 25
    found = against_whole(families, tmp_path)
    assert list(found) == sorted(families)
    for family, own in found.items():
        checked(own, family)


@pytest.mark.slow
def test_a_snapshot_is_that_of_one_process(tmp_path):
    small_model("qwen3").save_pretrained(tmp_path / "m")
    lenses = ("next-token", "attention", "logit-lens", "attribution", "saliency", "heads", "mlp")
    asked = [str(tmp_path / "m"), "--ids", "3,5,7,9,11", "--format", "json"]
    asked += [word for name in lenses for word in ("--lens", name)]
    two = torchrun("llmscope", "snapshot", *asked)
    assert "note: its weights are split over 2 processes" in said(two), two.stderr
    ours, theirs = (each["figures"] for each in (json.loads(two.stdout), record(*asked)))
    assert len(ours) == len(lenses)
    for one, other in zip(ours, theirs, strict=True):
        assert one["verdict"]["status"] == other["verdict"]["status"] == "verified"
        assert one["axes"] == other["axes"]
        assert flat(one["values"]) == pytest.approx(flat(other["values"]), abs=1e-5, nan_ok=True)


def flat(values):
    if not isinstance(values, list):
        return [float("nan") if values is None else values]
    return [one for row in values for one in flat(row)]


@pytest.mark.slow
def test_a_model_without_a_plan_costs_one_line(tmp_path):
    small_model("gpt2").save_pretrained(tmp_path / "m")
    ran = torchrun("llmscope", "snapshot", tmp_path / "m", "--ids", "3,5", "--lens", "next-token")
    assert ran.returncode
    [line] = said(ran)
    assert "no tensor-parallel plan for the layers of gpt2" in line
    assert "without torchrun" in line


@pytest.mark.slow
def test_another_checkpoint_of_it_is_split_too():
    asked = ["builtin:town", "--adapter", "builtin:town-sft", "--prompt", "The", "--lens", "stages"]
    asked += ["--format", "json", "--mode"]
    figures = {}
    for mode in ("weights", "lens"):
        ran = torchrun("llmscope", "snapshot", *asked, mode)
        [figures[mode]] = json.loads(ran.stdout)["figures"]
    assert "split over processes" in figures["weights"]["verdict"]["reason"]
    [own] = record(*asked, "lens")["figures"]
    assert flat(figures["lens"]["values"]) == pytest.approx(flat(own["values"]), abs=1e-5)
    assert max(flat(own["values"])) > 0.01


OWN = """
import os
from transformers import LlamaForCausalLM
class Own(LlamaForCausalLM):
    def __init__(self, config):
        if os.environ["RANK"] == "1":
            raise RuntimeError("the third day")
        super().__init__(config)
"""


@pytest.mark.slow
def test_a_process_that_cannot_load_its_shards_is_told(tmp_path):
    small_model("llama").save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "own.py").write_text(OWN)
    edit_config(tmp_path / "m", auto_map={"AutoModelForCausalLM": "own.Own"})
    asked = ("--ids", "3,5", "--lens", "next-token", "--trust-remote-code")
    ran = torchrun("llmscope", "snapshot", tmp_path / "m", *asked)
    assert ran.returncode
    line = said(ran)[-1]
    assert "process 1 cannot load its share of the weights" in line
    assert "the third day" in line


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_the_screen_shows_it_and_all_processes_end_with_it(tmp_path, killed):
    command = [*TORCHRUN, "llmscope", "open", "builtin:town", "--prompt", "The"]
    terminal = Terminal(tmp_path, command=(sys.executable, command))
    try:
        terminal.wait("next token", "attention")
        family = psutil.Process(terminal.child.pid).children(recursive=True)
        assert len(family) >= 2
        if killed:
            next(one for one in family if one.environ().get("RANK") == "1").kill()
        assert bool(terminal.leave("" if killed else "\x11")) == killed  # ctrl+q
        until = time.monotonic() + 20
        while any(one.is_running() for one in family) and time.monotonic() < until:
            time.sleep(0.2)
        assert not [one for one in family if one.is_running()]
    finally:
        ended(terminal.child)
