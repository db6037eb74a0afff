"""Folders that commands read and write again, with links to a folder that must stay as it is."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.mutations import (
    HOSTILE,
    copied,
    json_bytes,
    mutate_bytes,
    mutate_json,
    mutate_safetensors,
    mutate_value,
)
from tests.fuzz.tables import mutate_parquet

ELSEWHERE = "elsewhere"
"""A folder beside the mutated one; whatever it holds belongs to somebody else."""
DECOYS = ("steps.jsonl", "run.json", "00000000.safetensors", "shard-00000.parquet", ".lock")

LARGE = 64 << 20
"""Bytes of a file that is made larger by repeating its lines."""
Words = list[str]


def make_decoys(folder: Path) -> None:
    """Make the folder that no command may touch."""
    (folder / ELSEWHERE).mkdir()
    for name in (*DECOYS, ".shard-00000.parquet.abc", "model.safetensors"):
        (folder / ELSEWHERE / name).write_text("somebody's")


def decoys(folder: Path) -> dict[str, bytes | None] | None:
    """Return the content of the decoys of a folder, None for a folder; None if it has none."""
    path = folder / ELSEWHERE
    if not path.is_dir():
        return None
    return {file.name: file.read_bytes() if file.is_file() else None for file in path.iterdir()}


def mutate_lines(data: bytes, rng: random.Random) -> bytes:
    """Return lines of JSON of which some are changed, left out, repeated or hostile."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    lines = data.splitlines()
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines)) if lines else 0
        change = rng.randrange(6)
        if not lines or change == 0:
            lines.insert(at, json.dumps(copied(rng.choice(HOSTILE))).encode()[:1_000_000])
        elif change == 1:
            del lines[at]
        elif change == 2:
            times = rng.choice((2, 100))
            size = sum(len(line) + 1 for line in lines)
            lines = lines * (times if size < LARGE // times else 1)
        elif change == 3:
            lines.reverse()
        elif change == 4:
            lines[at] = mutate_json(lines[at], rng)
        else:
            try:
                lines[at] = json_bytes(mutate_value(json.loads(lines[at]), rng))
            except (ValueError, RecursionError):
                lines[at] = b"{"
    return b"\n".join(lines) + b"\n" * (rng.random() < 0.9)


def replace_entry(path: Path, elsewhere: Path, rng: random.Random) -> None:
    """Put a link, a pipe, a folder or a device's link in the place of a file or a folder."""
    change = rng.randrange(7)
    if path.is_dir():
        shutil.rmtree(path)
        target = elsewhere
    else:
        path.unlink()
        target = elsewhere / rng.choice(DECOYS)
    if change == 0:
        os.mkfifo(path)
    elif change == 1:
        path.mkdir()
    elif change == 2:
        path.symlink_to(rng.choice(("/dev/zero", "/dev/stdin", "nowhere", path.name)))
    elif change == 3 and target.is_file():
        os.link(target, path)
    else:
        path.symlink_to(target)


Mutation = Callable[[bytes, random.Random], bytes]
OF_SUFFIX: dict[str, Mutation] = {
    ".json": mutate_json,
    ".jsonl": mutate_lines,
    ".parquet": mutate_parquet,
    ".safetensors": mutate_safetensors,
}


def mutate_folder(seed: Path, folder: Path, rng: random.Random) -> Path:
    """Return a copy of a folder in which one or two files are mutated or replaced."""
    make_decoys(folder)
    target = folder / "target"
    shutil.copytree(seed, target)
    entries = sorted(target.rglob("*"))
    for path in rng.sample(entries, rng.choice((1, 1, 2))):
        if not path.exists() or path.resolve() != target.resolve() / path.relative_to(target):
            continue  # it, or a folder above it, was replaced
        if path.is_file() and path.stat().st_nlink > 1:  # it is a decoy
            continue
        if rng.random() < 0.35 or not path.is_file():
            replace_entry(path, folder / ELSEWHERE, rng)
        elif path.suffix in OF_SUFFIX:
            path.write_bytes(OF_SUFFIX[path.suffix](path.read_bytes(), rng))
    return target


def run_folder(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
    """Mutate a run: it is exported, continued and replaced."""
    target = mutate_folder(seeds / "run", folder, rng)
    return [
        ["watch", str(target), "--export", str(folder / "tables")],
        ["continue", str(target)],
        ["overwrite", str(target)],
    ]


def batch_folder(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
    """Mutate a finished batch: it is reported, and resumed."""
    target = mutate_folder(seeds / "batch", folder, rng)
    batch = json.loads((seeds / "batch.json").read_text())
    return [["report", str(target)], [*batch, "--out", str(target)]]


def parquet_prompts(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
    """Mutate a file of prompts, which is read to its end."""
    target = folder / "prompts.parquet"
    seed = rng.choice(sorted((seeds / "parquet").glob("prompts*.parquet")))
    target.write_bytes(mutate_parquet(seed.read_bytes(), rng))
    return [["prompts", str(target)]]


def transcripts(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
    """Mutate a file of transcripts, of which one is listed."""
    seed = rng.choice(sorted((seeds / "transcripts").iterdir()))
    target = folder / seed.name
    target.write_bytes(OF_SUFFIX[seed.suffix](seed.read_bytes(), rng))
    line = ["--line", str(rng.choice((1, 2, 3)))] * (rng.random() < 0.5)
    return [["read", str(target), "builtin:town", "--list", *line]]


CALLS: tuple[tuple[str, dict[str, object]], ...] = (
    ("open", {"model": "builtin:sort"}),
    ("look", {"lens": "next-token", "prompt": "CAB", "rows": 3}),
    ("look", {"lens": "attention", "prompt": "CABA", "layer": 0, "head": 1}),
    ("look", {"lens": "logit-lens", "prompt": "CAB", "mode": "top", "options": {"target": "A"}}),
    ("look", {"lens": "passages", "prompt": "CABACB", "options": {"separator": "A"}}),
    ("edit", {"edits": ["zero head 1.1"], "prompt": "CAB"}),
    ("edit", {"edits": []}),
    ("compare", {"prompt": "CAB", "versus_prompt": "BCA"}),
    ("generate", {"prompt": "CAB", "tokens": 4}),
    ("many_prompts", {"prompts": ["CAB", "BCA"], "lens": "next-token"}),
    ("explain", {"topic": "lenses"}),
    ("export", {"path": "figure.svg", "width": 80, "height": 20}),
)
"""Calls of the tools for agents; a mutated one may have arguments of any name and type."""


def tool_calls(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
    """Mutate a call of a tool, after one that looked at a figure."""
    make_decoys(folder)
    name, arguments = rng.choice(CALLS)
    if rng.random() < 0.05:
        name = rng.choice(("", "lok", "\x1b[31m", "__class__"))
    changed = mutate_value(arguments, rng)
    if not isinstance(changed, dict):  # the protocol lets nothing else through
        changed = {"lens": changed}
    return [["mcp", str(folder / "out"), name, json.dumps(changed)]]
