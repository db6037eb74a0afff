"""What edits changed: each figure less the unedited one's, worked out here from plain passes."""

import numpy as np
import pytest
import torch

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses import edit_diff as module
from llmscope.lenses.edit_diff import difference, same_question
from llmscope.record.analysis import logit_lens
from tests.families import small_model
from tests.lenses.asked import options_for
from tests.record.by_hand import A, B, Plain, plus, times
from tests.record.interventions.test_edited import ALL, scope_for

EDITS = ["steer 0 token id:17 2 @4..", "zero head 1.2"]


@pytest.fixture(scope="module")
def scope():
    return scope_for(small_model("llama"))


@pytest.fixture(scope="module")
def plain():
    return Plain("llama")


@pytest.fixture
def recording(scope):
    return scope.record(A, edits=EDITS)


def by_hand(plain):
    row = plain.model.lm_head.weight[17].detach()
    return [
        ("stream", 1, plus(slice(4, 13), 2 * row)),
        ("heads", 1, times(ALL, plain.head(2), 0.0)),
    ]


def test_contrast_without_b_holds_the_edited_pass_against_the_unedited(scope, plain, recording):
    edited, unedited = (
        logits.double().log_softmax(-1) for logits in (plain.run(A, *by_hand(plain)), plain.run(A))
    )
    wanted = (edited.exp() * (edited - unedited)).sum(-1).numpy()
    figure = scope.look("contrast", mode="kl")
    assert figure.values[:, 0] == pytest.approx(wanted, abs=1e-5)
    assert wanted[:4].max() < 0.1 < wanted[4:].max()
    scope.record(A)
    assert scope.look("contrast", mode="kl").missing == "prompt B"


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("position", [12, 7])
def test_next_token_says_what_it_was(scope, plain, recording, position, temperature):
    edited, unedited = (
        (logits[position] / temperature).double().log_softmax(-1)
        for logits in (plain.run(A, *by_hand(plain)), plain.run(A))
    )
    options = {"position": position, "temperature": temperature, "top_k": 7}
    figure = scope.look("next-token", **options)
    ids = figure.extra["ids"]
    top = edited.topk(7)
    assert list(ids) == top.indices.tolist()
    assert figure.values == pytest.approx(top.values.exp().numpy(), abs=1e-5)
    assert figure.extra["unedited"] == pytest.approx(unedited.exp()[ids.copy()].numpy(), abs=1e-5)
    target = int(ids[0])
    assert figure.extra["target_id"] == target
    assert figure.extra["unedited_target_rank"] == 1 + int((unedited > unedited[target]).sum())
    probability = float(unedited[target].exp())
    assert figure.extra["unedited_target_probability"] == pytest.approx(probability, abs=1e-5)
    kl = float((unedited.exp() * (unedited - edited)).sum())
    assert kl > 1e-4
    assert figure.extra["kl"] == pytest.approx(kl, rel=1e-3, abs=1e-6)
    change = scope.look("next-token", change=True, **options)
    expected = (edited.exp() - unedited.exp())[ids.copy()].numpy()
    assert change.values == pytest.approx(expected, abs=1e-5)
    assert change.axes == figure.axes
    assert change.extra["change"] is True
    assert change.extra["kl"] == figure.extra["kl"]
    assert change.title == f"{figure.title} · change"
    aimed = scope.look("next-token", target=33, **options)
    assert aimed.extra["unedited_target_rank"] == 1 + int((unedited > unedited[33]).sum())


def test_an_unedited_pass_has_no_unedited(scope):
    scope.record(A)
    figure = scope.look("next-token")
    assert not {"kl", "unedited", "unedited_target_rank"} & set(figure.extra)
    with pytest.raises(ValueError, match="change: there is nothing to compare with"):
        scope.look("next-token", change=True)


def test_edits_that_change_nothing_change_nothing(scope):
    scope.record(A, edits=["scale head 1.2 1", "steer 1 token id:3 0"])
    figure = scope.look("next-token")
    assert figure.extra["kl"] == 0
    assert np.array_equal(figure.extra["unedited"], figure.values)
    for name in ("next-token", "residual", "attention", "mlp", "tokens", "attribution"):
        change = scope.look(name, change=True, **options_for(name, layer=1))
        values = change.values[np.isfinite(change.values)]
        assert not values.any(), name


def test_edits_that_mend_a_broken_pass():
    model = small_model("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[91] = torch.inf  # which A has at 8
    scope = scope_for(model)
    scope.record(A)
    assert scope.look("next-token").verdict.status == "refused"
    scope.record(A, edits=["patch stream embed @8 from B @0"], versus_prompt=B)
    figure = scope.look("next-token")
    assert figure.verdict.status == "verified"
    assert np.isfinite(figure.values).all()
    assert np.isnan(figure.extra["unedited"]).all()
    assert np.isnan(figure.extra["kl"])
    assert figure.extra["unedited_target_rank"] is None
    assert np.isnan(scope.look("next-token", change=True).values).all()


def test_streams_patterns_and_activations(scope, plain, recording):
    alterations = by_hand(plain)
    seen = [("stream", layer) for layer in range(4)]
    seen += [(part, layer) for layer in range(3) for part in ("attention", "mlp", "neurons")]
    edited, unedited = (plain.run(A, *some, seen=seen)[1] for some in (alterations, []))
    change = scope.look("residual", change=True)
    assert change.axes == scope.look("residual").axes
    for layer in range(4):
        sizes = [of["stream", layer].norm(dim=-1) for of in (edited, unedited)]
        assert change.values[layer] == pytest.approx((sizes[0] - sizes[1]).numpy(), abs=1e-4)
    for mode in ("attention", "mlp"):
        change = scope.look("residual", mode=mode, change=True)
        for layer in range(3):
            sizes = [of[mode, layer].norm(dim=-1) for of in (edited, unedited)]
            assert change.values[layer] == pytest.approx((sizes[0] - sizes[1]).numpy(), abs=1e-4)
    patterns = [plain.patterns(A, *some) for some in (alterations, [])]
    change = scope.look("attention", layer=2, head=1, change=True)
    expected = (patterns[0][2][1] - patterns[1][2][1]).numpy()
    seen = np.tri(13, dtype=bool)
    assert change.values[seen] == pytest.approx(expected[seen], abs=1e-5)
    assert np.isnan(change.values[~seen]).all()
    assert np.abs(expected).max() > 1e-3


def test_the_neurons_of_the_edited_pass_though_others_were_strongest(scope, plain, recording):
    edited, unedited = (plain.seen(A, "neurons", 2, *some) for some in (by_hand(plain), []))
    position, count = next(
        (place, count)
        for place in range(4, 13)
        for count in range(1, 20)
        if set(edited[place].abs().topk(count).indices.tolist())
        != set(unedited[place].abs().topk(count).indices.tolist())
    )
    change = scope.look("mlp", layer=2, position=position, top_k=count, change=True)
    neurons = edited[position].abs().topk(count).indices
    assert [int(label) for label in change.axes[1].labels] == neurons.tolist()
    expected = (edited - unedited)[:, neurons].numpy()
    assert change.values == pytest.approx(expected, abs=1e-4)


def test_one_neuron_is_the_same_in_both(scope, plain, recording):
    edited, unedited = (plain.seen(A, "neurons", 2, *some) for some in (by_hand(plain), []))
    strongest = [of.abs().argmax(-1) for of in (edited, unedited)]
    position = next(p for p in range(4, 13) if strongest[0][p] != strongest[1][p])
    change = scope.look("neurons", layer=2, position=position, change=True)
    neuron = int(strongest[0][position])
    assert change.extra["neuron"] == neuron
    expected = (edited - unedited)[:, neuron].numpy()
    assert change.values == pytest.approx(expected, abs=1e-4)


def test_outlier_dimensions_are_found_again(scope, plain, recording):
    change = scope.look("residual", mode="outliers", position=8, top_k=4, change=True)
    assert change.verdict.status == "verified"
    streams = [
        [plain.seen(A, "stream", at, *some)[8] for at in range(4)] for some in (by_hand(plain), [])
    ]
    for row in range(4):
        ratios = [np.abs(of[row].numpy()) / np.median(np.abs(of[row].numpy())) for of in streams]
        dimensions = [int(label) for label in change.axes[1].labels]
        expected = (ratios[0] - ratios[1])[dimensions]
        assert change.values[row] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("mode", ["layers", "heads", "parts", "neurons"])
def test_attribution_is_of_the_same_token(scope, recording, mode):
    asked = options_for("attribution", mode=mode, layer=1, top_k=6)
    edited = scope.look("attribution", **asked)
    target = edited.extra["target_id"]
    all_of = options_for("attribution", mode=mode, layer=1, target=target, top_k=1000)
    base = scope.look("attribution", recording=recording.base, **all_of)
    change = scope.look("attribution", **asked, change=True)
    assert change.axes == edited.axes
    assert change.extra["target_id"] == target
    if mode in ("layers", "heads"):
        assert change.values == pytest.approx(edited.values - base.values, abs=1e-5, nan_ok=True)
        return
    then = dict(zip(base.axes[0].labels, base.values.tolist(), strict=True))
    for label, now, moved in zip(edited.axes[0].labels, edited.values, change.values, strict=True):
        if label in then:
            assert moved == pytest.approx(now - then[label], abs=1e-5)
        else:  # the edit itself, and the rest
            assert np.isnan(moved)
            assert label.endswith("edit") or label.startswith("the rest")


def test_the_top_token_of_the_edited_pass_is_the_target_of_both(scope, recording):
    edited, base = (
        scope.look("logit-lens", recording=one, mode="target", position=7)
        for one in (recording, recording.base)
    )
    target = edited.extra["target_id"]
    base = scope.look("logit-lens", recording=recording.base, mode="target", target=target)
    change = scope.look("logit-lens", mode="target", position=7, change=True)
    assert change.values == pytest.approx(edited.values - base.values, abs=1e-6)
    assert change.extra["target_id"] == target
    pinned = scope.look("logit-lens", mode="target", position=7, target=5, change=True)
    five = [
        scope.look("logit-lens", recording=one, mode="target", target=5).values
        for one in (recording, recording.base)
    ]
    assert pinned.values == pytest.approx(five[0] - five[1], abs=1e-6)


def test_what_has_no_difference_is_refused(scope, recording):
    figure = scope.look("logit-lens", change=True)
    assert figure.verdict.status == "refused"
    assert "other tokens may be on top" in figure.verdict.reason
    figure = scope.look("context", change=True, context=4)
    assert figure.verdict.status == "refused"
    assert "unedited pass" in figure.verdict.reason
    assert figure.title.endswith("· change")


def test_a_refused_figure_does_not_make_the_unedited_one(scope, recording, monkeypatch):
    made = []
    real = type(scope)._figures
    monkeypatch.setattr(
        type(scope),
        "_figures",
        lambda self, chosen, of, *more: made.append(of) or real(self, chosen, of, *more),
    )
    scope.look("context", change=True, context=4)
    assert made == [recording]


@pytest.mark.parametrize(
    "edits",
    [
        EDITS,
        ["patch stream 1 @3 from B", "scale mlp 0 -1"],
        ["steer 0 token id:17 2", "freeze norm final", "freeze norm 2.mlp @3.."],
    ],
)
def test_saliency_is_of_the_edited_pass(scope, plain, edits):
    recording = scope.record(A, edits=edits, versus_prompt=B)
    for position in (12, 6):
        figure = scope.look("saliency", position=position, target=5)
        assert figure.verdict.status == "verified", figure.verdict
        log = torch.tensor(
            scope.look("next-token", position=position, target=5).extra["target_probability"]
        ).log()
        assert figure.extra["log_probability"] == pytest.approx(float(log), abs=1e-4)
        base = scope.look("saliency", position=position, target=5, recording=recording.base)
        change = scope.look("saliency", position=position, target=5, change=True)
        assert change.values == pytest.approx(figure.values - base.values, abs=1e-6)
        assert np.abs(change.values).max() > 1e-4


def made_up(*labels, values, name="part", **extra):
    axis = Axis(name, labels)
    array = np.array(values, dtype=np.float32)
    return Figure("mlp", "made up", "bars", (axis,), array, "", extra=extra)


def test_listed_axes_are_aligned_and_others_are_not():
    edited = made_up("b", "new", "a", values=[1, 2, 3], caption=("said",))
    unedited = made_up("a", "b", "c", values=[10, 20, 30])
    change = difference(edited, unedited)
    assert change.values.tolist()[::2] == [-19, -7]
    assert np.isnan(change.values[1])
    assert change.extra == {"change": True, "caption": ()}
    assert unedited.values.tolist() == [10, 20, 30]
    for one, other in (
        (made_up("a", values=[1], name="token"), made_up("b", values=[1], name="token")),
        (made_up("a", values=[1]), made_up("a", values=[1], name="neuron")),
    ):
        assert difference(one, other).verdict.status == "refused"


def test_what_is_asked_of_the_unedited_pass():
    focus = Focus(top_k=5)
    plain = made_up("a", values=[1], name="token")
    assert same_question(plain, focus) is focus
    asked = same_question(made_up("a", values=[1], target_id=7, neuron=3), focus)
    assert (asked.target, asked.neuron, asked.top_k) == (7, 3, module.ALL)
    pinned = Focus(target=1, neuron=2)
    asked = same_question(made_up("a", values=[1], target_id=7, neuron=3), pinned)
    assert (asked.target, asked.neuron) == (1, 2)


@pytest.mark.parametrize("layer", [1, 2])
def test_a_turned_strength_reads_the_map_from_its_own_layer_on(plain, layer, monkeypatch):
    """The streams before an edit are those without it; the map has them read once for all."""
    scope, fresh = scope_for(small_model("llama")), scope_for(small_model("llama"))
    read = []
    scores = logit_lens._scores

    def counted(cells):
        read.extend((cell.layer, cell.column) for cell in cells)
        return scores(cells)

    monkeypatch.setattr(logit_lens, "_scores", counted)
    row = plain.model.lm_head.weight[17].detach()
    for strength in (1.0, 2.0, 3.0):
        edits = [f"steer {layer - 1} token id:17 {strength}"]
        scope.record(A, edits=edits)
        read.clear()
        figure = scope.look("logit-lens", mode="target", target="id:17")
        logits = plain.run(A, ("stream", layer, plus(ALL, strength * row)))
        expected = logits.double().softmax(-1)[:, 17].numpy()
        assert figure.values[-1] == pytest.approx(expected, abs=1e-6)
        first = 0 if strength == 1 else layer
        assert set(read) == {(stream, row) for stream in range(first, 4) for row in range(len(A))}
        assert len(read) == len(A) * (4 - first)
        fresh.record(A, edits=edits, fresh=True)
        alone = fresh.look("logit-lens", mode="target", target="id:17")
        assert figure.values == pytest.approx(alone.values, abs=1e-6)
