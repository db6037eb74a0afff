"""Limits of control groups, as a kernel writes them, in folders of our own."""

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmscope.models.loading import hardware, memory
from llmscope.models.loading.container_memory import Allowance, allowance

GIB = 2**30
MACHINE = 512 * GIB
UNLIMITED_V1 = 9223372036854771712


def group(folder, limit, taken, cache=0, version=2):
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{taken}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cache}\nactive_file 7\n")


def found(tmp_path, line, machine=MACHINE):
    own = tmp_path / "own"
    own.write_text(line)
    return allowance(machine, tmp_path / "cgroup", own)


def test_a_limit_and_the_file_cache_that_can_be_dropped(tmp_path):
    group(tmp_path / "cgroup", 16 * GIB, 5 * GIB, cache=2 * GIB)
    assert found(tmp_path, "0::/\n") == Allowance(16 * GIB, 13 * GIB)


def test_the_tightest_of_the_groups_around_it(tmp_path):
    job = tmp_path / "cgroup" / "slurm" / "job_7"
    group(job / "step", "max", 1 * GIB)
    group(job, 32 * GIB, 30 * GIB)
    group(tmp_path / "cgroup" / "slurm", 64 * GIB, 40 * GIB)
    assert found(tmp_path, "0::/slurm/job_7/step\n") == Allowance(32 * GIB, 2 * GIB)


def test_the_path_of_the_host_is_not_there_in_a_container(tmp_path):
    group(tmp_path / "cgroup", 8 * GIB, GIB)
    assert found(tmp_path, "0::/kubepods/pod1/abc\n") == Allowance(8 * GIB, 7 * GIB)


def test_the_first_version_of_groups(tmp_path):
    group(tmp_path / "cgroup" / "memory" / "docker" / "x", 4 * GIB, 3 * GIB, GIB, version=1)
    group(tmp_path / "cgroup" / "memory", UNLIMITED_V1, 3 * GIB, version=1)
    lines = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n"
    assert found(tmp_path, lines) == Allowance(4 * GIB, 2 * GIB)


@pytest.mark.parametrize("limit", ["max", UNLIMITED_V1, MACHINE, "", "many", "-"])
def test_no_limit(tmp_path, limit):
    group(tmp_path / "cgroup", limit, GIB)
    assert found(tmp_path, "0::/\n") is None


def test_more_taken_than_allowed_leaves_nothing(tmp_path):
    group(tmp_path / "cgroup", GIB, 2 * GIB)
    assert found(tmp_path, "0::/\n") == Allowance(GIB, 0)


@given(st.text())
def test_any_text_is_no_limit_or_one(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("groups")
    group(folder / "cgroup", GIB, 0)
    own = folder / "own"
    own.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert allowance(MACHINE, folder / "cgroup", own) in (None, Allowance(GIB, GIB))


def test_a_system_without_groups(tmp_path):
    assert allowance(MACHINE, tmp_path / "no", tmp_path / "none") is None


def test_what_is_free_and_what_doctor_tells_stay_within_it(monkeypatch):
    machine = psutil.virtual_memory()
    within = Allowance(machine.total // 2, machine.available // 3)
    for module in (memory, hardware):
        monkeypatch.setattr(module, "allowance", lambda _: within)
    assert memory.available(torch.device("cpu")) == within.free
    cpu = hardware.hardware().devices[0]
    assert (cpu.total, cpu.free) == (within.total, within.free)
