"""The ablation lens, against plain transformers with hooks written by hand."""

import numpy as np
import pytest

from llmscope.draw import RenderOptions, paint
from llmscope.figure import Focus, Verdict
from llmscope.record.interventions import sweep
from llmscope.support.sandbox import Cancelled
from tests.families import small_model
from tests.lenses import hooks
from tests.lenses.hooks import FAMILIES, HEADS, IDS, LAYERS, scope_of

TARGET, VERSUS, POSITION = 11, 40, 5
PARTS = ("attention", "MLP", "layer")


@pytest.fixture(scope="module", params=FAMILIES)
def both(request):
    """A model of its own, and the microscope on another with the same weights."""
    family = request.param
    scope = scope_of(family)
    scope.record(IDS)
    return small_model(family), family, scope


def expected(model, family, mode, ids=IDS, position=POSITION, edits=()):
    """The table of a mode. [layer, head or part]"""
    what, *words = mode.split("-")
    how = "mean" if "mean" in words else "zero"
    own = hooks.logits(model, ids, *edits, position=position)
    table = np.empty((LAYERS, HEADS if what == "heads" else len(PARTS)))
    for layer in range(LAYERS):
        for column, part in enumerate(range(HEADS) if what == "heads" else PARTS):
            changes = hooks.ablated(model, family, ids, layer, part, how)
            without = hooks.logits(model, ids, *edits, *changes, position=position)
            if "kl" in words:
                table[layer, column] = hooks.divergence(own, without)
            else:
                moved = [hooks.difference(one, TARGET, VERSUS) for one in (without, own)]
                table[layer, column] = moved[0] - moved[1]
    return table, float(own.abs().max())


def close(values, table, largest):
    assert np.isfinite(values).all()
    assert np.abs(table).max() > 1e-3  # there is something to tell apart
    assert values == pytest.approx(table, abs=1e-5 * largest, rel=0)


@pytest.mark.parametrize("mode", ["heads", "heads-mean", "parts", "parts-mean"])
@pytest.mark.few(5)
def test_a_cell_is_what_a_hook_does_to_the_logits(both, mode):
    model, family, scope = both
    figure = scope.look("ablation", mode=mode, position=POSITION, target=TARGET, versus=VERSUS)
    close(figure.values, *expected(model, family, mode))
    assert (figure.verdict.status, figure.unit, figure.kind) == ("verified", "logit", "heatmap")
    assert "progress" not in figure.extra


@pytest.mark.parametrize("mode", ["heads-kl", "heads-mean-kl", "parts-kl", "parts-mean-kl"])
@pytest.mark.few(4)
def test_a_cell_is_how_far_a_hook_moves_all_that_may_come_next(both, mode):
    model, family, scope = both
    figure = scope.look("ablation", mode=mode, position=POSITION)
    table, _ = expected(model, family, mode)
    close(figure.values, table, max(1.0, table.max()))
    assert figure.unit == "nats"
    assert figure.values.min() >= 0


@pytest.mark.few(6)
@pytest.mark.parametrize("edit", ["zero head", "mean head"])
def test_a_cell_is_the_pass_with_that_edit(both, edit):
    _, _, scope = both
    mode = "heads" if edit == "zero head" else "heads-mean"
    base = scope.record(IDS)
    figure = scope.look("ablation", recording=base, mode=mode, target=TARGET)
    for layer, head in ((0, 1), (1, 3), (2, 0)):
        edited = scope.record(IDS, edits=[f"{edit} {layer}.{head}"])
        moved = float(edited.logits[TARGET] - base.logits[TARGET])
        tolerance = 1e-5 * float(base.logits.abs().max())
        assert figure.values[layer, head] == pytest.approx(moved, abs=tolerance)


def test_the_target_is_the_likeliest_token_and_the_names_are_there():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    figure = scope.look("ablation")
    top = int(recording.logits.argmax())
    assert figure.extra["target_id"] == top
    assert figure.extra["versus_id"] is None
    assert figure.extra["logit"] == pytest.approx(float(recording.logits[top]))
    assert figure.title == f"Ablation · heads set to zero · Δ logit of ‹{top}›"
    assert [axis.name for axis in figure.axes] == ["layer", "head"]
    parts = scope.look("ablation", mode="parts")
    assert (parts.axes[1].name, parts.axes[1].labels) == ("part", PARTS)
    strongest = np.unravel_index(np.abs(parts.values).argmax(), parts.values.shape)
    name = f"layer {strongest[0]} {PARTS[strongest[1]]}".removesuffix(" layer")
    assert f"strongest: {name} {parts.values[strongest]:+.2f}" in parts.extra["caption"][-1]


def test_a_hybrid_tells_of_its_mixers_and_of_the_layers_with_heads():
    scope = scope_of("jamba")
    scope.prepare_reuse()
    scope.record(IDS)
    figure = scope.look("ablation")
    assert figure.verdict.status == "partial"
    assert figure.verdict.reason == (
        "not in layers 0, 2: this layer has no attention: a state space mixes its tokens"
    )
    assert np.isnan(figure.values).all(-1).tolist() == [True, False, True]
    assert np.isfinite(figure.values[1]).all()
    parts = scope.look("ablation", mode="parts")
    assert parts.axes[1].labels == ("attention", "mixer", "MLP", "layer")
    there = [[False, True, True, True], [True, False, True, True], [False, True, True, True]]
    assert np.isfinite(parts.values).tolist() == there
    assert parts.extra["kinds"] == ("state space", "attention", "state space")
    counts = hooks.count_forwards(scope)
    scope.look("ablation", position=3)
    assert counts == [0, 1, 1]  # no pass for what is not shown


def test_it_is_refused_where_nothing_is_verified(monkeypatch):
    scope = scope_of("mamba")
    scope.record(IDS)
    figure = scope.look("ablation")
    assert (figure.verdict.status, figure.axes) == ("refused", ())
    assert scope.look("ablation", mode="parts").verdict.status == "verified"
    scope = scope_of("openai-gpt")
    scope.record(IDS)
    differs = (Verdict("refused", "it differs", 0.5),) * 3
    monkeypatch.setitem(scope.verdicts.layers, "writes", differs)
    assert scope.look("ablation", mode="parts").verdict.status == "refused"
    assert scope.look("ablation").verdict.status == "verified"
    scope = scope_of("llama")
    scope.record(IDS)
    monkeypatch.setitem(scope.verdicts.layers, "readout", (Verdict("refused", "it differs", 0.5),))
    assert scope.look("ablation").verdict.reason == "it differs"


def test_what_is_not_there_raises():
    scope = scope_of("llama")
    scope.record(IDS)
    with pytest.raises(ValueError, match="token 96 is out of range"):
        scope.look("ablation", target=96)
    with pytest.raises(ValueError, match="no mode 'neurons'"):
        scope.look("ablation", mode="neurons")


def test_the_edits_in_force_stay():
    model, family = small_model("gpt2"), "gpt2"
    scope = scope_of(family)
    edits = hooks.ablated(model, family, IDS, 1, 2, "zero")
    scope.record(IDS, edits=["zero head 1.2"])
    figure = scope.look("ablation", position=POSITION, target=TARGET, versus=VERSUS)
    table, largest = expected(model, family, "heads", edits=edits)
    close(figure.values, table, largest)
    assert figure.values[1, 2] == pytest.approx(0, abs=1e-5)
    for more in ("mean head 0.3", "mean mlp 2"):
        mode = "heads-mean" if "head" in more else "parts-mean"
        one = scope.record(IDS, edits=["steer 0 token id:7 2", "zero head 1.2"])
        shown = scope.look("ablation", recording=one, mode=mode, target=TARGET)
        two = scope.record(IDS, edits=["steer 0 token id:7 2", "zero head 1.2", more])
        cell = (0, 3) if "head" in more else (2, 1)
        moved = float(two.logits[TARGET] - one.logits[TARGET])
        assert shown.values[cell] == pytest.approx(moved, abs=1e-4)


@pytest.mark.usefixtures("a_batch_for_each_row")
def test_partial_figures_are_parts_of_the_whole():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    figures = list(scope.figures("ablation", recording, Focus()))
    *partial, whole = figures
    assert [one.extra.get("progress") for one in figures] == [(0, 12), (4, 12), (8, 12), None]
    known = [np.isfinite(one.values).all(-1).tolist() for one in figures]
    assert known == [[layer >= LAYERS - count for layer in range(LAYERS)] for count in range(4)]
    for one in partial:
        there = np.isfinite(one.values)
        np.testing.assert_array_equal(one.values[there], whole.values[there])


@pytest.mark.usefixtures("a_batch_for_each_row")
def test_a_sweep_that_was_dropped_goes_on_and_other_questions_run_nothing():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    counts = hooks.count_forwards(scope)
    dropped = scope.figures("ablation", recording, Focus())
    next(dropped)
    next(dropped)
    dropped.close()
    assert counts == [0, 0, 1]
    figures = list(scope.figures("ablation", recording, Focus()))
    assert counts == [1, 2, 3]
    assert figures[0].extra["progress"] == (4, 12)
    fresh = scope_of("llama")
    fresh.record(IDS)
    np.testing.assert_array_equal(figures[-1].values, fresh.look("ablation").values)
    for focus in ({}, {"target": TARGET, "versus": VERSUS}, {"mode": "heads-kl"}):
        (only,) = scope.figures("ablation", recording, Focus(**focus))
        np.testing.assert_array_equal(only.values, fresh.look("ablation", **focus).values)
    assert counts == [1, 2, 3]
    scope.look("ablation", mode="heads-mean")
    assert counts == [2, 4, 6]


@pytest.mark.usefixtures("a_batch_for_each_row")
def test_it_is_given_up_within_a_layer_and_keeps_what_it_found():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    counts, asked = hooks.count_forwards(scope), []

    def cancelled():
        asked.append(1)
        return len(asked) == 6  # thrice a batch, for a layer that stands too: the second one's last

    with pytest.raises(Cancelled):
        list(scope.figures("ablation", recording, Focus(), cancelled=cancelled))
    assert counts == [0, 1, 1]
    figure = scope.look("ablation", recording=recording)
    assert counts == [1, 3, 3]
    fresh = scope_of("llama")
    fresh.record(IDS)
    np.testing.assert_array_equal(figure.values, fresh.look("ablation").values)


@pytest.mark.parametrize("mode", ["heads", "parts-mean"])
def test_rows_that_share_a_batch_have_the_numbers_of_single_passes(monkeypatch, mode):
    together, alone = scope_of("qwen3"), scope_of("qwen3")
    recording = together.record(IDS)
    counts = hooks.count_forwards(together)
    figures = list(together.figures("ablation", recording, Focus(mode=mode, target=TARGET)))
    assert counts == [1, 1, 1]
    monkeypatch.setitem(sweep.TOKENS, "cpu", 1)
    recording = alone.record(IDS)
    counts = hooks.count_forwards(alone)
    single = list(alone.figures("ablation", recording, Focus(mode=mode, target=TARGET)))
    jobs = np.isfinite(single[-1].values).sum(-1).tolist()
    assert counts == np.cumsum(jobs).tolist()
    np.testing.assert_allclose(figures[-1].values, single[-1].values, atol=1e-5)


@pytest.mark.parametrize(
    ("fixed", "passes"),
    [
        (13, [1, 2, 3]),  # 6 layers, 6 (13 + 28) = 246, and 4 · 13 + 196 for the next
        (15, [1, 1, 2]),  # 1 (15 + 28) + 3 (15 + 56) = 256, and 6 (15 + 28) = 258
        (55, [1, 1, 2]),
        (57, [1, 1, 1]),  # 3 (57 + 84) = 423, and 4 · 57 + 196 = 424
    ],
)
def test_rows_share_a_batch_where_that_costs_least(monkeypatch, fixed, passes):
    """Three layers of four heads in seven tokens: 28 tokens a row."""
    scope = scope_of("llama")
    recording = scope.record(IDS)
    counts = hooks.count_forwards(scope)
    monkeypatch.setitem(sweep.FIXED, "cpu", fixed)
    scope.look("ablation", recording=recording)
    assert counts == passes


@pytest.mark.usefixtures("a_batch_for_each_row")
def test_small_batches_say_the_same(monkeypatch):
    one, many = scope_of("qwen3"), scope_of("qwen3")
    ids = IDS * 4
    one.record(ids)
    whole = one.look("ablation", target=TARGET)
    monkeypatch.setitem(sweep.TOKENS, "cpu", 3 * len(ids) + 1)
    recording = many.record(ids)
    counts = hooks.count_forwards(many)
    figures = list(many.figures("ablation", recording, Focus(target=TARGET)))
    assert counts == [2, 4, 6]
    assert [one.extra.get("progress", (12,))[0] for one in figures] == [0, 3, 4, 7, 8, 11, 12]
    assert figures[-1].values == pytest.approx(whole.values, abs=1e-5)


def test_the_oldest_sweeps_are_let_go(monkeypatch):
    scope = scope_of("llama")
    recording = scope.record(IDS)
    for position in range(len(IDS)):
        scope.look("ablation", position=position)
    assert len(recording.memo["sweeps"]) == len(IDS)
    key = ("ablation", True, False, range(len(IDS)))
    streams = recording.memo["sweeps"][6, key].streams
    assert len(streams) == recording.layers * HEADS
    assert {tuple(stream.shape) for stream in streams.values()} == {(48,)}
    monkeypatch.setattr(sweep, "ROOM", 1)
    scope.look("ablation", position=0)
    assert list(recording.memo["sweeps"]) == [(0, key)]


def test_a_change_is_held_against_the_unedited_sweep():
    scope = scope_of("llama")
    recording = scope.record(IDS, edits=["zero mlp 1"])
    focus = {"target": TARGET, "position": POSITION}
    change = scope.look("ablation", recording=recording, change=True, **focus)
    edited = scope.look("ablation", recording=recording, **focus).values
    unedited = scope.look("ablation", recording=recording.base, **focus).values
    assert change.values == pytest.approx(edited - unedited, abs=1e-6)


def test_it_is_drawn_with_both_signs():
    scope = scope_of("llama")
    scope.record(IDS)
    text = "\n".join(
        "".join(piece.text for piece in row)
        for row in paint(scope.look("ablation"), 70, 9, RenderOptions()).rows
    )
    assert "largest, by layer.head:" in text
    assert "with nothing ablated" in text


def test_the_caption_says_that_the_edits_stay():
    scope = scope_of("llama")
    scope.record(IDS, edits=["zero head 0.1"])
    said = " ".join(scope.look("ablation").extra["caption"])
    assert "with the edits alone" in said
    assert "nothing ablated" not in said


def test_a_part_of_the_sweep_is_the_edit_in_those_tokens():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    figure = scope.look(
        *("ablation",), layers="1", heads=[0, -1], span=(1, 3), target=TARGET, position=POSITION
    )
    chosen = np.zeros(figure.values.shape, dtype=bool)
    chosen[1, [0, HEADS - 1]] = True
    assert np.isnan(figure.values[~chosen]).all()
    for head in (0, HEADS - 1):
        edited = scope.record(IDS, edits=[f"zero head 1.{head} @1..2"])
        before, after = (
            scope.look("attribution", recording=one, target=TARGET, position=POSITION)
            for one in (recording, edited)
        )
        change = after.extra["logit"] - before.extra["logit"]
        assert figure.values[1, head] == pytest.approx(change, abs=1e-4)
    with pytest.raises(ValueError, match="ablation reads heads in the modes heads"):
        scope.look("ablation", mode="parts", heads=[0])
