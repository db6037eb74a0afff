"""A made-up cache of the hub, laid out as its library lays it out."""

from __future__ import annotations

import json
from pathlib import Path


def fill_hub(hub: Path, count: int) -> dict[str, int]:
    """So many models; their bytes by spec."""
    made = {}
    for number in range(count):
        name, commit = f"org/model-{number:03}", f"{number:040x}"
        home = hub / f"models--{name.replace('/', '--')}"
        files = {
            "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}).encode(),
            "model.safetensors": b"x" * (1000 + number),
        }
        for directory in ("blobs", "refs", f"snapshots/{commit}"):
            (home / directory).mkdir(parents=True)
        for at, (file, content) in enumerate(files.items()):
            (home / "blobs" / f"{at}").write_bytes(content)
            (home / "snapshots" / commit / file).symlink_to(home / "blobs" / f"{at}")
        (home / "refs" / "main").write_text(commit)
        made[name] = sum(map(len, files.values()))
    return made
