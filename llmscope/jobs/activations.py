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
    with exclusive(LocalStorage(folder), JobShare()):
        return _save(prompts, names, folder, record, options, model, together, progress)


def _save(
    prompts: Iterable[Prompt],
    names: Sequence[str],
    folder: Path,
    record: Record,
    options: Mapping[str, Any],
    model: str,
    together: bool,
    progress: Progress | None,
) -> int:
    last, done, journal = bool(options["last"]), 0, Journal(folder / JOURNAL, options)
    with writing(folder, "a folder"):
        known = _opened(folder, options)
    for number, window in enumerate(windows(prompts, options["shard_size"])):
        path = folder / f"shard-{number:05d}.safetensors"
        digest = _digest(window)
        if not number:
            known = _identified(folder, known, options, model, window[0], record)
        with writing(folder, "a folder"):
            there = check_plain(path, links=True)
        if there:
            _check_shard(path, digest, len(window))
            _check_longest(path, window, names, record, last, done)
        else:
            shard = _Shard(path.name, digest, done, window, names, last)
            data = _bytes(shard, record, journal, together)
            with writing(folder, "a folder"):
                replace_file(path, data)
            journal.clear()
        done += len(window)
        if progress is not None:
            progress(done)
    journal.remove()
    return done


def _opened(folder: Path, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a folder; None for a new one.

    Raises:
        ScopeError: the folder holds something else, or was made with other arguments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    storage = LocalStorage(folder)
    if not manifests_in(storage):
        return None
    manifest = read_manifest(storage, MANIFEST, ("first", *options))
    stored = {key: manifest[key] for key in options}
    if stored != dict(options):
        raise other_options(storage.shown, stored, options)
    remove_left(folder.glob(".shard-[0-9]*.safetensors.*"))  # of a run that was killed
    return manifest


def _identified(
    folder: Path,
    known: dict[str, Any] | None,
    options: Mapping[str, Any],
    model: str,
    first: Prompt,
    record: Record,
) -> dict[str, Any]:
    """Compare the model with the one that the folder was begun with; begin it if it is new.

    Raises:
        ScopeError: the model gives other logits.
    """
    from llmscope.record.derive.tensors import logits_after

    (recording,) = record([first])
    cache = recording.cache()
    for name in options["names"]:  # before the folder is begun with a name that matches nothing
        cache.matching(name)
    logits = logits_after(recording, len(first) - 1)
    if known is None:
        best = logits.topk(min(COMPARED, len(logits)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        known = {
            **options,
            "model": model,
            "first": {"ids": list(first.ids), "logits": {str(i): v for i, v in pairs}},
        }
        with writing(folder, "a folder"):
            replace_file(folder / MANIFEST, (json.dumps(known, indent=1) + "\n").encode())
        return known
    theirs: Mapping[str, float] = known["first"]["logits"]
    if known["first"]["ids"] != list(first.ids):
        raise ScopeError(f"{one_line(str(folder))} begins with another prompt", "an empty folder")
    scale = max(map(abs, theirs.values()), default=0.0)
    for token, value in theirs.items():
        inside = int(token) < len(logits)
        if not inside or not abs(float(logits[int(token)]) - value) <= SAME * scale:
            raise ScopeError(
                f"{one_line(str(folder))} holds activations of another model", "an empty folder"
            )
    return known


def _digest(prompts: Sequence[Prompt]) -> str:
    ids = json.dumps([list(prompt.ids) for prompt in prompts], separators=(",", ":"))
    return hashlib.sha256(ids.encode()).hexdigest()


def _check_shard(path: Path, digest: str, count: int) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
    except SafetensorError as error:
        reason = f"{one_line(path.name)} is broken: {one_line(str(error))}"
        raise ScopeError(reason, "the same call once it is deleted") from error
    if (facts.get("prompts"), facts.get("digest")) != (str(count), digest):
        raise ScopeError(f"{one_line(path.name)} holds other prompts", "an empty folder")


def _check_longest(
    path: Path, prompts: Sequence[Prompt], names: Sequence[str], record: Record, last: bool, at: int
) -> None:
    """Run the longest prompt of a finished shard again, and compare its tensors.

    The first prompt's logits alone do not tell apart two states of one model: a hook may change
    one token of long prompts only.

    Raises:
        ScopeError: the model gives other tensors.
    """
    from safetensors import safe_open

    longest = max(range(len(prompts)), key=lambda index: len(prompts[index]))
    (recording,) = record([prompts[longest]])
    now = _tensors(recording, names, last, at + longest)
    with safe_open(path, framework="pt") as file:
        _compare(path.name, now, {name: file.get_tensor(name) for name in now})


def _compare(file: str, tensors: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Compare the tensors of a prompt with those that are stored.

    Raises:
        ScopeError: the model gives other tensors.
    """
    for name, tensor in tensors.items():
        if not _alike(tensor.cpu(), stored[name]):
            raise ScopeError(
                f"{one_line(file)} holds activations of the model in another state",
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


def _tensors(
    recording: Recording, names: Sequence[str], last: bool, index: int
) -> dict[str, Tensor]:
    """Return the tensors of a prompt by their names in a shard.

    Args:
        recording: the prompt's recording.
        names: names or patterns.
        last: return only the row of the last token.
        index: the number of the prompt.
    """
    cache = recording.cache()
    return {
        f"{index}/{name}": _last_row(name, tensor) if last else tensor
        for pattern in names
        for name, tensor in cache.select(pattern).items()
    }


@dataclass(frozen=True)
class _Shard:
    """A shard that is not written yet.

    Attributes:
        name: that of its file.
        digest: of its prompts.
        first: the number of the first prompt.
        prompts: its prompts.
        names: names of tensors, or patterns.
        last: whether only the row of the last token is kept.
    """

    name: str
    digest: str
    first: int
    prompts: Sequence[Prompt]
    names: Sequence[str]
    last: bool

    def tensors(self, index: int, recording: Recording) -> dict[str, Tensor]:
        """Return the tensors of a prompt, on the CPU, by their names in the shard."""
        tensors = _tensors(recording, self.names, self.last, self.first + index)
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _bytes(shard: _Shard, record: Record, journal: Journal, together: bool) -> bytes:
    """Return a shard as a file, after running the passes that no earlier run finished.

    Args:
        shard: the shard.
        record: records the prompts of a pass.
        journal: keeps each pass.
        together: whether several prompts go through the model in one pass.

    Raises:
        ScopeError: a pass cannot be kept, or the model is in another state than in an earlier run.
    """
    import numpy as np
    from safetensors.torch import load
    from safetensors.torch import save as serialized

    from llmscope.record.capture.padded import SIZE, grouped

    prompts = shard.prompts
    tensors: dict[str, Tensor] = {}
    passes = JobPasses(journal, shard=shard.name, prompts=shard.digest)
    lengths = [len(prompt) for prompt in prompts]
    groups = list(grouped(lengths, SIZE)) if together else [[at] for at in range(len(prompts))]
    finished = []
    for group in groups:
        if (stored := passes.take(group)) is not None:
            finished.append(group)
            tensors |= load(stored[1]["tensors"].tobytes())
    if finished:
        longest = max((at for group in finished for at in group), key=lambda at: len(prompts[at]))
        (recording,) = record([prompts[longest]])
        _compare(shard.name, shard.tensors(longest, recording), tensors)
    for group in groups:
        if group in finished:
            continue
        of_pass: dict[str, Tensor] = {}
        for at, recording in zip(group, record([prompts[at] for at in group]), strict=True):
            of_pass |= shard.tensors(at, recording)
        passes.add(group, {"tensors": np.frombuffer(serialized(of_pass), np.uint8)})
        tensors |= of_pass
    facts = {"prompts": str(len(prompts)), "first": str(shard.first), "digest": shard.digest}
    data: bytes = serialized(tensors, metadata=facts)
    return data


def _last_row(name: str, tensor: Any) -> Any:
    """Return the row of the last token. `[..., position, ...]` -> [...]"""
    by_head = name.rpartition(".")[2] in ("q", "k", "v", "pattern")
    row = tensor[:, -1] if by_head else tensor[-1]
    return row.clone()  # a view would keep all rows in memory
