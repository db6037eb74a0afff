"""What is recorded of an edited pass is what it was: all of it, in whatever order it was edited."""

import numpy as np
import pytest
import torch

from llmscope.record.change_hooks import Change, attached
from llmscope.record.derive import row_stats, tensors
from tests.families import small_model
from tests.record.by_hand import A, B, becomes, plus, times
from tests.record.interventions.test_edited import (
    ALL,
    EACH,
    HYBRID,
    MORE,
    holds,
    made,
    most,
    near,
    scope_for,
)
from tests.thinned import thinned

__all__ = ["made"]

COMPOSED = {
    # edits, and the same by hand
    "two at one place": (
        ["scale head 1.2 3 @2..", "patch head 1.2 @5 from B"],
        lambda p, s: [
            ("heads", 1, times(slice(2, 13), p.head(2), 3.0)),
            ("heads", 1, becomes(slice(5, 6), p.head(2), s["heads"][5:6, p.head(2)])),
        ],
    ),
    "steered, then patched": (
        ["steer 0 token id:17 2 @4..", "patch stream 0 @6..8 from B"],
        lambda p, s: [
            ("stream", 1, plus(slice(4, 13), 2 * s["row"])),
            ("stream", 1, becomes(slice(6, 9), ALL, s["stream"][6:9])),
        ],
    ),
    "patched, then scaled": (
        ["patch mlp 1 @3.. from B", "scale mlp 1 -2 @..7"],
        lambda p, s: [
            ("mlp", 1, becomes(slice(3, 13), ALL, s["mlp"][3:])),
            ("mlp", 1, times(slice(0, 8), ALL, -2.0)),
        ],
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("family", most(*EACH, *MORE))
def test_edits_at_one_place_are_made_in_their_order(made, family, name):
    scope, plain = made(family)
    edits, by_hand = COMPOSED[name]
    theirs = {site: plain.seen(B, site, 1) for site in ("heads", "mlp", "stream")}
    theirs["row"] = plain.model.get_submodule(plain.places["unembed"]).weight[17].detach()
    alterations = by_hand(plain, theirs)
    one, other = plain.run(A, *alterations), plain.run(A, *alterations[::-1])
    assert float((one - other).abs().max()) > 1e-4 * float(one.abs().max())  # the order matters
    holds(scope, one, *edits)
    holds(scope, other, *edits[::-1])


@pytest.mark.parametrize("family", most(*EACH, *MORE))
def test_edits_at_several_places_together(made, family):
    scope, plain = made(family)
    edits = [
        "zero attention 2 @5..",
        "scale head 0.1 0.5",
        "patch mlp 1 @-3 from B @2",
        "steer 1 token id:9 1.5 @..6",
        "mean head 2.3",
    ]
    row = plain.model.get_submodule(plain.places["unembed"]).weight[9].detach()
    columns = plain.head(3)
    alterations = [
        ("attention", 2, times(slice(5, 13), ALL, 0.0)),
        ("heads", 0, times(ALL, plain.head(1), 0.5)),
        ("mlp", 1, becomes(slice(10, 11), ALL, plain.seen(B, "mlp", 1)[2])),
        ("stream", 2, plus(slice(0, 7), 1.5 * row)),
        ("heads", 2, becomes(ALL, columns, plain.seen(A, "heads", 2)[:, columns].mean(0))),
    ]
    own = plain.run(A, *alterations)
    for order in (edits, edits[::-1], edits[2:] + edits[:2]):
        recording = holds(scope, own, *order)
        assert [str(edit) for edit in recording.edits] == order


EVERYTHING = ["patch stream embed from B"]
BY_PARTS = [
    "patch stream embed from B",
    *(f"patch {part} {layer} from B" for layer in range(3) for part in ("attention", "mlp")),
]
BY_LAYERS = ["patch stream embed from B", *(f"patch layer {layer} from B" for layer in range(3))]


@pytest.mark.parametrize("edits", [EVERYTHING, BY_PARTS, BY_LAYERS], ids=["embed", "parts", "all"])
@pytest.mark.parametrize("family", most(*EACH, *MORE, *HYBRID))
@pytest.mark.few(4)
def test_with_everything_patched_it_is_the_other_prompt(family, edits):
    scope = scope_for(small_model(family))
    if family in HYBRID and edits is BY_PARTS:
        edits = ["patch stream embed from B"]
    theirs = scope.record(B, fresh=True)
    recording = scope.record(A, edits=edits, versus_prompt=B, fresh=True)
    assert torch.equal(recording.logits, theirs.logits)
    for layer in range(4):
        assert torch.equal(recording.rows("stream", layer), theirs.rows("stream", layer))
    own = tensors.logits(theirs, 0, len(B))
    assert torch.equal(tensors.logits(recording, 0, len(A)), own)
    with torch.no_grad():
        plain = small_model(family)(input_ids=torch.tensor([B]), use_cache=False).logits[0]
    near(tensors.logits(recording, 0, len(A)), plain.float())


def bits(recording):
    """All that is kept of a pass, copied."""
    kept = [recording.rows("stream", layer) for layer in range(recording.layers + 1)]
    for name in ("query", "attention_write", "mixer_write", "mlp_write", "activity"):
        kept += [recording.rows(name, layer) for layer in range(recording.layers)]
    kept += [*recording.keys, *recording.values, recording.logits]
    return [None if tensor is None else tensor.clone() for tensor in kept]


def same_bits(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine, theirs)


IDLE = [
    "steer embed token id:17 0",
    "steer 1 token id:17 0 @3..",
    "scale head 1.2 1",
    "scale attention 0 1",
    "scale mlp 2 1 @2",
    "scale layer 1 1",
]


@pytest.mark.parametrize("family", most(*EACH, *MORE))
def test_strength_0_and_factor_1_change_no_bit(family):
    scope = scope_for(small_model(family))
    own = bits(scope.record(A, fresh=True))
    recording = scope.record(A, edits=IDLE, fresh=True)
    assert recording.changes == ()
    assert recording.base is not None
    same_bits(bits(recording), own)
    for edit in IDLE:
        same_bits(bits(scope.record(A, edits=[edit])), own)


@pytest.mark.parametrize("family", most(*EACH, *MORE))
def test_hooks_that_change_nothing_change_no_bit(family):
    scope = scope_for(small_model(family))
    anatomy, width = scope.loaded_model.anatomy, scope.loaded_model.anatomy.width
    vector = torch.randn(width)
    changes = [Change("stream", at, range(13), added=0.0 * vector) for at in range(4)]
    for layer in range(3):
        sites = ["heads", "attention_write", "mlp_write"]
        sites += ["neurons"] if anatomy.layers[layer].down is not None else []
        changes += [Change(site, layer, range(2, 13), factor=1.0) for site in sites]
    with torch.no_grad():
        own = scope.model(input_ids=torch.tensor([A])).logits
        with attached(anatomy, changes):
            found = scope.model(input_ids=torch.tensor([A])).logits
        assert torch.equal(found, own)
        with attached(anatomy, changes, jobs=((), ())):
            found = scope.model(input_ids=torch.tensor([A, B])).logits
        assert torch.equal(found, scope.model(input_ids=torch.tensor([A, B])).logits)
        assert torch.equal(scope.model(input_ids=torch.tensor([A])).logits, own)
    values = scope.record(A, fresh=True)
    own, recorder = bits(values), scope.recorder  # it is examined before foreign hooks are on
    # What is there already, patched in: nothing moves.
    kept = [Change("stream", at, range(13), values=values.rows("stream", at)) for at in range(4)]
    with attached(anatomy, kept):
        same_bits(bits(recorder.record(values.prompt, fresh=True)), own)
    scope.recorder.forget()


EDITED = {
    "zero": ["zero head 1.2 @3.."],
    "scale": ["scale attention 1 -2 @4..", "scale mlp 1 0.5 @2"],
    "patch": ["patch attention 1 @5.. from B", "patch stream 1 @7 from B"],
    "steer": ["steer 0 token id:17 2 @6..", "steer -1 token id:5 3 @-1"],
    "neuron": ["scale neuron 1.30 4 @2..", "zero neuron 1.7"],
    "mean": ["mean mlp 0", "mean head 1.1 @-2"],
}


def by_hand(plain, name):
    row = plain.model.get_submodule(plain.places["unembed"]).weight.detach()
    return {
        "zero": lambda: [("heads", 1, times(slice(3, 13), plain.head(2), 0.0))],
        "scale": lambda: [
            ("attention", 1, times(slice(4, 13), ALL, -2.0)),
            ("mlp", 1, times(slice(2, 3), ALL, 0.5)),
        ],
        "patch": lambda: [
            ("attention", 1, becomes(slice(5, 13), ALL, plain.seen(B, "attention", 1)[5:])),
            ("stream", 2, becomes(slice(7, 8), ALL, plain.seen(B, "stream", 2)[7])),
        ],
        "steer": lambda: [
            ("stream", 1, plus(slice(6, 13), 2 * row[17])),
            ("stream", 3, plus(slice(12, 13), 3 * row[5])),
        ],
        "neuron": lambda: [
            ("neurons", 1, times(slice(2, 13), slice(30, 31), 4.0)),
            ("neurons", 1, times(ALL, slice(7, 8), 0.0)),
        ],
        "mean": lambda: [
            ("mlp", 0, becomes(ALL, ALL, plain.seen(A, "mlp", 0).mean(0))),
            (
                "heads",
                1,
                becomes(
                    slice(11, 12),
                    plain.head(1),
                    plain.seen(A, "heads", 1)[:, plain.head(1)].mean(0),
                ),
            ),
        ],
    }[name]()


WHOLE = thinned(
    ("gpt2", "llama", "gpt_neox", "gemma2", "granite", "opt", "bloom", "falcon", "mixtral"),
    lambda family: family in ("gpt2", "gemma2", "mixtral"),
)


@pytest.mark.few(8)
@pytest.mark.parametrize("name", EDITED)
@pytest.mark.parametrize("family", WHOLE)
def test_all_that_is_recorded_is_what_a_hooked_model_shows(made, family, name):
    scope, plain = made(family)
    neurons = plain.places["neurons"] is not None
    if name == "neuron" and not neurons:
        pytest.skip("its neurons are not one row")
    alterations = by_hand(plain, name)
    scale = scope.loaded_model.anatomy.layers[0].scale("mlp_write")
    seen = [("stream", layer) for layer in range(4)]
    parts = ("heads", "attention", "mlp", *(("neurons",) if neurons else ()))
    seen += [(part, layer) for layer in range(3) for part in parts]
    logits, own = plain.run(A, *alterations, seen=seen)
    patterns = plain.patterns(A, *alterations)
    # Other recordings before, of which rows are shared, and a look at them in between.
    scope.record(A[:8])
    base = scope.record(A)
    recording = scope.record(A, edits=EDITED[name], versus_prompt=B)
    for look in (recording, base, recording):
        if look is recording:
            check_whole(look, own, patterns, logits, scale, parts)
        else:
            untouched = plain.run(A, seen=seen)
            check_whole(look, untouched[1], plain.patterns(A), untouched[0], scale, parts)
    for figure in (
        scope.look("attention", recording=recording, layer=1, head=2),
        scope.look("residual", recording=recording),
        scope.look("tokens", recording=recording),
        scope.look("next-token", recording=recording),
        *([scope.look("mlp", recording=recording, layer=1)] if neurons else []),
    ):
        assert figure.verdict.status == "verified", (figure.lens, figure.verdict)
        assert np.isfinite(figure.values).any()


def check_whole(recording, own, patterns, logits, scale, parts):
    count = len(recording)
    near(tensors.logits(recording, 0, count), logits)
    for layer in range(4):
        near(recording.rows("stream", layer), own["stream", layer])
    near(torch.tensor(row_stats.norms(recording, "stream")[-1]), own["stream", 3].norm(dim=-1))
    for layer in range(3):
        near(recording.rows("attention_write", layer), own["attention", layer] * scale)
        near(recording.rows("mlp_write", layer), own["mlp", layer] * scale)
        near(tensors.head_outputs(recording, layer).flatten(1), own["heads", layer])
        near(tensors.attention_output(recording, layer), own["attention", layer] * scale)
        assert float((tensors.pattern(recording, layer) - patterns[layer]).abs().max()) <= 1e-5
        if "neurons" in parts:
            near(tensors.activations(recording, layer), own["neurons", layer])
            near(tensors.mlp_output(recording, layer), own["mlp", layer] * scale)
            size = own["neurons", layer].norm(dim=-1)
            near(torch.tensor(row_stats.activity(recording)[layer]), size)
    *_, stats = row_stats.row_stats(recording)
    bits_of = torch.log_softmax(logits.double(), -1) / np.log(2)
    entropy = -(bits_of.exp2() * bits_of).sum(-1)
    surprisal = -bits_of[range(count - 1), list(recording.prompt.ids[1:])]
    assert stats.entropy == pytest.approx(entropy.numpy(), abs=1e-4)
    assert stats.surprisal[1:] == pytest.approx(surprisal.numpy(), abs=1e-4)


@pytest.mark.parametrize(
    "edits", [EDITED["steer"], ["steer 0 token id:17 3", "freeze norm final @2.."]]
)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_the_logit_lens_ends_in_what_the_edited_pass_says(made, family, edits):
    scope, _ = made(family)
    recording = scope.record(A, edits=edits)
    own = torch.softmax(tensors.logits(recording, 0, len(A)), -1)
    figure = scope.look("logit-lens", mode="target", target=31)
    assert figure.values[-1] == pytest.approx(own[:, 31].numpy(), rel=1e-4, abs=1e-6)
    figure = scope.look("logit-lens")
    assert figure.values[-1] == pytest.approx(own.max(-1).values.numpy(), rel=1e-4, abs=1e-6)
    figure = scope.look("logit-lens", recording=recording.base, mode="target", target=31)
    own = torch.softmax(tensors.logits(recording.base, 0, len(A)), -1)
    assert figure.values[-1] == pytest.approx(own[:, 31].numpy(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon"])
def test_a_fresh_edited_pass_has_the_same_bits_every_time(family):
    scope = scope_for(small_model(family))
    edits = ["steer 0 token id:17 3 @-2..", "zero head 1.2 @5.."]
    own = bits(scope.record(A, edits=edits, fresh=True))
    for ids in (A[:9], [*A, 3], [*A[:4], 9, *A[4:]]):
        scope.record(ids, edits=edits)
        recording = scope.record(A, edits=edits, fresh=True)
        assert (recording.ran, recording.reused) == (len(A), 0)
        same_bits(bits(recording), own)


ATTRIBUTED = {
    **EDITED,
    "zero attention": ["zero attention 1"],
    "scale layer": ["scale layer 1 2 @4.."],
    "several": ["steer 0 token id:17 2", "scale attention 2 0.5", "zero head 1.0", "zero mlp 0"],
    "embed": ["patch stream embed @3.. from B", "steer embed token id:4 2"],
    "frozen": ["steer 0 token id:17 2", "freeze norm final"],
    "frozen here": ["steer 0 token id:17 2", "freeze norm final @-1"],
}


@pytest.mark.parametrize("name", ATTRIBUTED)
@pytest.mark.parametrize("family", WHOLE)
@pytest.mark.few(13)
def test_attribution_sums_to_the_logit_of_the_edited_pass(made, family, name):
    scope, plain = made(family)
    neurons = plain.places["neurons"] is not None
    if name == "neuron" and not neurons:
        pytest.skip("its neurons are not one row")
    recording = scope.record(A, edits=ATTRIBUTED[name], versus_prompt=B)
    for position in (12, 7):
        own = tensors.logits(recording, position, position + 1)[0]
        for mode in ("parts", "heads", "layers", *(("neurons",) if neurons else ())):
            inside = {"layer": 1} if mode == "neurons" else {}
            figure = scope.look("attribution", position=position, target=31, mode=mode, **inside)
            assert figure.verdict.status in ("verified", "partial"), (mode, figure.verdict)
            if figure.verdict.status == "partial":  # an attention that was replaced is one part
                assert "an edit replaces" in figure.verdict.reason
                assert mode in ("parts", "heads")
            softcap, logit = figure.extra["softcap"], figure.extra["logit"]
            capped = logit if softcap is None else softcap * np.tanh(logit / softcap)
            assert capped == pytest.approx(float(own[31]), rel=1e-4, abs=1e-4)
            assert figure.extra["sum"] == pytest.approx(logit, rel=1e-4, abs=1e-4)
        if name in ("steer", "several") or (name, position) == ("patch", 7):
            figure = scope.look("attribution", position=position, target=31, top_k=99)
            assert "edit" in figure.extra["kinds"]
