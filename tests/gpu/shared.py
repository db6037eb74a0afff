"""A GPU that another process uses too, a part of one (MIG), and several GPUs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch

from tests.gpu import offload
from tests.gpu.errors import bound, largest
from tests.gpu.memory import LARGE, MIB
from tests.gpu.report import Section, first_line
from tests.gpu.setting import Setting, child_environment
from tests.record.by_hand import A

HOLD = """
import sys, torch
left = int(sys.argv[1])
torch.zeros(1, device="cuda")
held = torch.empty(max(torch.cuda.mem_get_info()[0] - left, 0), dtype=torch.uint8, device="cuda")
print(held.nbytes, flush=True)
sys.stdin.read()
"""
"""The other process: it takes all memory except what it is told to leave."""
LEFT = 600 * MIB
"""Bytes that it leaves: less than the weights of the model take."""


def check(setting: Setting, section: Section) -> None:
    """Share the GPU with another process, tell whether it is a part of one, spread over several."""
    setting.need_cuda("a second process on the same GPU")
    _beside_another(setting, section)
    _parts(section)
    if torch.cuda.device_count() < 2:
        section.skip("spread over several GPUs", "there is only one")
    else:
        _several(setting, section)


def _beside_another(setting: Setting, section: Section) -> None:
    small = setting.checkpoint("llama")
    large = setting.checkpoint("llama", "llama-large", **LARGE)
    plain = setting.plain(small, "float32")
    limit = bound("float32", len(plain.layers))
    setting.free()
    with _held(LEFT) as taken:
        section.tell("GiB that another process holds", taken / (1 << 30))
        found = setting.scope(small.folder, "float32").record(A).cache()["logits"]
        error = largest(found, plain.run(A))
        section.at_most("a small model beside it: logits", error, limit)
        scope = setting.scope(large.folder, "float32", device="auto")
        told = "; ".join(scope.info().notices)
        section.true("a model that no longer fits", told, "spread over" in told)
        recording = scope.record(A)
    own = setting.plain(large, "float32")
    limit = bound("float32", len(own.layers))
    error = largest(recording.logits, own.run(A)[-1])
    section.at_most("a model that no longer fits: last logits", error, limit)


@contextmanager
def _held(left: int) -> Iterator[int]:
    """Let another process hold the memory of the GPU within; gives the bytes."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(left)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert child.stdout is not None
    try:
        yield int(child.stdout.readline())
    finally:
        child.kill()
        child.communicate()


def _parts(section: Section) -> None:
    """Tell whether the GPU is a part of one."""
    try:
        ran = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError as error:
        section.skip("MIG", first_line(error))
        return
    parts = [line.strip() for line in ran.stdout.splitlines() if "MIG" in line]
    section.tell("MIG", parts[0] if parts else "off")


def _several(setting: Setting, section: Section) -> None:
    """Spread a model over two GPUs, with room for a part of it on each."""
    from llmscope.models.loading import dispatch

    checkpoint = setting.checkpoint("llama")
    size = sum(file.stat().st_size for file in checkpoint.folder.glob("*.safetensors"))
    rooms = {0: size * 2 // 3, 1: size * 2 // 3}
    with patch.object(dispatch, "MAX_MEMORY", rooms):
        scope = setting.scope(checkpoint.folder, "float32", device="spread")
    homes = {str(weight.device) for weight in scope.model.parameters()}
    section.true("spread over", ", ".join(sorted(homes)), len(homes) > 1)
    plain = setting.plain(checkpoint, "float32")
    found = scope.record(A).cache()["logits"]
    limit = bound("float32", len(plain.layers))
    section.at_most("spread over several GPUs: logits", largest(found, plain.run(A)), limit)
    offload.compare(setting, section, checkpoint, "float32")
