"""Long prompts: a figure over pairs of tokens shows a part, or blocks, and never holds T × T."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.draw import RenderOptions, paint
from llmscope.draw.grid.layout import pool_for
from llmscope.draw.grid.pooling import pooled
from llmscope.engine.engine import near
from llmscope.engine.events import SPAN
from llmscope.figure import Focus
from llmscope.lenses import lens
from llmscope.lenses.attention import MOST
from llmscope.record.analysis.head_scores import ROOM
from tests.families import small_model
from tests.lenses.asked import options_for

LENGTH = 1500
IDS = [(7 * i * i + i) % 96 for i in range(LENGTH)]
LOOKS = [
    {"layer": 1, "head": 2},
    {"layer": 2, "mode": "mean"},
    {"layer": 0, "mode": "max"},
    {"layer": 1, "head": 3, "mode": "value-weighted"},
    {"layer": 1, "head": 3, "mode": "no-sink"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "llama"
    small_model("llama", max_position_embeddings=9000).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scope(folder):
    scope = llmscope.load(str(folder))
    scope.record(IDS)
    return scope


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_span_is_rows_of_the_whole(scope, look):
    whole = scope.look("attention", **look)
    part = scope.look("attention", span=(700, 950), **look)
    np.testing.assert_allclose(part.values, whole.values[700:950], atol=1e-7)
    assert (part.axes[0].start, part.axes[0].stop) == (700, 950)
    assert part.axes[0].labels == whole.axes[0].labels[700:950]
    assert part.axes[0].index(720) == 20
    assert part.axes[0].index(950) is None
    late = scope.look("attention", span=(1400, 5000), **look)
    np.testing.assert_allclose(late.values, whole.values[1400:], atol=1e-7)


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize(
    "pool", [64, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 256, 2048))]
)
def test_pooled_is_the_maximum_of_each_block(scope, look, pool):
    whole = np.nan_to_num(scope.look("attention", **look).values)
    figure = scope.look("attention", pool=pool, **look)
    blocks = -(-LENGTH // pool)
    assert figure.values.shape == (blocks, blocks)
    assert f"max of {pool}×{pool} tokens" in figure.title
    for row in range(blocks):
        for column in range(row + 1):
            block = whole[row * pool : (row + 1) * pool, column * pool : (column + 1) * pool]
            assert figure.values[row, column] == pytest.approx(block.max(), abs=1e-7)
    assert np.isnan(figure.values[np.triu_indices(blocks, 1)]).all()
    assert figure.to_dict()["axes"][0]["step"] == pool


def test_the_map_is_pooled_as_it_is_drawn(scope):
    figure = scope.look("residual")
    small = pooled(figure, 32)
    for column, start in enumerate(range(0, LENGTH, 32)):
        block = figure.values[:, start : start + 32]
        np.testing.assert_array_equal(small.values[:, column], block.max(axis=1))
    assert "max of 32 tokens" in small.title
    painting = paint(small, 80, 12, RenderOptions(), Focus(layer=1, position=70))
    assert {"layer": 1, "position": 64} in [
        painting.hit(x, y) for x in range(80) for y in range(12)
    ]


@pytest.mark.parametrize("cells", [1, 8, 30, 100])
def test_blocks_fit_and_seldom_change(cells):
    pools = [pool_for(count, cells) for count in range(1, 9000)]
    assert all(-(-count // pool) <= max(cells, 8) for count, pool in enumerate(pools, 1))
    assert pools == sorted(pools)
    assert len(set(pools)) <= 14


@pytest.mark.parametrize("length", [800, 8191, 8192, 20_000, 131_072])
def test_the_engine_asks_for_what_is_near(length):
    attention, residual = lens("attention"), lens("residual")
    spans = set()
    for position in range(0, length, 37):
        focus = near(attention, Focus(position=position), length)
        start, stop = focus.span
        assert start <= position < stop
        assert stop - start == SPAN or length >= 8192
        third = (stop - start) // 3
        assert position - start >= min(third, position)
        assert stop - position > third
        assert third >= 64 or start == 0
        assert (stop - start) * length <= SPAN * 8192 or third == 64
        spans.add(focus.span)
    assert len(spans) <= length / third + 1
    assert near(attention, Focus(position=3), SPAN).span is None
    assert near(attention, Focus(position=3, pool=64), length).span is None
    assert near(residual, Focus(position=3), length).span is None


@pytest.mark.parametrize("position", [0, 300, 1499])
def test_a_part_is_drawn_where_the_cursor_is(scope, position):
    focus = near(lens("attention"), Focus(layer=1, head=2, position=position), LENGTH)
    figure = scope.look("attention", layer=1, head=2, span=focus.span)
    painting = paint(figure, 60, 20, RenderOptions(), Focus(layer=1, head=2, position=position))
    text = ["".join(part.text for part in row) for row in painting.rows]
    assert any(f"▸{IDS[position]} " in row for row in text)
    hits = [painting.hit(x, y) for x in range(60) for y in range(20)]
    assert any(hit.get("query") == position for hit in hits)
    row = torch.tensor(figure.values[figure.axes[0].index(position)]).nan_to_num()
    key = int(row.argmax())
    assert f"→ {IDS[key]} {float(row[key]):.2f}".replace(" 0.", " .") in text[-1]


@pytest.mark.slow
def test_eight_thousand_tokens_take_no_more_than_is_linear(folder):
    """The largest thing that a look allocates, of 8,192 tokens, stays far below T × T."""
    scope = llmscope.load(str(folder))
    length = 8192
    recording = scope.record([(7 * i * i + i) % 96 for i in range(length)])
    focus = near(lens("attention"), Focus(layer=1, head=2, position=5000), length)
    for settings in ({"span": focus.span}, {"pool": 128}):
        figure = scope.look("attention", recording=recording, layer=1, head=2, **settings)
        assert figure.values.nbytes <= 4 * SPAN * length
    all_heads = scope.look("attention", recording=recording, mode="all", layer=1, span=focus.span)
    assert all_heads.values.size <= MOST
    looks = [{"pool": 128, "mode": mode} for mode in ("raw", "value-weighted", "no-sink", "all")]
    looks += [{"span": focus.span, "mode": "all"}]
    for settings in looks:
        assert 0 < largest(scope, recording, "attention", settings) <= 4 * 4 * 256 * length
    assert 0 < largest(scope, recording, "heads", {"mode": "sink"}) <= 4 * ROOM


def largest(scope, recording, lens, settings):
    """The largest thing, in bytes, that a look allocates."""
    with torch.profiler.profile(profile_memory=True) as profile:
        places = options_for(lens, layer=1, head=2)
        scope.look(lens, recording=recording, **places, **settings)
    return max(abs(event.cpu_memory_usage) for event in profile.events())


def test_a_letter_weighs_one_row_and_changes_no_other(folder, monkeypatch):
    from llmscope.lenses import attention

    live, fresh = llmscope.load(str(folder)), llmscope.load(str(folder))
    weighed = []
    real = attention._weights
    monkeypatch.setattr(
        attention, "_weights", lambda *given: (weighed.append(len(given[2])), real(*given))[1]
    )
    ids = IDS[:40]
    live.record(ids[:30])
    for count in range(30, 41):
        live.record(ids[:count])
        figure = live.look("attention", layer=1, head=2)
        assert weighed.pop() == (30 if count == 30 else 1)
        fresh.record(ids[:count], fresh=True)
        whole = fresh.look("attention", layer=1, head=2)
        weighed.clear()
        np.testing.assert_allclose(figure.values, whole.values, atol=1e-6)
    live.look("attention", layer=1, head=3)
    assert weighed == [40]  # eleven segments, and one product for them all
    weighed.clear()
    live.record(ids[:25])  # cut inside of the first segment
    np.testing.assert_array_equal(
        live.look("attention", layer=1, head=3).values, figure_of(live, ids[:25])
    )
    live.record([*ids[:35], 7, 7])
    np.testing.assert_array_equal(
        live.look("attention", layer=1, head=3).values, figure_of(live, [*ids[:35], 7, 7])
    )


def figure_of(scope, ids):
    """The same pattern, of the same recording, with nothing kept."""
    for segment, _ in scope.latest.parts:
        segment.memo.pop("pattern", None)
    figure = scope.look("attention", layer=1, head=3)
    assert len(figure.values) == len(ids)
    return figure.values


def test_a_span_that_was_asked_for_stays():
    focus = Focus(position=5000, span=(4990, 5010))
    assert near(lens("logit-lens"), focus, 8192).span == (4990, 5010)
    assert near(lens("attention"), focus, 8192).span == (4990, 5010)


def test_a_block_that_is_half_read_has_no_maximum(scope):
    figure = scope.look("logit-lens", span=(32, 80), position=70)
    small = pooled(figure, 32)
    assert np.isfinite(small.values[:, 1]).all()  # 32 to 63
    np.testing.assert_array_equal(small.values[:, 1], figure.values[:, 32:64].max(axis=1))
    assert np.isnan(small.values[:, [0, 2, 3]]).all()  # 64 to 95 was read up to 79
