"""A prompt that grows, is cut and edited: each step equals a pass of the whole prompt."""

from __future__ import annotations

from collections.abc import Iterator

from tests.gpu.errors import bound, largest
from tests.gpu.report import Section
from tests.gpu.setting import Checkpoint, Setting
from tests.record.by_hand import A, B

FAMILIES = (("llama", "gpt2"), ("gemma2", "mixtral", "qwen3_moe", "opt"))
"""Those of a quick run, and the others."""
HALVES = ("llama", "gpt2")
"""Families that run in half precision too: experts may be chosen otherwise after a rounding."""
LONG = 2_100
"""Tokens of a prompt that runs in three parts."""


def check(setting: Setting, section: Section) -> None:
    """Walk through the steps with each family, and once with a prompt that runs in parts."""
    families = FAMILIES[0] if setting.quick else (*FAMILIES[0], *FAMILIES[1])
    for checkpoint in setting.checkpoints(section, families):
        halves = ("bfloat16", "float16") if checkpoint.family in HALVES else ()
        for dtype in ("float32", *halves):
            _walk(setting, section, checkpoint, dtype)
            setting.free()
    if not setting.quick:
        _in_parts(setting, section)


def steps() -> Iterator[tuple[str, list[int]]]:
    """Yield what is done to the prompt, and the prompt after it."""
    ids = list(A[:4])
    yield "begins", list(ids)
    for token in A[4:8]:
        ids.append(token)
        yield "grows by one", list(ids)
    ids += [*A[8:], *B[:6]]
    yield "grows by many", list(ids)
    ids[9] = 41
    yield "has another token in the middle", list(ids)
    del ids[-5:]
    yield "is cut", list(ids)
    ids[5:5] = [33, 2, 71]
    yield "has three more in the middle", list(ids)
    del ids[7:10]
    yield "has three fewer in the middle", list(ids)
    ids[-1] = 19
    yield "has another last token", list(ids)
    ids[0] = 90
    yield "has another first token", list(ids)
    ids += B
    yield "grows by many again", list(ids)
    yield "is one of before", list(A)


def _walk(setting: Setting, section: Section, checkpoint: Checkpoint, dtype: str) -> None:
    scope, plain = setting.scope(checkpoint.folder, dtype), setting.plain(checkpoint, dtype)
    named, layers = f"{checkpoint.name} {dtype}", len(plain.layers)
    worst, at, reused = 0.0, "", 0
    seen = [("stream", layer) for layer in range(layers + 1)]
    for what, ids in steps():
        recording = scope.record(ids)
        reused += recording.reused
        cache = recording.cache()
        logits, caught = plain.run(ids, seen=seen)
        found = {"logits": largest(cache["logits"], logits)}
        for layer in range(layers):
            stream = cache[f"layers.{layer}.resid_post"]
            found[f"stream {layer}"] = largest(stream, caught["stream", layer + 1])
        for name, error in found.items():
            if not error <= worst:  # NaN, too
                worst, at = error, f"{name} after it {what}"
    limit = bound(dtype, layers)
    section.at_most(f"{named}: largest error ({at or 'each is equal'})", worst, limit)
    section.at_least(f"{named}: tokens reused in all steps", reused, 50)


def _in_parts(setting: Setting, section: Section) -> None:
    """Grow a long prompt by a token and edit its middle."""
    checkpoint = setting.checkpoint("llama", "llama-long", max_position_embeddings=4096)
    scope, plain = setting.scope(checkpoint.folder, "float32"), setting.plain(checkpoint, "float32")
    ids = [(7 * at * at + 3 * at) % 90 for at in range(LONG)]
    last = len(plain.layers) - 1
    limit = bound("float32", last + 1)
    for what in ("recorded in parts", "one token longer", "edited in the middle"):
        if what == "one token longer":
            ids.append(17)
        elif what == "edited in the middle":
            ids[LONG // 2] = 5
        recording = scope.record(ids)
        logits, caught = plain.run(ids, seen=[("stream", last + 1)])
        error = largest(recording.logits, logits[-1])
        section.at_most(f"{len(ids)} tokens, {what}: last logits", error, limit)
        stream = recording.cache()[f"layers.{last}.resid_post"]
        error = largest(stream, caught["stream", last + 1])
        section.at_most(f"{len(ids)} tokens, {what}: last stream", error, limit)
