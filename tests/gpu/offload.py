"""A model that is spread over GPU, memory and disk, against the same model loaded whole."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from tests.gpu.errors import bound, largest
from tests.gpu.report import Section, first_line
from tests.gpu.setting import Checkpoint, Setting
from tests.record.by_hand import A

FAMILIES = (("llama", "gpt2"), ("gemma2", "mixtral"))
"""Those of a quick run, and the others."""
CAPABILITIES = ("readout", "writes", "patterns", "activations", "experts")


def check(setting: Setting, section: Section) -> None:
    """Load with `--device spread` and room for a part of the weights alone."""
    families = FAMILIES[0] if setting.quick else (*FAMILIES[0], *FAMILIES[1])
    for checkpoint in setting.checkpoints(section, families):
        for dtype in ("float32", "bfloat16"):
            compare(setting, section, checkpoint, dtype)
            setting.free()


def compare(setting: Setting, section: Section, checkpoint: Checkpoint, dtype: str) -> None:
    """Compare a spread checkpoint with the plain model, and its verdicts with the whole one's."""
    named = f"{checkpoint.name} {dtype}"
    size = sum(file.stat().st_size for file in checkpoint.folder.glob("*.safetensors"))
    size = size if dtype == "float32" else size // 2
    with room(setting, size):
        scope = setting.scope(checkpoint.folder, dtype, device="spread")
    told = [one for one in scope.info().notices if one.startswith("weights are spread over")]
    section.true(f"{named}: where", *((told[0], True) if told else ("on one device", False)))
    plain = setting.plain(checkpoint, dtype)
    layers = len(plain.layers)
    limit = bound(dtype, layers)
    scope.record(A[:5])
    recording = scope.record(A)
    section.at_least(f"{named}: tokens reused", recording.reused, 5)
    cache = recording.cache()
    logits, caught = plain.run(A, seen=[("stream", layer) for layer in range(layers + 1)])
    section.at_most(f"{named}: logits", largest(cache["logits"], logits), limit)
    streams = [
        largest(cache[f"layers.{layer}.resid_post"], caught["stream", layer + 1])
        for layer in range(layers)
    ]
    section.at_most(f"{named}: streams", max(streams), limit)
    whole = setting.scope(checkpoint.folder, dtype)
    theirs = whole.record(A, fresh=True).cache()
    shared = [name for name in cache if name.endswith(("pattern", "mlp_act"))]
    derived = max(largest(cache[name], theirs[name]) for name in shared)
    section.at_most(f"{named}: patterns and activations beside the whole", derived, limit)
    other = [
        f"{capability} {layer}"
        for capability in CAPABILITIES
        for layer in range(layers)
        if scope.verdicts(capability, layer).status != whole.verdicts(capability, layer).status
    ]
    section.true(f"{named}: verdicts that differ", ", ".join(other) or "none", not other)
    if checkpoint.folder != setting.model:  # sweeps of a large one take minutes from the disk
        _lenses(section, named, scope, whole, limit)


def _lenses(section: Section, named: str, scope: Any, whole: Any, limit: float) -> None:
    """Compare the figure of each lens that needs nothing but a prompt."""
    from llmscope.errors import ScopeError
    from llmscope.lenses import names

    recordings = scope.record(A, fresh=True), whole.record(A, fresh=True)
    worst, at, other, shown = 0.0, "", [], 0
    for name in names():
        found = []
        for one, recording in zip((scope, whole), recordings, strict=True):
            try:
                found.append(one.look(name, recording=recording))
            except (ScopeError, ValueError) as error:
                found.append(first_line(error))
        mine, theirs = found
        if isinstance(mine, str) or isinstance(theirs, str):
            other += [f"{name}: {mine}"] if mine != theirs else []
            continue
        if re.search("offloaded|not in memory", mine.verdict.reason):  # it reads weights
            section.tell(f"{named}: {name}", mine.verdict.reason)
        elif mine.verdict.status != theirs.verdict.status:
            other.append(f"{name}: {mine.verdict.status} {mine.verdict.reason}")
        elif theirs.verdict.status != "refused":
            shown += 1
            error = _apart(mine.values, theirs.values)
            if not error <= worst:  # NaN, too
                worst, at = error, name
    section.true(f"{named}: lenses with another verdict", "; ".join(other) or "none", not other)
    section.at_least(f"{named}: lenses compared", shown, 8)
    section.at_most(f"{named}: largest error of a lens ({at or 'each is equal'})", worst, limit)


def _apart(found: Any, own: Any) -> float:
    """Return the largest error of a figure's numbers; infinity where other cells are empty."""
    found, own = (torch.as_tensor(np.asarray(one, dtype=float)) for one in (found, own))
    if found.shape != own.shape or not torch.equal(found.isnan(), own.isnan()):
        return math.inf
    return largest(found.nan_to_num(), own.nan_to_num()) if own.numel() else 0.0


@contextmanager
def room(setting: Setting, size: int) -> Iterator[None]:
    """Leave room for a part of weights of this many bytes on each device, within."""
    from llmscope.models.loading import dispatch

    before = dispatch.MAX_MEMORY
    here: dict[int | str, int] = {"cpu": size // 2}
    if setting.cuda:
        here = {setting.device.index or 0: size // 2, "cpu": size // 3}
    dispatch.MAX_MEMORY = here
    try:
        yield
    finally:
        dispatch.MAX_MEMORY = before
