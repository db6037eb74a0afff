"""The output folder of a batch: its finished shards, and a manifest of the options used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope.batch.prompts import PromptLine
from llmscope.batch.shards import read_shard, write_shard
from llmscope.errors import ScopeError
from llmscope.export import json_text, write
from llmscope.text import display_text

_ANOTHER = "another --out, or the command that its manifest names"


_LARGEST = 1 << 24
"""Maximum bytes read of a manifest; a longer one is truncated, and so no longer valid JSON."""


@dataclass(frozen=True)
class JobShare:
    """One job's share of a batch: the prompt at `index` (from 0) of every `count` prompts.

    `size` is the number of prompts in a shard.
    """

    index: int = 0
    count: int = 1
    size: int = 256

    def name(self, kind: str) -> str:
        """Return `kind`, or if there are several jobs a name such as `shard-2of8`."""
        return kind if self.count == 1 else f"{kind}-{self.index}of{self.count}"

    def shard(self, number: int) -> str:
        """Return the name of a shard, without its suffix."""
        return f"{self.name('shard')}-{number:05d}"


class Folder:
    """A folder of shards. Opening it again with the same options resumes the batch.

    Several jobs may share a folder, each with its own part.

    Args:
        path: the folder; created if missing.
        part: this job's share of the prompts.
        options: everything that the numbers depend on, as JSON types.
        about: further entries of the manifest.

    Raises:
        ScopeError: the folder holds other files, was made with other options, or cannot be
            written.
    """

    def __init__(
        self, path: Path, part: JobShare, options: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        self.path, self.part = path, part
        self.shown = display_text(str(path)).replace("\n", " ")
        self._manifest = path / f"{part.name('manifest')}.json"
        self._record = {
            "schema": 1,
            "digest": hashlib.sha256(json_text(options).encode()).hexdigest(),
            "options": dict(options),
            "shard": {"index": part.index, "count": part.count, "prompts": part.size},
            **about,
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            held = [one.name for one in path.iterdir() if not one.name.startswith(".")]
        except OSError as error:
            reason = display_text(error.strerror or str(error))
            raise ScopeError(f"cannot write {self.shown}: {reason}", "another --out") from error
        except ValueError as error:
            raise ScopeError("--out is no name of a folder", "another --out") from error
        manifests = [one for one in held if one.startswith("manifest") and one.endswith(".json")]
        if held and not manifests:
            raise ScopeError(f"{self.shown} holds other files", "another --out")
        for name in manifests:
            self._compare(name)
        for rest in path.glob(f".{part.name('shard')}-?????.*"):  # left by a killed process
            rest.unlink(missing_ok=True)
        write(self._manifest, json_text(self._record), force=True)

    def _compare(self, name: str) -> None:
        try:
            with (self.path / name).open("rb") as file:
                record = json.loads(file.read(_LARGEST).decode("utf-8"))
            options, own = record["options"], self._record["options"]
            if record["digest"] == self._record["digest"]:
                return
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            raise ScopeError(f"{name} in {self.shown} cannot be read", "another --out") from None
        keys = sorted(own.keys() | dict(options))
        other = ", ".join(key for key in keys if own.get(key) != options.get(key))
        raise ScopeError(
            f"{self.shown} was made with other options ({display_text(other)[:100]})", _ANOTHER
        )

    def name(self, number: int) -> str:
        """Return the name of a shard, without its suffix."""
        return self.part.shard(number)

    def errors(self, number: int, lines: Sequence[PromptLine]) -> int | None:
        """Return how many prompts of a finished shard failed; None if the shard must be made.

        Args:
            number: which shard.
            lines: the prompts that the shard must hold.

        Raises:
            ScopeError: the shard exists with other prompts.
        """
        found = read_shard(self.path, self.name(number))
        if found is None:
            return None
        own = [(line.number, line.prompt) for line in lines]
        if own[: len(found)] != [(line, prompt) for line, prompt, _ in found]:
            raise ScopeError(f"{self.shown} was made of other prompts", _ANOTHER)
        if len(found) < len(own):  # the prompt file has grown since
            return None
        return sum(error is not None for *_, error in found)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write a shard, given as `shard_files` returns it.

        Raises:
            ScopeError: the shard cannot be written.
        """
        write_shard(self.path, files)

    def finish(self, shards: int, prompts: int, errors: int) -> None:
        """Mark the batch as complete in the manifest.

        Raises:
            ScopeError: the folder holds more than `shards` shards, so they were made of other
                prompts.
        """
        if (self.path / f"{self.name(shards)}.parquet").exists():
            raise ScopeError(f"{self.shown} was made of more prompts", _ANOTHER)
        whole = {"shards": shards, "prompts": prompts, "errors": errors}
        write(self._manifest, json_text({**self._record, "complete": whole}), force=True)
