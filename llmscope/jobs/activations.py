"""Activations of many prompts in a folder of safetensors files, which a killed run can resume.

    manifest.json                what all shards have in common
    shard-00000.safetensors      the tensors of its prompts, named `INDEX/NAME`, INDEX from 0

A shard appears whole or not at all. Its metadata hold the number and the digest of its prompts.
Until then each of its passes is in a journal, `.finished`, as soon as it has run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.corpus.records.prompts import windows
from llmscope.errors import ScopeError
from llmscope.jobs.state import JobPasses
from llmscope.jobs.store import JobShare, exclusive, manifests_in, other_options, read_manifest
from llmscope.support.fsync import Journal, check_plain, remove_left, replace_file, writing
from llmscope.support.storage import LocalStorage
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.record.capture.recording import Prompt, Recording

SCHEMA = 1
MANIFEST, JOURNAL = "manifest.json", ".finished"
COMPARED = 5
"""Number of logits of the first prompt that identify the model."""
SAME = 1e-2
"""Largest difference of those logits, as a share of the largest, between two runs of one model."""
SAME_TENSORS = {4: 1e-3, 8: 1e-3}
"""The same of stored tensors, by the bytes of a number; `SAME` for narrower ones."""

Record = Callable[[Sequence["Prompt"]], "Sequence[Recording]"]
Progress = Callable[[int], None]


def save(
    prompts: Iterable[Prompt],
    names: Sequence[str],
    folder: Path,
    record: Record,
    *,
    model: str,
    together: bool = True,
    last: bool = False,
    shard_size: int = 100,
    progress: Progress | None = None,
) -> int:
    """Record prompts shard by shard, and write the tensors that are named.

    Args:
        prompts: the prompts; read one shard at a time.
        names: names of tensors or patterns; see `ActivationCache.select`.
        folder: the folder; created if it does not exist.
        record: records the prompts of a pass.
        model: the model's name, for the manifest.
        together: whether several prompts go through the model in one pass.
        last: keep only the row of the last token; of patterns and heads too.
        shard_size: number of prompts in a shard.
        progress: called with the number of prompts done, after each shard.

    Returns:
        The number of prompts.

    Raises:
        ScopeError: the folder holds activations of other names, prompts or another model, or
            something else; or it cannot be written, or another process writes to it.
        KeyError: a name matches no tensor.
    """
    options = {"schema": SCHEMA, "names": list(names), "last": last, "shard_size": shard_size}
    done, journal = 0, Journal(folder / JOURNAL, options)
    with exclusive(LocalStorage(folder), JobShare()):
        manifest = _read_manifest(folder, options)
        for number, window in enumerate(windows(prompts, shard_size)):
            path = folder / f"shard-{number:05d}.safetensors"
            shard = _Shard(path, done, window, names, last, record)
            if not number:
                first = _first_logits(window[0], names, record)
                if manifest is None:
                    _begin(folder, options, model, window[0], first)
                else:
                    _check_model(folder, manifest["first"], window[0], first)
            with writing(folder, "a folder"):
                exists = check_plain(path, links=True)
            if exists:
                shard.check()
            else:
                data = shard.run(journal, together)
                with writing(folder, "a folder"):
                    replace_file(path, data)
                journal.clear()
            done += len(window)
            if progress is not None:
                progress(done)
        journal.remove()
    return done


def _read_manifest(folder: Path, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a folder; None for a new one.

    Raises:
        ScopeError: the folder holds something else, or was made with other arguments.
    """
    storage = LocalStorage(folder)
    with writing(folder, "a folder"):
        folder.mkdir(parents=True, exist_ok=True)
    if not manifests_in(storage):
        return None
    manifest = read_manifest(storage, MANIFEST, ("first", *options))
    stored = {key: manifest[key] for key in options}
    if stored != dict(options):
        raise other_options(storage.shown, stored, options)
    remove_left(folder.glob(".shard-[0-9]*.safetensors.*"))  # of a run that was killed
    return manifest


def _first_logits(prompt: Prompt, names: Sequence[str], record: Record) -> Tensor:
    """Return the last logits of the first prompt, of a model that has all tensors. [token]

    Raises:
        KeyError: a name matches no tensor; the folder is not begun then.
    """
    from llmscope.record.derive.tensors import logits_after

    (recording,) = record([prompt])
    cache = recording.cache()
    for name in names:
        cache.matching(name)
    return logits_after(recording, len(prompt) - 1)


def _begin(
    folder: Path, options: Mapping[str, Any], model: str, prompt: Prompt, logits: Tensor
) -> None:
    """Write the manifest, with the largest logits of the first prompt, which identify the model."""
    best = logits.topk(min(COMPARED, len(logits)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    first = {"ids": list(prompt.ids), "logits": {str(token): logit for token, logit in pairs}}
    manifest = {**options, "model": model, "first": first}
    with writing(folder, "a folder"):
        replace_file(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())


def _check_model(folder: Path, first: Mapping[str, Any], prompt: Prompt, logits: Tensor) -> None:
    """Compare the logits of the first prompt with those that the folder was begun with.

    Raises:
        ScopeError: it is another prompt, or the model gives other logits.
    """
    if first["ids"] != list(prompt.ids):
        raise ScopeError(f"{one_line(str(folder))} begins with another prompt", "an empty folder")
    scale = max(map(abs, first["logits"].values()), default=0.0)
    for token, logit in first["logits"].items():
        inside = int(token) < len(logits)
        if not inside or not abs(float(logits[int(token)]) - logit) <= SAME * scale:
            raise ScopeError(
                f"{one_line(str(folder))} holds activations of another model", "an empty folder"
            )


@dataclass(frozen=True)
class _Shard:
    """The tensors of some prompts, in a file or not yet.

    Attributes:
        path: the file.
        first: the number of the first prompt.
        prompts: the prompts.
        names: names of tensors, or patterns.
        last: whether only the row of the last token is kept.
        record: records the prompts of a pass.
    """

    path: Path
    first: int
    prompts: Sequence[Prompt]
    names: Sequence[str]
    last: bool
    record: Record

    @property
    def digest(self) -> str:
        """The digest of the prompts."""
        ids = json.dumps([list(prompt.ids) for prompt in self.prompts], separators=(",", ":"))
        return hashlib.sha256(ids.encode()).hexdigest()

    def check(self) -> None:
        """Check that the file holds what the model gives.

        Raises:
            ScopeError: it is damaged, or of other prompts or a model in another state.
        """
        from safetensors import SafetensorError, safe_open

        name, expected = one_line(self.path.name), (str(len(self.prompts)), self.digest)
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = file.metadata() or {}
                if (facts.get("prompts"), facts.get("digest")) == expected:
                    self._compare(range(len(self.prompts)), file.get_tensor)
                    return
        except SafetensorError as error:
            raise ScopeError(
                f"{name} is broken: {one_line(str(error))}", "the same call once it is deleted"
            ) from error
        raise ScopeError(f"{name} holds other prompts", "an empty folder")

    def run(self, journal: Journal, together: bool) -> bytes:
        """Return the content of the file, after running the passes that no earlier run finished.

        Args:
            journal: keeps each pass.
            together: whether several prompts go through the model in one pass.

        Raises:
            ScopeError: a pass cannot be kept, or the model is in another state than in an earlier
                run.
        """
        import numpy as np
        from safetensors.torch import load
        from safetensors.torch import save as serialized

        from llmscope.record.capture.padded import SIZE, grouped

        passes = JobPasses(journal, shard=self.path.name, prompts=self.digest)
        lengths = [len(prompt) for prompt in self.prompts]
        groups = list(grouped(lengths, SIZE)) if together else [[at] for at in range(len(lengths))]
        stored = {tuple(group): passes.take(group) for group in groups}
        tensors: dict[str, Tensor] = {}
        for kept_pass in filter(None, stored.values()):
            tensors |= load(kept_pass[1]["tensors"].tobytes())
        if tensors:
            finished = [at for group, kept_pass in stored.items() if kept_pass for at in group]
            self._compare(finished, tensors.__getitem__)
        for group in groups:
            if stored[tuple(group)] is None:
                of_pass: dict[str, Tensor] = {}
                recordings = self.record([self.prompts[at] for at in group])
                for at, recording in zip(group, recordings, strict=True):
                    of_pass |= self._tensors(at, recording)
                passes.add(group, {"tensors": np.frombuffer(serialized(of_pass), np.uint8)})
                tensors |= of_pass
        facts = {"prompts": str(len(lengths)), "first": str(self.first), "digest": self.digest}
        data: bytes = serialized(tensors, metadata=facts)
        return data

    def _tensors(self, index: int, recording: Recording) -> dict[str, Tensor]:
        """Return the tensors of a prompt, on the CPU, by their names in the file."""
        cache, number = recording.cache(), self.first + index
        return {
            f"{number}/{name}": (_last_row(name, tensor) if self.last else tensor)
            .cpu()
            .contiguous()
            for pattern in self.names
            for name, tensor in cache.select(pattern).items()
        }

    def _compare(self, indices: Iterable[int], stored: Callable[[str], Tensor]) -> None:
        """Run the longest of some prompts again, and compare its tensors with those stored.

        The first prompt's logits alone do not tell apart two states of one model: a hook may
        change one token of long prompts only.

        Raises:
            ScopeError: the model gives other tensors.
        """
        longest = max(indices, key=lambda index: len(self.prompts[index]))
        (recording,) = self.record([self.prompts[longest]])
        for name, tensor in self._tensors(longest, recording).items():
            if not _alike(tensor, stored(name)):
                raise ScopeError(
                    f"{one_line(self.path.name)} holds activations of the model in another state",
                    "an empty folder",
                )


def _alike(tensor: Tensor, stored: Tensor) -> bool:
    """Return whether a tensor is a stored one, up to what two runs of one model differ by."""
    import torch

    if tensor.shape != stored.shape:
        return False
    values = tensor.float()
    largest = float(values.nan_to_num(0.0, 0.0, 0.0).abs().max()) if values.numel() else 0.0
    bound = largest * SAME_TENSORS.get(tensor.element_size(), SAME)
    return torch.allclose(values, stored.float(), rtol=0.0, atol=bound, equal_nan=True)


def _last_row(name: str, tensor: Any) -> Any:
    """Return the row of the last token. `[..., position, ...]` -> [...]"""
    by_head = name.rpartition(".")[2] in ("q", "k", "v", "pattern")
    row = tensor[:, -1] if by_head else tensor[-1]
    return row.clone()  # a view would keep all rows in memory
