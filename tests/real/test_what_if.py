"""What if, on a real model: which heads hold up an answer, and what carries another one over."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.xdist_group("smollm2")
A = "When Mary and John went to the store, John gave a drink to"
B = "When Mary and John went to the store, Mary gave a drink to"
SECOND = 9
"""The position of the name that is said again."""
NAMED = {(23, 3): 2.855, (29, 1): 1.730, (24, 4): -1.071}
"""The best three heads by attribution of ‹ Mary› − ‹ John›, and what they add."""


@pytest.fixture(scope="module")
def names(smollm2):
    ids = [smollm2.encode(name, special_tokens=False).ids[0] for name in (" Mary", " John")]
    return {"target": ids[0], "versus": ids[1]}


@pytest.fixture(scope="module")
def recording(smollm2):
    """One for all: a sweep is kept with it, and run once."""
    return smollm2.record(A, fresh=True)


def zeroed(plain, ids, names, layer, head):
    """LD without a head, by a hook on plain transformers."""

    def silence(_, args):
        joined = args[0].clone()
        joined[..., head * 64 : head * 64 + 64] = 0
        return (joined,)

    project = plain.model.layers[layer].self_attn.o_proj
    hook = project.register_forward_pre_hook(silence)
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([ids])).logits[0, -1].double()
    hook.remove()
    return float(logits[names["target"]] - logits[names["versus"]])


@pytest.mark.slow
def test_the_heads_that_attribution_names_break_the_answer_in_its_order(
    smollm2, plain, recording, names
):
    heads = smollm2.look("attribution", recording=recording, mode="heads", **names).values
    largest = np.argsort(-np.abs(heads), axis=None)[:3]
    assert [divmod(int(place), 9) for place in largest] == list(NAMED)
    figure = smollm2.look("ablation", recording=recording, **names)
    own = figure.extra["logit"]
    # What a head adds is gone without it, but for what later layers make of that.
    moved = [float(figure.values[place]) for place in NAMED]
    assert moved == pytest.approx([-3.044, -1.677, 0.723], abs=0.01)
    assert np.sign(moved).tolist() == [-np.sign(added) for added in NAMED.values()]
    assert moved == sorted(moved)
    assert np.abs(moved).tolist() == sorted(np.abs(moved), reverse=True)
    assert np.abs(figure.values).argmax() == 23 * 9 + 3  # and no other of all 270 breaks more
    for (layer, head), change in zip(NAMED, moved, strict=True):
        without = zeroed(plain, recording.prompt.ids, names, layer, head)
        assert change == pytest.approx(without - own, abs=1e-3)
    edited = smollm2.record(A, edits=["zero head 23.3", "zero head 29.1"])
    both = float(edited.logits[names["target"]] - edited.logits[names["versus"]])
    assert both == pytest.approx(2.170, abs=0.01)


@pytest.mark.slow
def test_the_other_name_travels_from_where_it_stands_to_where_it_is_said(smollm2, recording, names):
    other = smollm2.prompt(B).ids
    asked = {**names, "versus_prompt": other, "recording": recording}
    stream = smollm2.look("patching", **asked)
    last = len(recording) - 1
    assert stream.extra["differ"] == (SECOND,)
    assert stream.extra["difference"] == pytest.approx(6.120, abs=0.01)
    assert stream.extra["versus_difference"] == pytest.approx(-5.485, abs=0.01)
    assert (stream.values[:, :SECOND] == 0).all()
    # Up to layer 18 it is all where the name stands; from layer 23 on where it is said.
    assert np.abs(stream.values[:20, SECOND] - 1).max() < 0.05
    assert np.abs(stream.values[:20, last]).max() < 0.02
    assert np.abs(stream.values[24:, last] - 1).max() < 0.05
    assert np.abs(stream.values[24:, SECOND]).max() < 0.05
    assert stream.values[-1, last] == pytest.approx(1, abs=1e-5)
    attention = smollm2.look("patching", mode="attention", **asked).values
    assert np.unravel_index(np.nanargmax(attention), attention.shape) == (23, last)
    assert attention[23, last] == pytest.approx(0.915, abs=0.01)
    heads = smollm2.look("patching", mode="heads", **asked).values
    assert np.unravel_index(np.argmax(heads), heads.shape) == (23, 3)
    assert heads[23, 3] == pytest.approx(0.610, abs=0.01)


@pytest.mark.slow
def test_a_patch_of_a_stream_is_that_of_a_hook(smollm2, plain, recording, names):
    other = smollm2.prompt(B).ids
    figure = smollm2.look("patching", recording=recording, versus_prompt=other, **names)

    def run(ids, change=None):
        hook = plain.model.layers[21].register_forward_pre_hook(change) if change else None
        with torch.no_grad():
            output = plain(input_ids=torch.tensor([ids]), output_hidden_states=True)
        if hook is not None:
            hook.remove()
        logits = output.logits[0, -1].double()
        return float(logits[names["target"]] - logits[names["versus"]]), output.hidden_states[21]

    (own, _), (there, stream) = run(recording.prompt.ids), run(other)
    for place in (SECOND, len(recording) - 1):

        def put(_, args, place=place):
            rows = args[0].clone()
            rows[:, place] = stream[:, place]
            return (rows, *args[1:])

        share = (run(recording.prompt.ids, put)[0] - own) / (there - own)
        assert figure.values[21, place] == pytest.approx(share, abs=1e-4)


def path_by_hand(plain, ids, other, sender, receiver):
    """Logits with the edge from a head to another's queries, by three passes with hooks."""
    layers, (first, head), (last, reader) = plain.model.layers, sender, receiver

    def run(ids, changes=(), seen=()):
        caught, handles = {}, []
        for module, change in changes:
            handles.append(module.register_forward_hook(change))
        for module in seen:
            keep = lambda one, args, output: caught.__setitem__(one, (args, output))  # noqa: E731
            handles.append(module.register_forward_hook(keep))
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([ids])).logits[0, -1].double()
        for handle in handles:
            handle.remove()
        return logits, caught

    project = layers[first].self_attn.o_proj
    _, theirs = run(other, seen=[project])
    parts = [part for layer in layers for part in (layer.self_attn, layer.mlp)]
    _, ours = run(ids, seen=[*parts, project])
    joined = ours[project][0][0].clone()
    some = slice(64 * head, 64 * head + 64)
    joined[..., some] = theirs[project][0][0][..., some]
    written = torch.nn.functional.linear(joined, project.weight)
    frozen = [(part, lambda one, *_: ours[one][1]) for part in parts[: 2 * last]]
    frozen = [(part, change) for part, change in frozen if part is not layers[first].self_attn]
    queries = layers[last].self_attn.q_proj
    _, read = run(ids, [(project, lambda *_: written), *frozen], [queries])

    def put(_, args, output):
        output = output.clone()
        some = slice(64 * reader, 64 * reader + 64)
        output[..., some] = read[queries][1][..., some]
        return output

    return run(ids, [(queries, put)])[0]


@pytest.mark.slow
def test_the_edge_to_the_queries_of_a_head_is_that_of_hooks(smollm2, plain, names):
    recording = smollm2.record(A, fresh=True)
    ids, other = recording.prompt.ids, smollm2.encode(B).ids

    def difference(logits):
        return float(logits[names["target"]] - logits[names["versus"]])

    with torch.no_grad():
        ours, theirs = (
            difference(plain(input_ids=torch.tensor([one])).logits[0, -1].double())
            for one in (list(ids), list(other))
        )
    asked = {"receiver": "head 23.3.q", "versus_prompt": other, **names}
    figure = smollm2.look("patching", recording=recording, mode="paths", **asked)
    values = np.nan_to_num(figure.values)
    assert np.isnan(figure.values[23:]).all()
    largest = np.argsort(-np.abs(values[:, :9]), axis=None)[:3]
    for layer, column in (divmod(int(place), 9) for place in largest):
        logits = path_by_hand(plain, list(ids), list(other), (layer, column), (23, 3))
        share = (difference(logits) - ours) / (theirs - ours)
        assert values[layer, column] == pytest.approx(share, abs=3e-5)
        edit = f"patch head {layer}.{column} into head 23.3.q from B"
        moved = smollm2.record(A, edits=[edit], versus_prompt=B)
        assert difference(moved.logits) == pytest.approx(difference(logits), abs=1e-3)


@pytest.mark.slow
def test_what_the_documentation_says_of_paths(smollm2, names):
    recording = smollm2.record(A, fresh=True)
    asked = {"mode": "paths", "versus_prompt": smollm2.encode(B).ids, **names}
    straight = smollm2.look("patching", recording=recording, **asked).values
    told = [straight[23, 3], straight[29, 1], straight[29, 0], straight[24, 4]]
    assert told == pytest.approx([0.53, 0.26, -0.20, -0.17], abs=0.005)
    values, queries, keys = (
        smollm2.look(
            "patching", recording=recording, receiver=f"head 23.3.{letter}", **asked
        ).values
        for letter in "vqk"
    )
    assert [values[0, 9], values[21, 9]] == pytest.approx([0.31, 0.10], abs=0.006)
    assert max(np.nanmax(np.abs(queries)), np.nanmax(np.abs(keys))) < 0.05


def test_a_word_that_the_last_token_may_not_read_is_not_repeated(smollm2, plain):
    """Attention knockout, beside a mask by hand: docs/what-if.md."""
    text = "The vase, the piano, the lantern, the pigeon. The vase, the piano, the lantern, the"
    edits = [f"block attention {layer} @-1 from @10" for layer in range(30)]
    recording = smollm2.record(text, edits=edits)
    assert recording.prompt.labels[10] == " pigeon"
    count = len(recording)
    mask = torch.zeros(1, 1, count, count).masked_fill(
        torch.ones(count, count).triu(1).bool(), -torch.inf
    )
    mask[0, 0, -1, 10] = -torch.inf
    hooks = [
        layer.self_attn.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {**kwargs, "attention_mask": mask}), with_kwargs=True
        )
        for layer in plain.model.layers
    ]
    try:
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([recording.prompt.ids])).logits[0, -1]
    finally:
        for hook in hooks:
            hook.remove()
    assert float((recording.logits - logits).abs().max()) < 1e-4 * float(logits.abs().max())
    shares = {}
    for name, of in (("base", recording.base), ("edited", recording)):
        figure = smollm2.look("next-token", recording=of)
        shares[name] = (figure.axes[0].labels[0], round(float(figure.values[0]), 3))
    assert shares == {"base": (" pigeon", 0.892), "edited": (" lantern", 0.500)}
