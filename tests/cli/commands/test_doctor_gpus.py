"""`llmscope doctor` on machines with GPUs, which are pretended: what the driver and torch tell."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.cells import cell_len

from llmscope.models.loading import hardware, memory, nvidia_smi, token_memory
from tests.cli.running import fresh, run
from tests.models.checkpoints import save_model
from tests.models.loading import smi_answers as machines

PAGE = Path(__file__).parents[3] / "docs" / "gpu.md"
GIB = 2**30
MIB = 2**20


class Card(SimpleNamespace):
    """A GPU as torch tells of it: name, capability, free and total bytes, uuid."""


H100 = Card(
    name="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    free=81037 * MIB,
    total=81559 * MIB,
    uuid="5b1e6f60-9b0d-2f6a-1c55-0a4f2d3c7e11",
)
PART = Card(
    name="NVIDIA A100-SXM4-80GB MIG 1g.10gb",
    capability=(8, 0),
    free=9 * GIB,
    total=9.5 * GIB,
    uuid="feb88891-0321-5fef-9c87-d4af3b54259e",
)
BUSY, QUIET = (
    Card(
        name="NVIDIA GeForce RTX 3090",
        capability=(8, 6),
        free=free * MIB,
        total=24576 * MIB,
        uuid=uuid.removeprefix("GPU-"),
    )
    for free, uuid in ((13690, machines.BUSY), (24253, machines.QUIET))
)


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Pretend a machine: what nvidia-smi answers (None: it is not there), and torch's GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)

    def pretend(answers, *cards, cuda="12.6", hip=None):
        if answers is not None:
            machines.program(tmp_path, answers)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        for name, told in {
            "is_available": lambda: bool(cards),
            "device_count": lambda: len(cards),
            "get_device_name": lambda at: cards[at].name,
            "mem_get_info": lambda at: (cards[at].free, cards[at].total),
            "get_device_capability": lambda at: cards[at].capability,
            "get_device_properties": lambda at: SimpleNamespace(uuid=cards[at].uuid),
        }.items():
            monkeypatch.setattr(torch.cuda, name, told)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.version, "hip", hip)

    return pretend


def report():
    """The report in both forms."""
    result, text = run("doctor", "--json"), run("doctor")
    assert (result.exit_code, text.exit_code) == (0, 0), result.output + text.output
    return json.loads(result.stdout), text.stdout


def section(text, title):
    """The lines of a section of the report."""
    _, _, rest = text.partition(f"\n{title}")
    return rest.partition("\n\n")[0].splitlines()[1:]


def missing(found):
    return [entry["what"] for entry in found["missing"]]


def test_an_h100(pretend):
    pretend(machines.H100, H100)
    found, text = report()
    cpu, card = found["machine"]["devices"]
    assert (card["name"], card["kind"], card["gpu"]) == ("cuda:0", "NVIDIA H100 80GB HBM3", 0)
    assert (card["free"], card["total"]) == (81037 * MIB, 81559 * MIB)
    assert (card["capability"], card["tf32"]) == ("9.0", False)
    assert card["dtypes"] == dict.fromkeys(("float32", "bfloat16", "float16"), "native")
    assert cpu["dtypes"]["bfloat16"] == "slow"
    assert found["machine"]["auto"] == "cuda"
    assert (found["driver"]["version"], found["driver"]["cuda"]) == ("550.54.15", "12.4")
    assert found["driver"]["gpus"][0]["processes"] == []
    assert section(text, "gpus") == [
        "  driver  550.54.15, for CUDA up to 12.4",
        "  torch   built for CUDA 12.6",
        "  cuda:0  0 in nvidia-smi · compute capability 9.0 · MIG off",
        "          taken: 0.0 GB, by no process",
    ]
    assert "  cuda:0  native   native    native   off" in section(text, "dtypes")
    assert found["quantised"]["device"] == "cuda"
    methods = {one["name"]: one for one in found["quantised"]["methods"]}
    assert methods["FP8 of FBGEMM"]["hardware"] is True
    assert methods["FP8 of FBGEMM"]["hint"] == "pip install fbgemm-gpu"


def test_what_fits_leaves_the_room_that_loading_leaves(pretend, monkeypatch, tmp_path):
    pretend(machines.H100, H100)
    found, text = report()
    fits = found["machine"]["devices"][1]["fits"]
    assert list(fits) == ["float32", "bfloat16", "8 bit", "4 bit"]
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda at: (H100.free, H100.total))
    for dtype in (torch.float32, torch.bfloat16):
        most = fits[str(dtype).removeprefix("torch.")]
        for count, expected in ((most, True), (most + 2, False)):
            sizes = (count, dtype.itemsize)
            monkeypatch.setattr(memory, "_parameters", lambda folder, sizes=sizes: sizes)
            assert memory.fits(tmp_path, dtype, device) is expected
    assert fits["8 bit"] == pytest.approx(2 * fits["bfloat16"], abs=2)
    assert fits["4 bit"] * 4.5 / 8 == pytest.approx(0.9 * H100.free, rel=1e-6)
    row = section(text, "largest model")[-1].split()
    assert row == ["cuda:0", "19", "B", "38", "B", "76", "B", "136", "B"]


def test_a_part_of_an_a100(pretend):
    pretend(machines.A100_MIG, PART)
    found, text = report()
    assert found["machine"]["devices"][1]["gpu"] == 0  # found by the MIG device's own UUID
    assert found["driver"]["gpus"][0]["mig"] is True
    assert len(found["driver"]["gpus"][0]["mig_devices"]) == 4
    assert found["driver"]["gpus"][0]["processes"] is None
    assert section(text, "gpus")[2:] == [
        "  cuda:0  0 in nvidia-smi · compute capability 8.0 · MIG on",
        "          MIG devices: 3 × 1g.10gb, 1 × 2g.20gb",
        "          taken: untold bytes; by which processes cannot be seen from here",
    ]
    methods = {one["name"]: one for one in found["quantised"]["methods"]}
    assert methods["FP8 in blocks"]["runs"] == "unpacked"
    assert "8.9, and this GPU has 8.0" in methods["FP8 in blocks"]["why"]


def test_two_cards_in_another_order_than_torchs(pretend):
    pretend(machines.TWO, QUIET, BUSY)
    found, text = report()
    assert [one["gpu"] for one in found["machine"]["devices"]] == [None, 1, 0]
    busy = found["driver"]["gpus"][0]["processes"]
    assert [(one["pid"], one["bytes"]) for one in busy] == [
        (44910, 1193 * MIB),
        (46456, None),
        (50391, 8167 * MIB),
    ]
    lines = section(text, "gpus")
    assert lines[2:6] == [
        "  cuda:1  0 in nvidia-smi · compute capability 8.6",
        "          taken: 11.1 GB",
        "            8.6 GB by python (process 50391)",
        "            1.3 GB by python (process 44910)",
    ]
    whole = section(text, "largest model")[-1].split()
    assert whole[:2] == ["all", "GPUs"]
    both = sum(one["fits"]["float32"] for one in found["machine"]["devices"][1:])
    assert whole[2:4] == [f"{both / 1e9:.1f}", "B"]


def test_memory_that_no_listed_process_takes_is_told(pretend):
    known = machines.TWO
    apps = (f"{machines.BUSY}, 44910, 1193, python\n", 0)
    pretend(machines.Answers(gpus=known.gpus, apps=apps, table=known.table), BUSY)
    _, text = report()
    assert "            9.8 GB by processes that cannot be seen from here" in section(text, "gpus")


def test_the_page_about_gpus_shows_what_doctor_says(pretend):
    known = machines.TWO
    apps = f"{machines.BUSY}, 50391, 8167, python\n{machines.BUSY}, 44910, 1193, python\n"
    pretend(machines.Answers(gpus=known.gpus, apps=(apps, 0), table=known.table), BUSY, QUIET)
    lines = section(report()[1], "gpus")
    assert "\n".join(["gpus", *lines]) + "\n" in PAGE.read_text("utf-8")


def test_only_the_largest_of_many_processes_are_listed(pretend):
    apps = "".join(f"{machines.BUSY}, {at}, {at}, python\n" for at in range(100, 120))
    known = machines.TWO
    pretend(machines.Answers(gpus=known.gpus, apps=(apps, 0), table=known.table), BUSY)
    found, text = report()
    assert len(found["driver"]["gpus"][0]["processes"]) == 20
    lines = section(text, "gpus")
    assert "(process 119)" in lines[4]
    assert "            and 12 processes more" in lines


def test_foreign_names_are_harmless(pretend):
    gpus = (f"0, {machines.BUSY}, 24576, 10567, 13690, 1.2, 8.6, [N/A], \x1b[31mRTX\u202e\n", 0)
    apps = (f"{machines.BUSY}, 1, 2, \x1b]0;title\x07python[/nope]\n", 0)
    pretend(machines.Answers(gpus=gpus, apps=apps))
    found, text = report()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\x1b]0;title\x07python[/nope]" in text
    assert found["driver"]["gpus"][0]["processes"][0]["name"].isprintable()


@pytest.mark.parametrize(
    ("answers", "cuda", "visible", "what"),
    [
        (machines.BROKEN, "12.6", None, "it couldn't communicate with the NVIDIA driver"),
        (machines.MISMATCH, "12.6", None, "Driver/library version mismatch"),
        (machines.H100, None, None, "this torch was built without CUDA"),
        (machines.H100, "12.6", None, "the driver supports CUDA up to 12.4, and torch is built"),
        (machines.H100, "12.1", "", "CUDA_VISIBLE_DEVICES= hides the GPUs from torch"),
        (machines.H100, "12.1", None, "the driver has GPUs that torch cannot use"),
    ],
)
def test_why_torch_sees_no_gpu(pretend, monkeypatch, answers, cuda, visible, what):
    pretend(answers, cuda=cuda)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found, text = report()
    (problem,) = [one for one in missing(found) if what in one]
    assert problem in text
    assert "  gpu      torch finds none here: models run on the CPU" in text
    assert found["machine"]["auto"] == "cpu"


def test_a_driver_that_hangs_is_given_up(pretend, monkeypatch):
    monkeypatch.setattr(nvidia_smi.ask, "__defaults__", (0.2,))
    pretend(machines.SILENT)
    found, text = report()
    assert "did not answer within 0.2 s" in text
    assert found["driver"]["gpus"] == []


def test_a_machine_without_a_gpu_has_one_line_about_them(pretend, monkeypatch):
    monkeypatch.setattr(nvidia_smi, "which", lambda name: None)
    monkeypatch.setattr(nvidia_smi, "WSL", "")
    pretend(None, cuda=None)
    found, text = report()
    assert found["driver"] is None
    assert "\ngpus\n" not in text
    assert text.count("torch finds none here") == 1
    (cpu,) = found["machine"]["devices"]
    assert cpu["fits"]["bfloat16"] == int(0.9 * cpu["free"]) * 8 // 16
    assert section(text, "largest model")[-1].split()[0] == "cpu"


def test_a_gpu_of_amd(pretend, monkeypatch):
    monkeypatch.setattr(hardware, "_try_dtypes", lambda device: {"float32": "native"})
    card = Card(name="AMD Instinct MI300X", capability=(9, 4), free=GIB, total=GIB, uuid="")
    monkeypatch.setattr(nvidia_smi, "which", lambda name: None)
    pretend(None, card, cuda=None, hip="6.4")
    found, text = report()
    told = found["machine"]["devices"][1]
    assert (told["kind"], told["capability"], told["tf32"]) == ("AMD Instinct MI300X", None, None)
    assert section(text, "gpus") == ["  torch  built for ROCm 6.4"]
    assert {one["hardware"] for one in found["quantised"]["methods"]} == {None}
    assert not any("NVIDIA" in what for what in missing(found))


def test_a_gpu_of_apple(pretend, monkeypatch):
    monkeypatch.setattr(nvidia_smi, "which", lambda name: None)
    pretend(None, cuda=None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: GIB)
    found, text = report()
    _, told = found["machine"]["devices"]
    assert (told["name"], told["total"], told["free"]) == ("mps", GIB, None)
    assert told["fits"]["bfloat16"] == int(0.9 * GIB) // 2
    assert told["dtypes"] == {}  # this torch can try none on it
    assert found["quantised"]["device"] == found["machine"]["auto"] == "mps"
    assert "torch finds none" not in text
    assert "  mps     –        –         –        –" in section(text, "dtypes")


def test_a_gpu_that_another_process_has_to_itself(pretend, monkeypatch):
    pretend(machines.H100, H100)

    def fail(at):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    found, text = report()
    assert found["machine"]["devices"][1]["note"].startswith("CUDA error")
    assert found["machine"]["devices"][1]["fits"] == {}
    assert "devices are busy" in text


@pytest.mark.parametrize(("setting", "on"), [({}, False), ({"NVIDIA_TF32_OVERRIDE": "1"}, True)])
def test_tf32(pretend, monkeypatch, setting, on):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    pretend(machines.H100, H100)
    assert report()[0]["machine"]["devices"][1]["tf32"] is on


def test_tf32_that_the_program_has_set(pretend):
    pretend(machines.H100, H100)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert report()[0]["machine"]["devices"][1]["tf32"] is True
    finally:
        torch.set_float32_matmul_precision(before)
    old = Card(name="Tesla V100", capability=(7, 0), free=GIB, total=GIB, uuid="")
    pretend(None, old)
    told = report()[0]["machine"]["devices"][1]
    assert (told["tf32"], told["dtypes"]["bfloat16"]) == (None, "emulated")


def test_the_driver_is_told_where_torch_cannot_be_imported(tmp_path):
    broken = tmp_path / "lib" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libcudart.so.12: no such file')")
    machines.program(tmp_path, machines.TWO)
    path = f"{tmp_path}:{os.environ['PATH']}"
    result = fresh("doctor", PYTHONPATH=f"{tmp_path / 'lib'}:{os.getcwd()}", PATH=path)
    assert result.returncode == 0
    assert "driver  610.43.02, for CUDA up to 13.3" in result.stdout
    assert "gpu 0   NVIDIA GeForce RTX 3090 · compute capability 8.6" in result.stdout
    assert "8.6 GB by python (process 50391)" in result.stdout


def test_every_line_about_gpus_has_room_in_80_columns(pretend):
    for answers, cards in (
        (machines.H100, [H100]),
        (machines.A100_MIG, [PART]),
        (machines.TWO, [BUSY, QUIET]),
    ):
        pretend(answers, *cards)
        _, text = report()
        for title in ("machine", "gpus", "dtypes", "largest model", "quantised weights"):
            assert max(map(cell_len, section(text, title))) <= 80


def test_a_model_has_its_memory_told(tmp_path, monkeypatch):
    monkeypatch.setattr(token_memory, "available", lambda device: GIB)
    model = save_model(tmp_path)
    result = run("doctor", str(tmp_path), "--json", "--memory", "1MB")
    found = json.loads(result.stdout)["model"]["memory"]
    assert found["weights"] == sum(4 * one.numel() for one in model.parameters())
    assert (found["device"], found["limit"]) == ("cpu", MIB)
    assert found["context"] == model.config.max_position_embeddings
    assert found["tokens"] > found["context"]
    text = run("doctor", str(tmp_path), "--memory", "1MB").stdout
    lines = section(text, "memory on cpu, by its config")
    assert f"{found['token']['cache'] / 1e3:.3g} kB of keys and values" in lines[1]
    assert "of all tokens at most 1.05 MB (--memory)" in lines[2]
    assert f"memory has room for {found['tokens']:,}" in lines[3]


def test_a_model_that_leaves_no_room_is_told_before_it_is_loaded(tmp_path, monkeypatch):
    save_model(tmp_path)
    monkeypatch.setattr(token_memory, "available", lambda device: 1000)
    text = run("doctor", str(tmp_path)).stdout
    assert "no token: the weights leave no room to compute (try: --device spread)" in text
