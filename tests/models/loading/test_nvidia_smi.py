"""What NVIDIA's driver tells: as it printed it on machines of others, and as it never should."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.models.loading import nvidia_smi
from llmscope.models.loading.nvidia_smi import (
    APPS,
    FIELDS,
    MIB,
    NEWER,
    Gpu,
    GpuProcess,
    MigDevice,
    SmiCalls,
    read_gpus,
    read_mig_devices,
    read_processes,
    with_processes,
)
from tests.models.loading import smi_answers as machines

pytestmark = pytest.mark.fast
ALL = (*FIELDS, *NEWER, "name")


def asked(folder, answers, seconds=10.0):
    return SmiCalls(str(machines.program(folder, answers)), seconds).answer()


def test_an_idle_h100(tmp_path):
    driver = asked(tmp_path, machines.H100)
    assert (driver.version, driver.cuda, driver.error) == ("550.54.15", "12.4", "")
    (gpu,) = driver.gpus
    assert (gpu.index, gpu.name, gpu.capability) == (0, "NVIDIA H100 80GB HBM3", "9.0")
    assert (gpu.total, gpu.used, gpu.free) == (81559 * MIB, 1 * MIB, 81037 * MIB)
    assert gpu.mig is False
    assert gpu.processes == ()


def test_an_a100_with_mig_devices(tmp_path):
    driver = asked(tmp_path, machines.A100_MIG)
    (gpu,) = driver.gpus
    assert gpu.mig is True
    assert (gpu.total, gpu.used, gpu.free) == (81920 * MIB, None, None)
    assert gpu.mig_devices[0] == MigDevice(0, "1g.10gb", "MIG-feb88891-0321-5fef-9c87-d4af3b54259e")
    assert [device.profile for device in gpu.mig_devices] == ["1g.10gb"] * 3 + ["2g.20gb"]
    assert gpu.processes is None  # what is used is not told, so an empty list tells nothing


def test_two_cards_one_of_them_busy(tmp_path):
    driver = asked(tmp_path, machines.TWO)
    assert (driver.version, driver.cuda) == ("610.43.02", "13.3")
    busy, quiet = driver.gpus
    assert busy.mig is quiet.mig is None
    assert busy.processes == (
        GpuProcess(44910, "python", 1193 * MIB),
        GpuProcess(46456, "/opt/run, the second/python3", None),
        GpuProcess(50391, "python", 8167 * MIB),
    )
    assert quiet.processes == ()


def test_an_old_driver_is_asked_again_for_what_it_knows(tmp_path):
    driver = asked(tmp_path, machines.OLD)
    assert (driver.version, driver.cuda, driver.error) == ("384.66", None, "")
    (gpu,) = driver.gpus
    assert (gpu.name, gpu.total, gpu.capability) == ("Tesla K80", 11439 * MIB, None)
    assert gpu.processes is None  # 1,768 MiB are taken: an empty list hides a process


def test_a_gpu_without_memory_of_its_own(tmp_path):
    (gpu,) = asked(tmp_path, machines.UNIFIED).gpus
    assert (gpu.total, gpu.used, gpu.free, gpu.capability) == (None, None, None, "12.1")
    assert gpu.processes is None


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (machines.BROKEN, "it couldn't communicate with the NVIDIA driver"),
        (machines.MISMATCH, "Driver/library version mismatch NVML library version: 535.161"),
        (machines.NO_DEVICES, "No devices were found"),
        (machines.Answers(), "tells of no GPU"),
        (machines.Answers(gpus=("\x1b[2Jgarbage\n, ,\n", 0)), "tells of no GPU"),
        (machines.Answers(gpus=("", 1)), "nvidia-smi ended with 1"),
    ],
)
def test_a_driver_that_does_not_work(tmp_path, answers, told):
    driver = asked(tmp_path, answers)
    assert told in driver.error
    assert "\n" not in driver.error
    assert (driver.version, driver.gpus) == (None, ())


def test_it_is_not_waited_for_longer_than_that(tmp_path):
    begun = time.monotonic()
    driver = asked(tmp_path, machines.SILENT, 0.3)
    assert driver.error == "nvidia-smi did not answer within 0.3 s"
    assert time.monotonic() - begun < 5


def test_one_answer_that_never_comes_costs_only_that(tmp_path):
    known = machines.H100
    late = machines.Answers(gpus=known.gpus, apps=None, table=None)
    driver = asked(tmp_path, late, 0.5)
    assert driver.version == "550.54.15"
    assert driver.cuda is None
    assert driver.gpus[0].processes is None


def test_a_machine_without_it_and_one_where_it_cannot_be_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvidia_smi, "WSL", str(tmp_path / "nowhere"))
    assert nvidia_smi.ask().answer() is None
    (tmp_path / "nvidia-smi").write_text("not a program")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert "cannot be run" in nvidia_smi.ask().answer().error


def test_processes_of_mig_devices_belong_to_their_gpu():
    gpu = Gpu(0, "GPU-a", "A100", mig=True, mig_devices=(MigDevice(0, "1g.5gb", "MIG-b"),))
    one, other = GpuProcess(1, "a", 1), GpuProcess(2, "b", None)
    (told,) = with_processes((gpu,), {"GPU-a": (one,), "MIG-b": (other,)}, none_running=False)
    assert told.processes == (one, other)


HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from(list(", \n\r\t[]GPU-MIG0123456789.\x1b\x07\u202e\u2028\x00(:)")),
        st.characters(),
    ),
    max_size=200,
)


@given(HOSTILE)
def test_no_text_breaks_the_readers(text):
    for answer in (text, f"0, GPU-a, {text}", f"GPU-a, 1, 2, {text}", f"1, GPU-b,1,2,3,4,{text}"):
        gpus, version = read_gpus(answer, ALL)
        processes = [one for some in read_processes(answer).values() for one in some]
        devices = [one for some in read_mig_devices(answer).values() for one in some]
        shown = [gpu.name + gpu.uuid + str(gpu.capability) for gpu in gpus]
        shown += [one.name for one in processes] + [one.profile + one.uuid for one in devices]
        assert all(one.isprintable() for one in (*shown, str(version)))
        assert all(len(one) < 400 for one in shown)


@given(st.lists(st.tuples(st.integers(0, 10**12), HOSTILE, st.integers(0, 10**9)), max_size=5))
def test_processes_are_read_back_whatever_their_names(processes):
    lines = [f"GPU-a, {pid}, {size}, {name}" for pid, name, size in processes]
    found = read_processes("\n".join(" ".join(line.splitlines()) for line in lines))
    sizes = [(one.pid, one.bytes) for one in found.get("GPU-a", ())]
    assert sizes == [(pid, size * MIB) for pid, _, size in processes if len(str(pid)) < 13]


def test_the_fields_that_are_asked_for_exist():
    """The names are those of `nvidia-smi --help-query-gpu`, the last one free text."""
    assert APPS[-1] == "process_name"
    assert ALL[-1] == "name"
