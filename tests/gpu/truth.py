"""What is recorded, against hooks by hand on the same model, device and dtype."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from llmscope.errors import ScopeError
from llmscope.record.fetch import PINNED, to_cpu
from tests.gpu.errors import bound, by_row, largest, stated
from tests.gpu.report import Section
from tests.gpu.setting import DTYPES, Checkpoint, Setting
from tests.record.by_hand import A, Plain, becomes

FAMILIES = (
    *("llama", "gpt2", "gemma2", "mixtral"),
    *("gemma3_text", "gpt_neox", "opt", "qwen3_moe", "mistral", "olmo2"),
)
QUICK = 4
"""How many of the families a quick run takes."""
CAPABILITIES = ("readout", "writes", "patterns", "activations", "experts")
MIXTURES = ("mixtral", "qwen3_moe")
"""Families in which a rounding may choose another expert."""
ALL = slice(None)


def check(setting: Setting, section: Section) -> None:
    """Compare all that is recorded, and the errors with those that verdicts state."""
    exact = not torch.backends.cuda.matmul.allow_tf32
    exact &= torch.get_float32_matmul_precision() == "highest"
    section.true("TF32", "off" if exact else "on", exact)
    _transfers(setting, section)
    families = FAMILIES[:QUICK] if setting.quick else FAMILIES
    for checkpoint in setting.checkpoints(section, families):
        for dtype in DTYPES:
            _compare(setting, section, checkpoint, dtype)
            setting.free()


def _transfers(setting: Setting, section: Section) -> None:
    """Bring tensors to the CPU together, through pinned memory and past what that takes."""
    for name, count in (("a few numbers", 5), ("more than pinned memory takes", PINNED // 8)):
        rows = torch.arange(count, dtype=torch.float64) / 7
        own = [
            *(rows, rows.float()[::2], rows.bfloat16()[:, None], rows.half()[:0]),
            *(rows > 0, rows.long(), rows.sum()),
        ]
        for turn in range(2):  # the second takes the pinned memory of the first
            found = to_cpu([one.to(setting.device) for one in own])
            same = all(torch.equal(one, other) for one, other in zip(own, found, strict=True))
            section.true(f"transfer {turn} of {name}", "the same" if same else "others", same)
            pinned = any(one.is_pinned() for one in found)
            section.true(f"left pinned by it {turn}, {name}", str(pinned), not pinned)


def _compare(setting: Setting, section: Section, checkpoint: Checkpoint, dtype: str) -> None:
    scope = setting.scope(checkpoint.folder, dtype)
    plain = setting.plain(checkpoint, dtype)
    named, layers = f"{checkpoint.name} {dtype}", len(plain.layers)
    recording = scope.record(A, fresh=True)
    if setting.cuda:
        section.true(f"{named}: where", str(recording.logits.device), recording.logits.is_cuda)
    cache = recording.cache()
    sites = ["stream", "attention", "mlp", *(["neurons"] if plain.places.get("neurons") else [])]
    if "heads" in plain.places:
        sites.append("heads")
    seen = [(site, layer) for site in sites for layer in range(layers)]
    logits, caught = plain.run(A, seen=[*seen, ("stream", layers)])
    allowed = bound(dtype, layers)
    section.at_most(f"{named}: logits", largest(cache["logits"], logits), allowed)
    own: dict[str, tuple[Any, str]] = {"embed": (caught["stream", 0], "")}
    for layer in range(layers):
        here = f"layers.{layer}"
        own[f"{here}.resid_post"] = caught["stream", layer + 1], ""
        own[f"{here}.attn_out"] = caught["attention", layer], "writes"
        own[f"{here}.mlp_out"] = caught["mlp", layer], "writes"
        if "neurons" in sites:
            own[f"{here}.mlp_act"] = caught["neurons", layer], "activations"
        if "heads" in sites:
            own[f"{here}.z"] = caught["heads", layer], "patterns"
    _hold(section, named, scope, cache, own, logits, allowed)
    _patterns(section, named, cache, plain, caught, dtype)
    if dtype == "float32" or checkpoint.family not in MIXTURES:
        eager = plain.run(A)  # which `_patterns` left in eager attention
        section.at_most(f"{named}: logits of eager", largest(cache["logits"], eager), allowed)


def _hold(
    section: Section,
    named: str,
    scope: Any,
    cache: Any,
    own: dict[str, tuple[Any, str]],
    logits: Any,
    allowed: float,
) -> None:
    """Compare each tensor that passed its check, and its error with the one that is promised."""
    worst: dict[str, float] = {}
    ratio, at = 0.0, "logits"
    told = Counter(
        scope.verdicts(capability, layer).status
        for capability in CAPABILITIES
        for layer in range(scope.info().layers)
    )
    readout = scope.verdicts("readout")
    if readout.status == "verified":
        ratio = by_row(cache["logits"], logits) / stated(readout)
    for name, (tensor, capability) in own.items():
        try:
            found = cache[name].flatten(1)
        except ScopeError as error:
            told[f"refused at these rows ({error.message})"[:120]] += 1
            continue
        kind = name.rpartition(".")[2]
        worst[kind] = max(worst.get(kind, 0.0), largest(found, tensor))
        if not capability:
            continue
        verdict = scope.verdicts(capability, int(name.split(".")[1]))
        if verdict.status == "verified":
            share = by_row(found, tensor) / stated(verdict)
            if not share <= ratio:  # NaN, too
                ratio, at = share, name
    for kind, error in worst.items():
        section.at_most(f"{named}: {kind}", error, allowed)
    counted = ", ".join(f"{count} {status}" for status, count in told.items())
    section.tell(f"{named}: verdicts", counted)
    what = f"{named}: largest error of a verified number ÷ what its verdict states, at {at}"
    section.at_most(what, ratio, 1.0)


def _patterns(
    section: Section, named: str, cache: Any, plain: Plain, caught: Any, dtype: str
) -> None:
    """Compare patterns with eager attention, which is given the same stream in each layer.

    In half precision eager attention rounds each score, which moves the logarithm of a weight by
    eps of the score: each head is held to eps times its largest score, twice.
    """
    layers = range(len(plain.layers))
    feeds = [("stream", layer, becomes(ALL, ALL, caught["stream", layer])) for layer in layers]
    patterns = plain.patterns(A, *feeds)
    eps = 0.0 if dtype == "float32" else torch.finfo(DTYPES[dtype]).eps
    worst, share, missing = 0.0, 0.0, 0
    for layer in layers:
        try:
            found = cache[f"layers.{layer}.pattern"]
        except ScopeError:
            missing += 1
            continue
        for head, score in enumerate(_largest_scores(cache, layer)):
            error = largest(found[head], patterns[layer][head])
            worst = max(worst, error)
            part = error / (bound("float32", 1) + 2 * eps * (1 + score))
            if not part <= share:  # NaN, too
                share = part
    if missing:
        section.tell(f"{named}: layers without a verified pattern", missing)
    section.tell(f"{named}: largest error of a pattern", worst)
    what = f"{named}: error of a pattern of eager ÷ what rounding its scores explains"
    section.at_most(what, share, 1.0)


def _largest_scores(cache: Any, layer: int) -> list[float]:
    """Return each head's largest magnitude of queries on keys, by the root of their width."""
    query, key = (cache[f"layers.{layer}.{name}"].float() for name in ("q", "k"))
    key = key.repeat_interleave(len(query) // len(key), dim=0)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    largest_scores: list[float] = scores.abs().flatten(1).amax(1).tolist()
    return largest_scores
