"""What `nvidia-smi` printed on machines of others, and a program that prints it again.

Names, sizes and versions are as users of public trackers pasted them; lines that they left out have
the form that the driver gives them.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answers:
    """The answers of a machine: text and exit code. None: it never answers."""

    gpus: tuple[str, int] | None = ("", 0)
    old: tuple[str, int] | None = ("", 0)
    apps: tuple[str, int] | None = ("", 0)
    table: tuple[str, int] | None = ("", 0)
    listed: tuple[str, int] | None = ("", 0)


def table(driver, cuda, *, nothing=True):
    """The first line of the overview, and the last."""
    line = f"| NVIDIA-SMI {driver}      Driver Version: {driver}      CUDA Version: {cuda}     |\n"
    empty = "|  No running processes found                                              |\n"
    return line + (empty if nothing else "")


H100 = Answers(
    gpus=(
        "0, GPU-5b1e6f60-9b0d-2f6a-1c55-0a4f2d3c7e11, 81559, 1, 81037, 550.54.15, 9.0, Disabled, "
        "NVIDIA H100 80GB HBM3\n",
        0,
    ),
    table=(table("550.54.15", "12.4"), 0),
)
A100_MIG = Answers(
    gpus=(
        "0, GPU-7fdaf0a5-179b-f636-d15d-daf243e3ff16, 81920, [Insufficient Permissions], "
        "[Insufficient Permissions], 535.216.01, 8.0, Enabled, NVIDIA A100-SXM4-80GB\n",
        0,
    ),
    table=(table("535.216.01", "12.2"), 0),
    listed=(
        "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-7fdaf0a5-179b-f636-d15d-daf243e3ff16)\n"
        "  MIG 1g.10gb     Device  0: (UUID: MIG-feb88891-0321-5fef-9c87-d4af3b54259e)\n"
        "  MIG 1g.10gb     Device  1: (UUID: MIG-a25704ba-3a06-5299-a795-fd7cf4d13973)\n"
        "  MIG 1g.10gb     Device  2: (UUID: MIG-50f1c4c9-1508-5e8d-bb06-d08145b22e01)\n"
        "  MIG 2g.20gb     Device  3: (UUID: MIG-36c795f2-5cf7-55d6-af30-e535e79b7bb6)\n",
        0,
    ),
)
BUSY, QUIET = "GPU-75b9e402-8887-724e-f48d-78589f5626c8", "GPU-fe5dad5c-01e2-ba1f-8ffc-01b605814ee4"
TWO = Answers(
    gpus=(
        f"0, {BUSY}, 24576, 10567, 13690, 610.43.02, 8.6, [N/A], NVIDIA GeForce RTX 3090\n"
        f"1, {QUIET}, 24576, 4, 24253, 610.43.02, 8.6, [N/A], NVIDIA GeForce RTX 3090\n",
        0,
    ),
    apps=(
        f"{BUSY}, 44910, 1193, python\n"
        f"{BUSY}, 46456, [N/A], /opt/run, the second/python3\n"
        f"{BUSY}, 50391, 8167, python\n",
        0,
    ),
    table=(
        "| NVIDIA-SMI 610.43.02              KMD Version: 610.43.02     CUDA UMD Version: 13.3 |\n",
        0,
    ),
)
OLD = Answers(
    gpus=('Field "compute_cap" is not a valid field to query.\n\n', 2),
    old=(
        "0, GPU-11111111-2222-3333-4444-555555555555, 11439, 1768, 9671, 384.66, Tesla K80\n",
        0,
    ),
    apps=("", 0),
    table=("| NVIDIA-SMI 384.66                 Driver Version: 384.66                    |\n", 0),
)
UNIFIED = Answers(  # a GPU that shares the machine's memory
    gpus=(
        "0, GPU-99999999-2222-3333-4444-555555555555, [N/A], [N/A], [N/A], 580.95.05, 12.1, "
        "[N/A], NVIDIA GB10\n",
        0,
    ),
    table=(table("580.95.05", "13.0"), 0),
)
FAILED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n\n"
)
BROKEN = Answers(*[(FAILED, 9)] * 5)
MISMATCH = Answers(
    *[
        (
            "Failed to initialize NVML: Driver/library version mismatch\n"
            "NVML library version: 535.161\n",
            18,
        )
    ]
    * 5
)
NO_DEVICES = Answers(*[("No devices were found\n", 6)] * 5)
SILENT = Answers(None, None, None, None, None)


def program(folder: Path, answers: Answers) -> Path:
    """Write a program that answers like the `nvidia-smi` of a machine, and return its path."""

    def answer(told: tuple[str, int] | None) -> str:
        if told is None:
            return "exec sleep 60"
        return f"printf %s {shlex.quote(told[0])}; exit {told[1]}"

    path = folder / "nvidia-smi"
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"*query-gpu*compute_cap*) {answer(answers.gpus)};;\n"
        f"*query-gpu*) {answer(answers.old)};;\n"
        f"*query-compute-apps*) {answer(answers.apps)};;\n"
        f"-L) {answer(answers.listed)};;\n"
        f"*) {answer(answers.table)};;\n"
        "esac\n"
    )
    path.chmod(0o755)
    assert sys.platform != "win32"
    return path
