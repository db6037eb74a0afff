"""Weights split over processes by torchrun, one a GPU: the numbers of the whole model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import torch

from tests.gpu.errors import bound
from tests.gpu.report import Section, Skipped
from tests.gpu.setting import Setting

FAMILIES = ("llama", "gemma2", "mixtral")
MOST = 4
"""Processes: the small models have four heads."""


def check(setting: Setting, section: Section) -> None:
    """Run `tests.models.tensor_parallel.against_whole` under torchrun, in float32."""
    count = min(torch.cuda.device_count(), MOST) if setting.cuda else 2
    if count < 2:
        raise Skipped("it needs several GPUs")
    models = setting.home / "split"
    for family in FAMILIES:
        (models / family).parent.mkdir(exist_ok=True)
        (models / family).symlink_to(setting.checkpoint(family).folder)
    out = setting.home / "split.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(count), "-m", "tests.models.tensor_parallel.against_whole"]
    ran = subprocess.run(
        [*command, str(models), str(out)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"torchrun failed: {ran.stderr[-300:]}")
    for family, found in json.loads(out.read_text()).items():
        section.tell(f"{family}: parameters that are split over {count} processes", found["split"])
        for what, share in found.items():
            if isinstance(share, float):
                section.at_most(f"{family}: {what}", share, bound("float32", layers=3))
