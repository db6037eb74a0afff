"""What is mutated, and the commands that must survive it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import folders, pastes
from tests.fuzz.mutations import (
    Mutation,
    mutate_bytes,
    mutate_gguf,
    mutate_json,
    mutate_npz,
    mutate_safetensors,
)

Words = list[str]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: writes a mutated copy below a folder, given the seeds, the folder and a generator;
            returns the commands to run on it.
    """

    name: str
    make: Callable[[Path, Path, random.Random], list[Words]]


def _snapshot_kind(suffix: str, mutation: Mutation) -> Kind:
    """A snapshot in one format: it is replayed and compared with the file that it came from."""

    def make(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
        found = sorted((seeds / "snapshots").glob(f"*{suffix}"))
        seed = rng.choice([one for one in found if one.name != "arrays.json"])  # a sidecar
        target = folder / seed.name
        sidecar = seed.with_suffix(".json")
        if suffix == ".safetensors":
            shutil.copy(sidecar, folder / sidecar.name)
            if rng.random() < 0.3:
                changed = mutate_json(sidecar.read_bytes(), rng)
                (folder / sidecar.name).write_bytes(changed)
        target.write_bytes(mutation(seed.read_bytes(), rng))
        return [["replay", str(target)], ["diff", str(seed), str(target)]]

    return Kind(suffix[1:], make)


def _model_words(model: Path) -> Words:
    return [
        "snapshot",
        str(model),
        "--prompt",
        "the cat",
        "--lens",
        "next-token",
        "--format",
        "txt",
    ]


def _folder_kind(name: str, seeds_of: str, files: tuple[str, ...], mutation: Mutation) -> Kind:
    """A checkpoint of which one file is mutated; the others are links to the good ones."""

    def make(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
        seed = rng.choice(sorted((seeds / "models").glob(seeds_of)))
        target = folder / "model"
        target.mkdir()
        chosen = rng.choice([one for one in files if (seed / one).is_file()])
        for file in seed.iterdir():
            if file.name == chosen:
                (target / chosen).write_bytes(mutation(file.read_bytes(), rng))
            else:
                (target / file.name).symlink_to(file)
        return [_model_words(target)]

    return Kind(name, make)


def _gguf(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
    seed = rng.choice(sorted((seeds / "gguf").glob("*.gguf")))
    target = folder / seed.name
    target.write_bytes(mutate_gguf(seed.read_bytes(), rng))
    words = _model_words(target)
    return [words]


def _hidden_states(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
    seed = seeds / "hidden" / "states.safetensors"
    target = folder / seed.name
    target.write_bytes(mutate_safetensors(seed.read_bytes(), rng))
    layers = ["--layer-ids", "0,1"]
    return [["replay", str(target), *layers], ["diff", str(seed), str(target), *layers]]


def _adapter(seeds: Path, folder: Path, rng: random.Random) -> list[Words]:
    seed = rng.choice(sorted((seeds / "adapters").iterdir()))
    target = folder / "adapter"
    shutil.copytree(seed, target)
    if rng.random() < 0.75:
        path = target / "adapter_config.json"
        path.write_bytes(mutate_json(path.read_bytes(), rng))
    else:
        path = target / "adapter_model.safetensors"
        path.write_bytes(mutate_safetensors(path.read_bytes(), rng))
    words = _model_words(seeds / "models" / "llama")
    return [[*words, "--adapter", str(target)]]


CONFIGS = ("config.json", "generation_config.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
KINDS = {
    kind.name: kind
    for kind in (
        _snapshot_kind(".json", mutate_json),
        _snapshot_kind(".npz", mutate_npz),
        _snapshot_kind(".safetensors", mutate_safetensors),
        Kind("hidden-states", _hidden_states),
        Kind("gguf", _gguf),
        _folder_kind("config", "[!t]*", CONFIGS, mutate_json),
        _folder_kind("tokenizer", "tokenizer-*", TOKENIZERS, mutate_json),
        _folder_kind("weights", "[!t]*", ("model.safetensors",), mutate_safetensors),
        Kind("adapter", _adapter),
        _folder_kind("bytes", "llama", ("config.json", "tokenizer.json"), mutate_bytes),
        Kind("parquet", folders.parquet_prompts),
        Kind("run", folders.run_folder),
        Kind("batch", folders.batch_folder),
        Kind("transcript", folders.transcripts),
        Kind("mcp", folders.tool_calls),
        Kind("paste", pastes.terminal_bytes),
    )
}
