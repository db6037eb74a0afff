"""Runs the checks of `transfers_alone.py` in a process of their own.

The stand-in for a GPU registers a device with PyTorch, which other tests of
this process would find.
"""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("transfers_alone.py")


def run(marker):
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", marker, str(CHECKS)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=CHECKS.parents[2])
    assert found.returncode == 0, found.stdout[-4000:]


@pytest.mark.slow
def test_a_letter_moves_little_between_devices():
    run("not slow")


@pytest.mark.slow
def test_each_figure_is_that_of_the_cpu():
    run("slow")
