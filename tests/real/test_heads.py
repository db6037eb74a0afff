"""Heads of a real model: what the scores call induction heads is what continues a repetition."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.xdist_group("smollm2")
HALF = 25
TAKEN = 5
DRAWS = 12
HEADS, WIDTH = 9, 64


@pytest.fixture(scope="module")
def scores(smollm2):
    smollm2.record("The capital of France is")
    return smollm2.look("heads")


@pytest.fixture(scope="module")
def repeated():
    """Eight random sequences, each said twice; none is the one that the scores came from."""
    generator = np.random.default_rng(7)
    halves = generator.integers(100, 49000, (8, HALF))
    first = np.full((8, 1), 1)
    return torch.tensor(np.concatenate([first, halves, halves], axis=1))


def accuracy(model, ids, without=()):
    """How often the next token is right in the second copy, these heads (layer, head) zeroed."""
    hooks = []
    for layer, head in without:

        def silence(_, args, head=head):
            heads = args[0].clone()
            heads[..., head * WIDTH : (head + 1) * WIDTH] = 0
            return (heads,)

        projection = model.model.layers[layer].self_attn.o_proj
        hooks.append(projection.register_forward_pre_hook(silence))
    with torch.no_grad():
        likeliest = model(input_ids=ids).logits[:, HALF + 1 : -1].argmax(-1)
    for hook in hooks:
        hook.remove()
    return float((likeliest == ids[:, HALF + 2 :]).float().mean())


@pytest.mark.slow
def test_without_its_induction_heads_it_cannot_repeat(scores, plain, repeated):
    order = [divmod(int(at), HEADS) for at in np.argsort(-scores.values, axis=None)]
    whole = accuracy(plain, repeated)
    assert whole >= 0.4
    taken = accuracy(plain, repeated, order[:TAKEN])
    assert taken <= whole / 2
    others = order[TAKEN:]
    drawn = []
    for seed in range(DRAWS):
        places = np.random.default_rng(seed).choice(len(others), TAKEN, replace=False)
        drawn.append(accuracy(plain, repeated, [others[place] for place in places]))
    # A draw may hold one of the few heads that induction heads stand on; most do not.
    assert min(drawn) > taken
    assert sum(one > whole / 2 for one in drawn) >= DRAWS - 1
    assert np.median(drawn) >= 0.9 * whole


def test_scores_equal_those_of_eager_patterns(scores, smollm2, plain):
    sequence = scores.extra["sequence"]
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        own = plain(input_ids=torch.tensor([sequence]), output_attentions=True).attentions
    plain.set_attn_implementation("sdpa")
    rows = range(1 + HALF, 1 + 2 * HALF)
    for mode, back in (("induction", HALF - 1), ("previous-token", 1), ("duplicate-token", HALF)):
        found = smollm2.look("heads", mode=mode).values
        for layer, attention in enumerate(own):
            expected = np.mean([attention[0, :, row, row - back].numpy() for row in rows], axis=0)
            np.testing.assert_allclose(found[layer], expected, atol=1e-5)


def test_in_a_text_too_most_of_them_look_at_what_followed(scores, smollm2):
    """From the second `John` at `went`, which followed the first, if not at the first token."""
    recording = smollm2.record("When Mary and John went to the store, John", fresh=True)
    seen = []
    for at in np.argsort(-scores.values, axis=None)[:TAKEN]:
        layer, head = divmod(int(at), HEADS)
        row = smollm2.look("attention", layer=layer, head=head, mode="no-sink").values[-1]
        seen.append(recording.prompt.labels[int(np.nanargmax(row))])
    assert seen.count(" went") >= 3
