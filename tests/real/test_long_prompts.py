"""A prompt of 2,600 tokens of the real model, in chunks, its rows released, against one pass."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from llmscope.record.derive.row_stats import row_stats
from llmscope.record.derive.tensors import pattern

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smollm2"), pytest.mark.timeout(900)]
LENGTH = 2600
BOUND = 1e-4


@pytest.fixture(scope="module")
def ids(smollm2):
    text = (Path(__file__).parents[2] / "LICENSE").read_text("utf-8")
    return list(smollm2.prompt(text * 3).ids[:LENGTH])


@pytest.fixture(scope="module")
def within(smollm2):
    """The scope with room for the rows of a single chunk; the long pass is run once for all."""
    before, smollm2.recorder.budget.limit = smollm2.recorder.budget.limit, 300 << 20
    smollm2.forget()
    yield smollm2
    smollm2.recorder.budget.limit = before
    smollm2.forget()


@torch.no_grad()
def one_pass(plain, ids, layers):
    """Logits after each token, and the streams before some layers, of one pass without a cache."""
    streams = {}
    hooks = [
        plain.model.layers[layer].register_forward_pre_hook(
            lambda _, args, kwargs, layer=layer: streams.__setitem__(layer, args[0][0].clone()),
            with_kwargs=True,
        )
        for layer in layers
    ]
    logits = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return logits, streams


def off(found, own):
    return float((found - own).abs().max() / own.abs().max())


def test_every_number_is_that_of_one_pass(within, plain, ids):
    recording = within.record(ids)
    assert len(recording.parts) == 3
    assert recording.released >= 1024
    logits, streams = one_pass(plain, ids, (1, 15, 29))
    assert off(recording.logits, logits[-1]) <= BOUND
    for layer, own in streams.items():
        for rows in (range(100, 180), range(1000, 1060), range(LENGTH - 40, LENGTH)):
            found = recording.rows("stream", layer, rows)
            assert off(found, own[rows.start : rows.stop]) <= BOUND
    *_, stats = row_stats(recording)
    chosen = torch.log_softmax(logits.double(), -1)
    own = -chosen[range(LENGTH - 1), ids[1:]].numpy() / np.log(2)
    assert np.abs(stats.surprisal[1:] - own).max() <= 2e-4  # bits, of up to 30
    entropy = -(chosen.exp() * chosen).sum(-1).numpy() / np.log(2)
    assert np.abs(stats.entropy - entropy).max() <= 2e-4
    figure = within.look("logit-lens", recording=recording, span=(200, 210), position=205)
    with torch.no_grad():
        read = plain.lm_head(plain.model.norm(streams[15][200:210]))
    found = figure.values[15][200:210]  # after layer 14: what layer 15 reads
    assert np.abs(found - torch.softmax(read, -1).max(-1).values.numpy()).max() <= BOUND


def test_one_query_sees_all_keys(within, plain, ids):
    recording = within.record(ids)
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        own = plain(input_ids=torch.tensor([ids[:1400]]), output_attentions=True).attentions
    plain.set_attn_implementation("sdpa")
    for layer in (0, 14, 29):
        found = pattern(recording, layer, rows=range(1390, 1400))[:, :, :1400]
        assert float((found - own[layer][0][:, 1390:1400]).abs().max()) <= BOUND


def test_random_edits_equal_fresh_passes(within, plain, ids):
    chance, ids = random.Random(4), list(ids)
    within.record(ids)
    for _ in range(3):
        at = chance.randrange(1200, LENGTH - 200)
        ids[at : at + chance.choice((0, 1, 3))] = [chance.randrange(49152) for _ in range(2)]
        recording = within.record(ids)
        assert recording.reused == at
        assert recording.ran == len(ids) - at
        logits, streams = one_pass(plain, ids, (20,))
        assert off(recording.logits, logits[-1]) <= BOUND
        assert (
            off(
                recording.rows("stream", 20, range(at - 30, at + 30)),
                streams[20][at - 30 : at + 30],
            )
            <= BOUND
        )
