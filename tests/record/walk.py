"""A random walk of edits: at each step the reused recording against one from scratch."""

import random

import numpy as np
import torch

from llmscope.record.derive import row_stats, tensors, token_maps
from llmscope.support.sandbox import Cancelled
from tests.record.conftest import prompt_of


def edited(ids, vocabulary, chance, longest):
    """The ids after an insertion, deletion or replacement of a few tokens somewhere."""
    ids = list(ids)
    place = chance.randrange(len(ids) + 1) if chance.random() < 0.6 else len(ids)
    new = [chance.randrange(vocabulary) for _ in range(chance.choice((1, 1, 1, 2, 5)))]
    kind = chance.choice(("insert", "insert", "delete", "replace"))
    cut = 0 if kind == "insert" else len(new)
    ids[place : place + cut] = [] if kind == "delete" else new
    return ids[:longest] or [chance.randrange(vocabulary)]


def figures(recording, layer):
    """What panes show: probabilities and patterns; streams and logits, to compare by scale."""
    logits = tensors.logits_after(recording, len(recording) - 1)
    exact = [torch.softmax(logits, -1).numpy()]
    streams = [recording.rows("stream", at).numpy() for at in (layer, recording.layers)]
    parts = recording.model.anatomy.layers[layer]
    if parts.mapped is not None:
        rows = range(len(recording))
        # Not the largest of all heads: of two that are all but equal, rounding chooses.
        streams.append(token_maps.reduced_maps(recording, layer, rows, largest=False).numpy())
        streams.append(token_maps.whole_map(recording, layer, 1, rows).numpy())
        streams += [part.numpy() for part in token_maps.mixed_by_maps(recording, layer, [0], rows)]
    elif parts.attention is not None:
        exact.append(tensors.pattern(recording, layer).numpy())
    if recording.model.anatomy.layers[layer].down is not None:
        streams.append(tensors.activations(recording, layer).numpy())
    return exact, [*streams, logits.numpy()]


def compare(found, own, limit=1e-5):
    """Probabilities and patterns within a limit, the rest within it of the largest magnitude."""
    for one, other in zip(found[0], own[0], strict=True):
        assert np.abs(one - other).max() <= limit
    for one, other in zip(found[1], own[1], strict=True):
        assert np.abs(one - other).max() <= limit * np.abs(other).max()


def abandon(live, ids, chance):
    """Begin a pass and give it up at some layer; whether there was a pass to give up."""
    layers = iter(range(chance.randrange(len(live.model.anatomy.layers))))
    try:
        live.record(prompt_of(ids), cancelled=lambda: next(layers, None) is None)
    except Cancelled:
        return True
    return False


def walk(live, reference, *, steps, longest, seed, limit=1e-5):
    """Edit, sometimes change one's mind mid-pass, and hold each recording against a fresh one.

    Earlier recordings are looked at again at the end: they must still say what they said.
    """
    chance = random.Random(seed)
    vocabulary = live.model.anatomy.vocabulary
    ids = [chance.randrange(vocabulary) for _ in range(longest // 2)]
    kept = []
    ran = reused = cancelled = 0
    for step in range(steps):
        ids = edited(ids, vocabulary, chance, longest)
        if chance.random() < 0.3:
            cancelled += abandon(live, edited(ids, vocabulary, chance, longest), chance)
        recording = live.record(prompt_of(ids))
        ran, reused = ran + recording.ran, reused + recording.reused
        layer = chance.randrange(recording.layers)
        own = figures(reference.record(prompt_of(ids), fresh=True), layer)
        compare(figures(recording, layer), own, limit)
        if step % 20 == 0:
            *_, stats = row_stats.row_stats(recording)
            kept.append((recording, layer, own, stats.entropy))
    for recording, layer, own, entropy in kept:
        compare(figures(recording, layer), own, limit)
        *_, stats = row_stats.row_stats(recording)
        assert np.array_equal(stats.entropy, entropy)
    return ran, reused, cancelled
