"""A − B: each lens at the tokens that both prompts have, held against two looks of its own."""

import numpy as np
import pytest

from llmscope.lenses import lens, names
from llmscope.record.compare.alignment import align
from tests.families import small_model
from tests.lenses.asked import options_for
from tests.record.interventions.test_edited import scope_for

A = (3, 5, 7, 11, 13, 17, 19)
B = (3, 5, 8, 9, 11, 17, 19, 23)
PAIRS = ((0, 0), (1, 1), (3, 4), (5, 5), (6, 6))
"""The tokens that both have, by hand."""
SAME = 2
EVERY = [
    (name, mode)
    for name in names()
    if name not in ("stages",)
    for mode in (lens(name).modes or ("",))
]


@pytest.fixture(scope="module")
def scope():
    return scope_for(small_model("llama"))


@pytest.fixture(scope="module")
def experts():
    return scope_for(small_model("mixtral"))


def apart(scope, name, b=B, a=A, **focus):
    asked = options_for(name, **focus)
    return scope.look(name, recording=scope.record(a), change=True, versus_prompt=tuple(b), **asked)


def of_model(name, scope, experts):
    return experts if name == "experts" else scope


def test_the_tokens_that_both_have():
    assert align(list(map(str, A)), list(map(str, B))) == PAIRS


@pytest.mark.parametrize(("name", "mode"), EVERY)
def test_identical_prompts_differ_in_nothing(name, mode, scope, experts):
    scope = of_model(name, scope, experts)
    asked = options_for(name, mode=mode, layer=1, versus_prompt=A)
    own = scope.look(name, recording=scope.record(A), **asked)
    figure = apart(scope, name, A, mode=mode, layer=1)
    if figure.verdict.status == "refused":
        assert figure.verdict.reason
        return
    assert figure.title.endswith("A − B")
    assert (figure.values[np.isfinite(own.values)] == 0).all()
    assert (np.isfinite(figure.values) == np.isfinite(own.values)).all()
    assert figure.extra["caption"] == ("A and B are the same prompt",)


def test_which_are_refused_and_why(scope, experts):
    refused = {}
    for name, mode in EVERY:
        figure = apart(of_model(name, scope, experts), name, mode=mode, layer=1)
        if figure.verdict.status == "refused":
            assert "\n" not in figure.verdict.reason
            if figure.verdict.reason in lens(name).unpaired.values():
                refused.setdefault(name, set()).add(mode)
    every = {name: set(lens(name).modes) or {""} for name in names()}
    assert refused == {
        **{name: every[name] for name in ("context", "contrast", "patching", "walkthrough")},
        **{name: every[name] for name in ("model-diff", "passages", "reasoning")},
        "heads": {"induction", "previous-token", "duplicate-token"},
        "logit-lens": {"top", "layer", "lenses", "slope"},
        "neurons": {"tokens", "examples"},
        "features": every["features"] - {"prompt"},
    }


OF_TOKENS = [
    ("residual", "stream", ("position",)),
    ("residual", "attention", ("position",)),
    ("residual", "cosine", ("position",)),
    ("logit-lens", "target", ("position",)),
    ("heads", "entropy-by-token", ("position",)),
    ("mlp", "overview", ("position",)),
    ("tokens", "", ("position",)),
    ("neurons", "activation", ("position",)),
    ("attention", "raw", ("query", "key")),
    ("attention", "no-sink", ("query", "key")),
    ("attention", "value-weighted", ("query", "key")),
    ("attention", "mean", ("query", "key")),
    ("attention", "rollout", ("query", "key")),
    ("attention", "all", ("query", "key")),
    ("saliency", "gradient", ("position",)),
    ("experts", "", ("position",)),
]


@pytest.mark.parametrize(("name", "mode", "axes"), OF_TOKENS)
def test_values_are_those_of_the_aligned_tokens(name, mode, axes, scope, experts):
    scope = of_model(name, scope, experts)
    asked = {"mode": mode, "layer": 1, "head": 1, "target": 31}
    asked |= {"neuron": 5} if name == "neurons" else {}
    figure = apart(scope, name, position=6, **asked)
    asked = options_for(name, position=6, **asked)
    one = scope.look(name, recording=scope.record(A, fresh=True), **asked)
    other = scope.look(name, recording=scope.record(B, fresh=True), **asked)
    wanted = np.full_like(one.values, np.nan)
    along = [[axis.name for axis in one.axes].index(axis) for axis in axes]
    held = dict(PAIRS)
    for place in np.ndindex(one.values.shape):
        there = list(place)
        for dimension in along:
            there[dimension] = held.get(place[dimension], -1)
        if min(there) >= 0:
            wanted[place] = one.values[place] - other.values[tuple(there)]
    largest = float(np.nanmax(np.abs(wanted)))
    assert largest > 1e-4
    assert figure.values == pytest.approx(wanted, abs=1e-4 * max(1, largest), nan_ok=True)
    row = next(n for n, axis in enumerate(one.axes) if axis.name in ("position", "query"))
    early = np.take(figure.values, range(SAME), axis=row)
    if name != "saliency":
        assert (early[np.isfinite(early)] == 0).all()
    assert figure.extra["caption"] == ("only in A: ‹7› ‹13›",)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("attribution", "heads"), ("attribution", "layers"), ("heads", "sink"), ("ablation", "heads")],
)
def test_what_is_of_one_token_is_asked_of_its_counterpart(name, mode, scope):
    asked = {"mode": mode, "target": 31}
    figure = apart(scope, name, position=3, **asked)
    one = scope.look(name, recording=scope.record(A), **options_for(name, position=3, **asked))
    other = scope.look(name, recording=scope.record(B), **options_for(name, position=4, **asked))
    assert figure.values == pytest.approx(one.values - other.values, abs=1e-5, nan_ok=True)
    assert np.nanmax(np.abs(figure.values)) > 1e-4


@pytest.mark.parametrize(("name", "listed"), [("attribution", "part"), ("mlp", "neuron")])
def test_what_lists_the_largest_finds_the_same_ones_in_b(name, listed, scope):
    asked = {"layer": 1, "target": 31}
    figure = apart(scope, name, position=3, top_k=4, **asked)
    asked = options_for(name, **asked)
    one = scope.look(name, recording=scope.record(A), position=3, top_k=4, **asked)
    other = scope.look(name, recording=scope.record(B), position=4, top_k=999, **asked)
    assert figure.axes == one.axes
    at = figure.axis(listed)
    for index, label in enumerate(figure.axes[at].labels):
        if label.startswith("the rest"):  # of others in B: it is no part of its own
            assert np.isnan(figure.values[index])
            continue
        there = other.axes[at].labels.index(label)
        if name == "attribution":
            assert figure.values[index] == pytest.approx(
                one.values[index] - other.values[there], abs=1e-5
            )
        else:
            for a, b in PAIRS:
                assert figure.values[a, index] == pytest.approx(
                    one.values[a, index] - other.values[b, there], abs=1e-5
                )


def test_candidates_are_those_of_a_with_what_b_gives_them(scope):
    figure = apart(scope, "next-token", position=3, top_k=5, temperature=0.5)
    one = scope.look("next-token", recording=scope.record(A), position=3, top_k=96, temperature=0.5)
    other = scope.look(
        "next-token", recording=scope.record(B), position=4, top_k=96, temperature=0.5
    )
    theirs = dict(zip(other.extra["ids"].tolist(), other.values.tolist(), strict=True))
    ids = figure.extra["ids"].tolist()
    assert ids == one.extra["ids"][:5].tolist()
    assert figure.extra["other"] == pytest.approx([theirs[token] for token in ids], abs=1e-6)
    assert figure.extra["probability"] == pytest.approx(one.values[:5], abs=1e-6)
    assert figure.values == pytest.approx(
        figure.extra["probability"] - figure.extra["other"], abs=1e-7
    )
    assert figure.extra["other_target_rank"] == other.extra["ids"].tolist().index(ids[0]) + 1
    mine = dict(zip(one.extra["ids"].tolist(), one.values.tolist(), strict=True))
    kl = sum(q * np.log(q / mine[token]) for token, q in theirs.items())
    assert figure.extra["kl"] == pytest.approx(kl, abs=1e-4)


@pytest.mark.parametrize("position", [-1, 5])
@pytest.mark.parametrize(("name", "mode"), EVERY)
def test_no_place_of_a_is_taken_for_one_of_b(name, mode, position, scope, experts):
    # B is the shorter one: it has no token where A's cursor is.
    focus = {"mode": mode, "layer": 1, "position": position}
    figure = apart(of_model(name, scope, experts), name, (3, 5, 17), **focus)
    assert "Error" not in figure.verdict.reason


def test_a_token_that_b_lacks(scope):
    for name in ("next-token", "attribution", "saliency"):
        figure = apart(scope, name, position=2, target=31)
        assert figure.verdict.reason.startswith("prompt B does not have ‹7›")
    assert apart(scope, "residual", position=2).values.shape == (4, 7)


def test_prompts_without_a_token_in_common_and_no_prompt_b(scope):
    figure = apart(scope, "residual", (40, 41))
    assert "no token in common" in figure.verdict.reason
    with pytest.raises(ValueError, match="change: there is nothing to compare with"):
        scope.look("residual", recording=scope.record(A), change=True)


def test_with_edits_in_force_it_is_what_they_changed(scope):
    recording = scope.record(A, edits=["zero mlp 1"])
    figure = scope.look("residual", recording=recording, change=True, versus_prompt=B)
    assert figure.title.endswith("· change")
    assert np.isfinite(figure.values).all()


def test_only_what_is_in_sight_is_asked_of_b(scope):
    figure = apart(scope, "attention", span=(3, 6), layer=1)
    whole = apart(scope, "attention", layer=1)
    assert figure.values == pytest.approx(whole.values[3:6], abs=1e-6, nan_ok=True)
    refused = apart(scope, "attention", span=(2, 3), layer=1)
    assert "none of the tokens" in refused.verdict.reason
    blocks = apart(scope, "attention", pool=2, layer=1)
    assert "block of tokens" in blocks.verdict.reason
