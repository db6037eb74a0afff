"""The patching lens, against plain transformers with hooks written by hand."""

import numpy as np
import pytest
import torch

from llmscope.draw import RenderOptions, paint
from llmscope.figure import Focus
from llmscope.record.capture.extra_passes import read
from llmscope.record.change_hooks import Change
from llmscope.record.interventions import sweep
from llmscope.support.sandbox import Cancelled
from tests.families import small_model
from tests.lenses import hooks
from tests.lenses.hooks import FAMILIES, HEADS, IDS, LAYERS, OTHER, scope_of

pytestmark = pytest.mark.usefixtures("hooks_watch")

TARGET, VERSUS, POSITION = 11, 40, 5
B = tuple(OTHER)
DIFFER = [2, 4]
"""Where the two prompts do."""


@pytest.fixture(scope="module", params=FAMILIES)
def both(request):
    """A model of its own, and the microscope on another with the same weights."""
    family = request.param
    scope = scope_of(family)
    scope.record(IDS)
    return small_model(family), family, scope


def put(place, theirs, some=slice(None)):
    """A change that puts B's rows and columns in."""

    def change(tensor):
        tensor = tensor.clone()
        tensor[:, place, some] = theirs[:, place, some]
        return tensor

    return change


def shares(model, family, mode, position=POSITION, edits=()):
    """The table of a mode, up to the position. [layer, position or head]"""

    def answer(ids, *changes):
        found = hooks.logits(model, ids, *changes, position=position)
        return hooks.difference(found, TARGET, VERSUS)

    own, other = answer(IDS, *edits), answer(OTHER)

    def cell(module, before, place, some=slice(None)):
        theirs = hooks.seen(model, OTHER, module, before=before)
        moved = answer(IDS, *edits, (module, put(place, theirs, some), before))
        return (moved - own) / (other - own)

    table = []
    for layer in range(LAYERS):
        project, attention, mlp = hooks.parts(model, family, layer)
        if mode == "heads":
            own_columns = [hooks.columns(model, family, layer, head) for head in range(HEADS)]
            table.append([cell(project, True, slice(None), some) for some in own_columns])
        elif mode == "stream":
            block = hooks.layers_of(model, family)[layer]
            table.append([cell(block, True, place) for place in range(position + 1)])
        else:
            module = attention if mode == "attention" else mlp
            table.append([cell(module, False, place) for place in range(position + 1)])
    if mode == "stream":
        table.append([cell(block, False, place) for place in range(position + 1)])
    return np.array(table), other - own


def look(scope, mode="stream", position=POSITION, **focus):
    asked = {"target": TARGET, "versus": VERSUS, "versus_prompt": B, **focus}
    return scope.look("patching", mode=mode, position=position, **asked)


def close(values, table, span, largest):
    assert np.abs(table).max() > 0.01
    assert values == pytest.approx(table, abs=1e-5 * largest / abs(span) + 1e-7, rel=0)


@pytest.mark.parametrize("mode", ["stream", "attention", "mlp", "heads"])
@pytest.mark.few(4)
def test_a_cell_is_what_a_hook_carries_over(both, mode):
    model, family, scope = both
    figure = look(scope, mode)
    table, span = shares(model, family, mode)
    largest = float(scope.latest.logits.abs().max())
    known = figure.values if mode == "heads" else figure.values[:, : POSITION + 1]
    assert np.isfinite(known).all()
    close(known, table, span, largest)
    if mode != "heads":
        assert np.isnan(figure.values[:, POSITION + 1 :]).all()
        assert (known[:, : DIFFER[0]] == 0).all()  # and not only about
    assert (figure.verdict.status, figure.unit, figure.kind) == ("verified", "share", "heatmap")


def test_the_rows_are_those_of_the_map_and_the_ends_are_known(both):
    _, _, scope = both
    figure = look(scope)
    assert figure.axes[0].labels == ("embed", "0", "1", "2")
    assert figure.axes[1].labels == scope.latest.prompt.labels
    assert figure.values[-1, POSITION] == pytest.approx(1, abs=1e-6)
    assert (np.delete(figure.values[-1, : POSITION + 1], POSITION) == 0).all()
    same = [place for place in range(POSITION + 1) if place not in DIFFER]
    assert (figure.values[0, same] == 0).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_all_of_the_stream_at_the_embedding_is_prompt_b(family):
    scope = scope_of(family)
    recording = scope.record(IDS, fresh=True)
    from llmscope.lenses import lens
    from llmscope.record.capture.recording import Prompt

    passes = scope._instrumented.passes(lens("patching"), recording)
    other = passes.other(Prompt(B, ("",) * len(B), (False,) * len(B)))
    everything = Change("stream", 0, range(len(B)), values=other.rows("stream", 0))
    last = passes.sweep(recording, 0, [(everything,)], len(B) - 1)
    torch.testing.assert_close(last, other.final_rows(len(B) - 1, len(B)), rtol=0, atol=0)
    plain = hooks.logits(small_model(family), OTHER)
    found = read(recording, last, len(B) - 1)[0].double()
    assert float((found - plain).abs().max()) <= 1e-5 * float(plain.abs().max())


@pytest.mark.parametrize("edit", ["stream 1 @4", "attention 0 @2", "mlp 2 @5", "head 1.2"])
@pytest.mark.few(9)
def test_a_cell_is_the_pass_with_that_edit(both, edit):
    _, _, scope = both
    mode = {"head": "heads"}.get(edit.split()[0], edit.split()[0])
    base = scope.record(IDS)
    figure = look(scope, mode, recording=base, position=-1)
    edited = scope.record(IDS, edits=[f"patch {edit} from B"], versus_prompt=OTHER)
    plain = scope.record(OTHER)
    found = [hooks.difference(one.logits, TARGET, VERSUS) for one in (base, plain, edited)]
    own, other, moved = found
    scope.record(IDS)
    place = {"stream": (2, 4), "attention": (0, 2), "mlp": (2, 5), "heads": (1, 2)}[mode]
    tolerance = 1e-5 * float(base.logits.abs().max()) / abs(other - own)
    assert figure.values[place] == pytest.approx((moved - own) / (other - own), abs=tolerance)


def test_the_answers_are_those_of_the_two_prompts_unless_others_are_named():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    top = [int(one.argmax()) for one in (recording.logits, scope.record(OTHER).logits)]
    assert top[0] != top[1]
    figure = scope.look("patching", recording=recording, versus_prompt=B)
    extra = figure.extra
    assert [extra["target_id"], extra["versus_id"]] == top
    assert figure.title == f"Patching · stream from prompt B · ‹{top[0]}› − ‹{top[1]}›"
    logits = [hooks.logits(small_model("llama"), ids) for ids in (IDS, OTHER)]
    expected = [hooks.difference(one, *top) for one in logits]
    assert [extra["difference"], extra["versus_difference"]] == pytest.approx(expected, abs=1e-4)
    assert expected[0] > 0 > expected[1]
    assert (extra["versus_ids"], extra["differ"]) == (B, tuple(DIFFER))
    assert extra["versus_labels"] == tuple(map(str, OTHER))
    assert "B differs at 2 ‹3› / ‹31›, 4 ‹17› / ‹90›" in extra["caption"]


def test_it_says_what_is_missing():
    scope = scope_of("llama")
    recording = scope.record(IDS)

    def reason(**focus):
        figure = scope.look("patching", recording=recording, **focus)
        assert (figure.verdict.status, figure.axes) == ("refused", ())
        return figure.verdict.reason

    assert "versus_prompt, or w on the screen" in reason()
    assert "this prompt has 7 tokens and prompt B 3" in reason(versus_prompt=(5, 6, 7))
    assert "target and versus are both ‹11›" in reason(versus_prompt=B, target=11, versus=11)
    assert "target and versus are both" in reason(versus_prompt=tuple(IDS))
    asked = {"target": TARGET, "versus": VERSUS}
    same = reason(versus_prompt=tuple(IDS), **asked)
    assert f"the logit of ‹{TARGET}› − ‹{VERSUS}› is" in same
    assert "there is no difference to carry over" in same
    # Before the first token in which they differ, B is no other prompt.
    assert reason(versus_prompt=B, position=1, **asked).endswith(
        "there is no difference to carry over"
    )
    with pytest.raises(ValueError, match="token 96 is out of range"):
        scope.look("patching", recording=recording, versus_prompt=B, target=96)
    with pytest.raises(ValueError, match="token 200 is out of range"):
        scope.look("patching", recording=recording, versus_prompt=(200, *IDS[1:]))


def test_layers_without_the_part_are_left_out():
    scope = scope_of("jamba")
    scope.record(IDS)
    heads = look(scope, "heads")
    assert heads.verdict.status == "partial"
    assert heads.verdict.reason.startswith("not in layers 0, 2: ")
    assert np.isnan(heads.values).all(-1).tolist() == [True, False, True]
    assert heads.extra["kinds"] == ("state space", "attention", "state space")
    attention = look(scope, "attention")
    assert np.isnan(attention.values[:, : POSITION + 1]).all(-1).tolist() == [True, False, True]
    assert np.isfinite(look(scope, "stream").values[:, : POSITION + 1]).all()
    mamba = scope_of("mamba")
    mamba.record(IDS)
    assert look(mamba, "heads").verdict.status == "refused"
    assert look(mamba, "stream").values[-1, POSITION] == pytest.approx(1, abs=1e-5)


def test_the_edits_of_this_prompt_stay():
    model, family = small_model("gpt2"), "gpt2"
    scope = scope_of(family)
    edits = hooks.ablated(model, family, IDS, 1, 2, "zero")
    recording = scope.record(IDS, edits=["zero head 1.2"])
    for mode in ("stream", "attention", "heads"):
        figure = look(scope, mode, recording=recording)
        table, span = shares(model, family, mode, edits=edits)
        known = figure.values if mode == "heads" else figure.values[:, : POSITION + 1]
        close(known, table, span, float(recording.logits.abs().max()))


@pytest.mark.usefixtures("a_batch_for_each_row")
def test_partial_figures_and_going_on():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    focus = Focus(position=POSITION, target=TARGET, versus=VERSUS, versus_prompt=B)
    scope.record(IDS)
    scope.look("patching", recording=recording, position=3, versus_prompt=B)
    counts = hooks.count_forwards(scope)
    dropped = scope.figures("patching", recording, focus)
    first = next(dropped)
    assert first.extra["progress"] == (0, 11)  # 1 at the end, 4 a layer, 2 at the embedding
    assert next(dropped).extra["progress"] == (1, 11)
    assert counts == [0, 0, 0]  # nothing has to run for the stream after the last layer
    next(dropped)
    dropped.close()
    assert counts == [0, 0, 1]
    *partial, whole = scope.figures("patching", recording, focus)
    assert counts == [1, 2, 3]
    assert [one.extra["progress"][0] for one in partial] == [5, 9]
    assert "progress" not in whole.extra
    for one in (first, *partial):
        there = np.isfinite(one.values)
        np.testing.assert_array_equal(one.values[there], whole.values[there])
    look(scope, recording=recording, target=3, versus=4)
    assert counts == [1, 2, 3]


@pytest.mark.usefixtures("a_batch_for_each_row")
def test_it_is_given_up_within_a_layer():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    look(scope, recording=recording, position=4)
    asked = []
    focus = Focus(position=POSITION, target=TARGET, versus=VERSUS, versus_prompt=B)
    figures = scope.figures("patching", recording, focus, cancelled=lambda: bool(asked))
    while next(figures).extra["progress"][0] < 5:
        pass
    asked.append("stop")
    with pytest.raises(Cancelled):
        next(figures)
    fresh = scope_of("llama")
    fresh.record(IDS)
    figure = look(scope, recording=recording)
    np.testing.assert_array_equal(figure.values, look(fresh).values)


@pytest.mark.usefixtures("a_batch_for_each_row")
def test_tokens_before_the_first_difference_do_not_run():
    scope = scope_of("llama")
    shapes = []
    attention = scope.loaded_model.anatomy.layers[2].attention
    attention.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["hidden_states"].shape[:2])),
        with_kwargs=True,
    )
    recording = scope.record(IDS)
    look(scope, recording=recording, position=4)
    shapes.clear()
    look(scope, recording=recording)
    look(scope, "heads", recording=recording)
    # Four tokens in four jobs (two at the embedding), and in a job for each head.
    assert shapes == [(4, 4), (4, 4), (2, 4), (4, 4), (4, 4), (4, 4)]


def test_half_precision_says_about_the_same():
    exact, half = scope_of("llama"), scope_of("llama", small_model("llama").bfloat16())
    for scope in (exact, half):
        scope.record(IDS)
    for mode in ("stream", "mlp", "heads"):
        rough = look(half, mode).values
        np.testing.assert_allclose(rough, look(exact, mode).values, atol=0.15)


def test_small_batches_say_the_same(monkeypatch):
    ids, other = IDS * 3, (*IDS, *OTHER, *IDS)
    scope = scope_of("qwen3")
    scope.record(ids)
    whole = look(scope, position=-1, versus_prompt=other).values
    monkeypatch.setitem(sweep.TOKENS, "cpu", 50)
    scope.latest.memo.clear()
    again = look(scope, position=-1, versus_prompt=other).values
    assert again == pytest.approx(whole, abs=1e-5)


def test_it_is_drawn_as_a_map():
    scope = scope_of("llama")
    scope.record(IDS)
    text = "\n".join(
        "".join(piece.text for piece in row)
        for row in paint(look(scope), 70, 12, RenderOptions()).rows
    )
    assert "embed" in text
    assert "here" in text
    assert "after prompt B" in text


@pytest.mark.few(6)
@pytest.mark.parametrize("mode", ["stream", "attention", "mlp"])
def test_a_part_of_the_sweep_is_that_part_of_the_table(both, mode):
    _, _, scope = both
    scope.record(IDS)
    whole = look(scope, mode).values
    part = scope_of(both[1])
    part.record(IDS)
    figure = look(part, mode, layers="1-2", span=(-3, -1))
    rows = [2, 3] if mode == "stream" else [1, 2]  # the stream begins with the embedding
    chosen = np.zeros(whole.shape, dtype=bool)
    chosen[np.ix_(rows, [len(IDS) - 3, len(IDS) - 2])] = True
    assert np.isnan(figure.values[~chosen]).all()
    assert figure.values[chosen] == pytest.approx(whole[chosen], abs=1e-4, nan_ok=True)
    assert np.isfinite(figure.values).any()
    ((_, memo),) = part.latest.memo["sweeps"].items()
    assert len(memo.streams) <= chosen.sum()  # nothing else ran
    assert figure.extra["caption"][-1].startswith("only layers 1-2, tokens ")
    if mode == "stream":
        again = look(part, mode)  # it goes on with the rest
        assert again.values == pytest.approx(whole, abs=1e-4, nan_ok=True)


def test_heads_in_some_tokens_are_edits_of_those_tokens(both):
    _, _, scope = both
    scope.record(IDS)
    figure = look(scope, "heads", layers=[-2], heads=(0, 2), span=(2, 4))
    layer = LAYERS - 2
    chosen = np.zeros(figure.values.shape, dtype=bool)
    chosen[layer, [0, 2]] = True
    assert np.isfinite(figure.values[chosen]).all()
    assert np.isnan(figure.values[~chosen]).all()
    for head in (0, 2):
        edit = f"patch head {layer}.{head} @2..3 from B @2..3"
        recording = scope.record(IDS, edits=[edit], versus_prompt=B)
        focus = {"target": TARGET, "versus": VERSUS, "position": POSITION}
        ends = [
            scope.look("attribution", recording=one, **focus).extra["logit"]
            for one in (recording.base, recording, scope.record(B))
        ]
        moved = (ends[1] - ends[0]) / (ends[2] - ends[0])
        assert figure.values[layer, head] == pytest.approx(moved, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"heads": "0"}, "patching reads heads in the modes heads and paths, not in stream"),
        ({"layers": "1-9"}, "layers 3 is out of range"),
        ({"layers": "2-1"}, "a range ascends"),
        ({"layers": "all"}, "expected numbers and ranges, such as 0,4,8-11"),
        ({"layers": ()}, "layers is empty"),
        ({"layers": True}, "must be an integer"),
        ({"span": (50, 60)}, "holds no token: the prompt has"),
    ],
)
def test_a_part_that_does_not_exist_is_refused(options, reason):
    scope = scope_of("llama")
    scope.record(IDS)
    with pytest.raises((ValueError, TypeError), match=reason):
        look(scope, **options)
