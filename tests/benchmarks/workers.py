"""The other end of `worker.py`: starts a contender's process and talks to it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.setting import Setting

ROOT = Path(__file__).resolve().parents[2]


class Refused(Exception):
    """A contender that is missing, or will not do a job; the message says why."""


class Worker:
    """One contender in its own process.

    Raises:
        Refused: it is not installed, or cannot load the model.
    """

    def __init__(self, contender: str, setting: Setting) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [setting.python(contender), "-m", "tests.benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=os.environ | setting.environment,
        )
        try:
            self.about = self.ask(
                "open",
                name=contender,
                folder=setting.folder,
                device=setting.device,
                threads=setting.threads,
                dtype=setting.dtype,
            )
        except Refused:
            self.close()
            raise

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Have something done.

        Raises:
            Refused: the contender says no, or its process is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Refused(f"its process ended with {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
