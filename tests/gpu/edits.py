"""Edited passes against the same edits made by hooks by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.gpu.errors import bound, largest
from tests.gpu.report import Section
from tests.gpu.setting import Checkpoint, Setting
from tests.record.by_hand import A, B, Plain, becomes, plus, times

FAMILIES = (("llama", "gpt2"), ("gemma2", "mixtral", "gpt_neox", "qwen3_moe"))
"""Those of a quick run, and the others."""
HALVES = ("llama", "gpt2", "gemma2", "gpt_neox")
ALL = slice(None)
MATTERS = 1e-3
"""An edit moves the logits by more than this in float32; else comparing them says little."""
Alteration = tuple[str, int, Callable[..., Any]]


def check(setting: Setting, section: Section) -> None:
    """Make each edit in llmscope and by hand, and the table of the lens `ablation`."""
    families = FAMILIES[0] if setting.quick else (*FAMILIES[0], *FAMILIES[1])
    for checkpoint in setting.checkpoints(section, families):
        halves = ("bfloat16",) if checkpoint.family in HALVES else ()
        for dtype in ("float32", *halves):
            _compare(setting, section, checkpoint, dtype)
            setting.free()


def cases(plain: Plain) -> Iterator[tuple[str, list[Any], list[Alteration]]]:
    """Yield a name, edits in llmscope's grammar or of one's own, and the same by hand."""
    token = plain.model.get_submodule(plain.places["unembed"]).weight[17].detach()
    yield "zero head 1.2", ["zero head 1.2"], [("heads", 1, times(ALL, plain.head(2), 0.0))]
    yield "zero mlp 1", ["zero mlp 1"], [("mlp", 1, times(ALL, ALL, 0.0))]
    late = [("attention", 2, times(slice(5, None), ALL, 0.0))]
    yield "zero attention 2 @5..", ["zero attention 2 @5.."], late
    steered = [("stream", 1, plus(slice(4, None), 2 * token))]
    yield "steer 0 token", ["steer 0 token id:17 2 @4.."], steered
    theirs = plain.seen(B, "stream", 1)
    patched = [("stream", 1, becomes(slice(6, 9), ALL, theirs[6:9]))]
    yield "patch stream 0", ["patch stream 0 @6..8 from B"], patched
    if plain.places.get("neurons"):
        scaled = [("neurons", 1, times(slice(4, None), slice(7, 8), 3.0))]
        yield "scale neuron 1.7", ["scale neuron 1.7 3 @4.."], scaled
    vector = torch.linspace(-1, 1, token.shape[0])  # on the CPU, whatever the model's device
    own = [("stream", 2, becomes(slice(-1, None), ALL, vector.to(token)))]
    yield "a tensor at stream 1", [("stream 1 @-1", vector)], own
    both = [("heads", 0, times(ALL, plain.head(1), 0.5)), ("mlp", 2, times(ALL, ALL, 0.0))]
    yield "two edits", ["scale head 0.1 0.5", "zero mlp 2"], both


def _compare(setting: Setting, section: Section, checkpoint: Checkpoint, dtype: str) -> None:
    scope, plain = setting.scope(checkpoint.folder, dtype), setting.plain(checkpoint, dtype)
    named, layers = f"{checkpoint.name} {dtype}", len(plain.layers)
    limit, base = bound(dtype, layers), plain.run(A)
    for what, edits, alterations in cases(plain):
        recording = scope.record(A, edits=edits, versus_prompt=B)
        cache = recording.cache()
        logits, caught = plain.run(A, *alterations, seen=[("stream", layers)])
        error = largest(cache["logits"], logits)
        section.at_most(f"{named}, {what}: logits", error, limit)
        error = largest(cache[f"layers.{layers - 1}.resid_post"], caught["stream", layers])
        section.at_most(f"{named}, {what}: last stream", error, limit)
        if dtype == "float32":
            moved = largest(base, logits)
            section.at_least(f"{named}, {what}: it moves the logits by", moved, MATTERS)
    if dtype == "float32":
        _ablation(section, named, scope, plain, limit)


def _ablation(section: Section, named: str, scope: Any, plain: Plain, limit: float) -> None:
    """Compare the table of all heads, which run in batches, with a pass for each by hand."""
    recording = scope.record(A)
    target = int(recording.logits.argmax())
    figure = scope.look("ablation", recording=recording, target=target)
    if figure.verdict.status == "refused":
        section.skip(f"{named}, ablation", figure.verdict.reason)
        return
    base = plain.run(A)[-1]
    heads = range(figure.values.shape[1])
    own = [
        [
            float(plain.run(A, ("heads", layer, times(ALL, plain.head(head), 0.0)))[-1][target])
            - float(base[target])
            for head in heads
        ]
        for layer in range(len(plain.layers))
    ]
    apart = (torch.as_tensor(figure.values) - torch.tensor(own)).abs().max()
    error = float(apart) / float(base.abs().max())  # two logits' difference has their error
    section.at_most(f"{named}, ablation of {heads.stop * len(own)} heads", error, limit)
