"""Mutate files and judge what the commands make of them."""

from __future__ import annotations

import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.folders import decoys
from tests.fuzz.kinds import KINDS

MOST_SECONDS = 10.0
"""CPU seconds of one command."""
MOST_MEMORY = 3 << 29
"""Bytes that one command may add to its process: 1.5 GB."""
MOST_LINE = 1000
"""Characters of an error line."""
PATIENCE = 90.0
"""Seconds asleep after which a process is given up as well; it may wait for a busy machine."""
LOOK = 0.5
"""Seconds between two looks at a process that has not answered."""
CALLS = 250
"""Calls after which a new process takes over: what libraries keep of each adds up to its bound."""
COMMAND = [sys.executable, "-m", "tests.fuzz.worker"]
"""Starts a worker process."""
_BARE = re.compile(r"^error: \w*(Error|Exception|Exit|Interrupt|Warning|StopIteration)\b")


@dataclass(frozen=True)
class Finding:
    """A mutated file that cost more than a line: `seed` makes it again."""

    kind: str
    seed: int
    command: str
    reason: str
    text: str


class Worker:
    """A process that runs commands; a new one takes its place when it died or was given up."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._calls = 0

    def run(self, commands: list[list[str]]) -> list[dict[str, Any]] | str:
        """Return the answers for some commands; a sentence when they hung or killed the process."""
        self._calls += 1
        if self._calls % CALLS == 0:
            self.close()
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(commands).encode() + b"\n")
        process.stdin.flush()
        cpu, asleep = _cpu(process.pid), 0.0
        while not select.select([process.stdout], [], [], LOOK)[0]:
            used = _cpu(process.pid) - cpu
            asleep += 0.0 if _runnable(process.pid) else LOOK
            if used > 2 * MOST_SECONDS or asleep > PATIENCE:
                self.close()
                return f"hung: gave up after {used:.0f} s of CPU, {asleep:.0f} s asleep"
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._process = None
            return f"died with {code}"
        found: list[dict[str, Any]] = json.loads(line)
        return found

    def _started(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "HF_HUB_OFFLINE": "0"}
        environment["HF_ENDPOINT"] = "http://127.0.0.1:9"  # a port that no server listens on
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, env=environment)
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _cpu(pid: int) -> float:
    """CPU seconds of a process so far; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _runnable(pid: int) -> bool:
    """Return whether a thread of a process runs, or waits for a core."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # a thread that has just ended
            if stat.read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


def judge(answer: dict[str, Any]) -> str:
    """Return what is wrong with the outcome of a command; empty if nothing is."""
    if answer["seconds"] > MOST_SECONDS:
        return f"took {answer['seconds']:.1f} s"
    if answer["memory"] > MOST_MEMORY:
        return f"took {answer['memory'] / 2**30:.1f} GiB"
    text = answer["error"]
    if answer["code"] == "raised" or "Traceback" in text or "panicked at" in text:
        return "raised"
    differs = answer["command"] == "diff" and answer["code"] == 1 and not text
    if answer["code"] == 0 or differs:
        return ""
    if answer["code"] not in (1, 2):
        return f"ended with {answer['code']}"
    lines = text.splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    if len(errors) != 1 or lines[-1] != errors[0]:
        return f"{len(lines)} lines, {len(errors)} of them errors"
    if len(errors[0]) > MOST_LINE or answer["error_bytes"] > 4 * MOST_LINE * max(1, len(lines)):
        return f"a line of {answer['error_bytes']} bytes"
    if _BARE.match(errors[0]):
        return "bare exception"
    return ""


def fuzz(kind: str, seeds: Path, first: int, count: int) -> Iterator[Finding | None]:
    """Yield a finding, or None, for each mutation of a kind of file.

    Args:
        seeds: the folder that `make_seeds` filled.
        first: the number of the first mutation; each number makes the same file again.
    """
    worker = Worker()
    try:
        for number in range(first, first + count):
            rng = random.Random(f"{kind} {number}")
            folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
            try:
                commands = KINDS[kind].make(seeds, folder, rng)
                before = decoys(folder)
                answers = worker.run(commands)
                finding = _finding(kind, number, commands, answers)
                if finding is None and decoys(folder) != before:
                    finding = Finding(kind, number, commands[0][0], "touched a foreign file", "")
                yield finding
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        worker.close()


def _finding(
    kind: str, number: int, commands: list[list[str]], answers: list[dict[str, Any]] | str
) -> Finding | None:
    if isinstance(answers, str):
        return Finding(kind, number, commands[0][0], answers, "")
    for answer in answers:
        reason = judge(answer)
        if reason:
            text = answer["error"]
            return Finding(
                kind, number, answer["command"], reason, text[:300] + " … " + text[-500:]
            )
    return None
