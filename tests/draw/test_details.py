"""The panes beside the map: next token, attention, neurons, tokens, bars."""

import re
from dataclasses import replace

import numpy as np
import pytest

from llmscope.draw import RenderOptions, natural_height, paint, styles_for
from llmscope.figure import SIGNED_WEIGHT, Axis, Figure, Focus

FOCUS = Focus(position=-1)


def test_next_token_golden(next_token, plain, read):
    assert read(paint(next_token, 44, 6, plain)) == [
        " ·Paris  77.25 % ████████████████████▉      ",
        "▸·the     6.45 % █▊                         ",
        " ·London  1.25 % ▍                          ",
        "×↵        0.04 % ▏                          ",
        " " * 44,
        " entropy 1.62 bits · target ·the rank 2     ",
    ]


def test_percentages_read_back(next_token, plain, read):
    rows = read(paint(next_token, 44, 6, plain))
    painted = [float(re.search(r"([\d.]+) %", row)[1]) / 100 for row in rows[:4]]
    np.testing.assert_allclose(painted, next_token.values, atol=0.00051)
    places = {row.index(".") for row in rows[:4]}
    assert len(places) == 1


def test_bars_are_as_long_as_the_probability(next_token, plain, read):
    rows = read(paint(next_token, 64, 6, plain))
    room = 64 - rows[0].index("█")
    eighths = [
        sum(8 if c == "█" else " ▏▎▍▌▋▊▉".index(c) for c in row[64 - room :]) for row in rows[:3]
    ]
    np.testing.assert_allclose(
        np.array(eighths) / (8 * room), next_token.values[:3], atol=0.6 / room / 8
    )


def test_the_last_line_tells_entropy_and_target(next_token, plain, read):
    rows = read(paint(next_token, 44, 6, plain))
    assert rows[-1].strip() == "entropy 1.62 bits · target ·the rank 2"
    assert rows[1].startswith("▸·the")


def test_an_entropy_that_is_not_nothing_never_reads_so(next_token, plain, read):
    for entropy, told in ((0.0, "0"), (0.0029, "<.01"), (0.0051, "0.01"), (0.994, "0.99")):
        figure = replace(next_token, extra={**next_token.extra, "entropy": entropy})
        assert read(paint(figure, 60, 6, plain))[-1].split(" bits")[0] == f" entropy {told}"


def test_a_target_that_is_not_listed_is_told_below(next_token, plain, read):
    extra = {**next_token.extra, "target_id": 9, "target": " Rome", "target_rank": 17}
    rows = read(paint(replace(next_token, extra=extra), 60, 6, plain))
    assert rows[-1].strip() == "entropy 1.62 bits · target ·Rome rank 17 · 6.45 %"
    rows = read(paint(replace(next_token, extra=extra), 20, 6, plain))
    assert rows[-1].strip() == "entropy 1.62 bits"


def test_a_cut_candidate_is_dim(next_token):
    look = RenderOptions()
    painting = paint(next_token, 44, 6, look)
    dim = styles_for(look).dim
    assert all(segment.style != dim for segment in painting.rows[0])
    assert painting.rows[3][0].style == dim


def test_one_row_shows_the_first(next_token, plain, read):
    assert read(paint(next_token, 20, 1, plain))[0].startswith(" ·Paris")


def test_attention_golden(attention, plain, read):
    assert read(paint(attention, 44, 8, plain, FOCUS)) == [
        "            The ·cap…   ·of ·Fra…   ·is     ",
        "      The █1.00                             ",
        " ·capital ▒0.46 ▒0.54                       ",
        "      ·of ░0.31 ░0.33 ░0.36                 ",
        "  ·France ░0.23 ░0.24 ░0.26 ░0.27           ",
        "     ▸·is ░0.18 ░0.19 ░0.20 ░0.21 ░0.22 ◂   ",
        " " * 44,
        "▸·is → ·is .22  ·France .21  ·of .20        ",
    ]


def test_attention_reads_back(attention, plain, read):
    rows = read(paint(attention, 60, 8, plain, FOCUS))
    for index, row in enumerate(rows[1:6]):
        painted = [float(x) for x in re.findall(r"\d\.\d+", row)]
        np.testing.assert_allclose(painted, attention.values[index, : index + 1], atol=0.006)


def test_strongest_keys_follow_the_focus(attention, plain, read):
    rows = read(paint(attention, 60, 8, plain, Focus(position=0)))
    assert rows[-1].strip() == "▸The → The 1.00"


def test_small_weights_of_a_map_keep_their_digits(attention, plain, read):
    values = np.where(np.isnan(attention.values), np.nan, -2e-5 * attention.values)
    small = replace(attention, values=values.astype(np.float32), unit=SIGNED_WEIGHT)
    rows = read(paint(small, 60, 8, plain, Focus(position=0)))
    assert rows[-1].strip() == "▸The → The -2e-05"


def test_many_tokens_window_the_pattern(plain, read):
    labels = tuple(f" t{i}" for i in range(80))
    values = np.tril(np.full((80, 80), 0.5, np.float32))
    axes = (Axis("query", labels), Axis("key", labels))
    figure = Figure("attention", "A", "heatmap", axes, values, "probability")
    painting = paint(figure, 44, 14, plain, Focus(position=60))
    rows = read(painting)
    assert any(row.lstrip().startswith("▸·t60") for row in rows[1:])
    assert "‹" in rows[-2]
    keys = {index for name, index in painting.across.values() if name == "key"}
    queries = {index for name, index in painting.down.values() if name == "query"}
    assert 60 in keys
    assert max(keys) == max(queries)


def test_neurons_read_back(neurons, plain, read):
    rows = read(paint(neurons, 60, 5, plain, FOCUS))
    assert [row.split()[:2] for row in rows[1:4]] == [
        ["1203", "3.250"],
        ["417", "-1.500"],
        ["8", "0.250"],
    ]
    assert "▾·is" in rows[0] or "·is▾" in rows[0]


def test_a_strip_shows_where_else_a_neuron_fires(neurons, plain, read):
    painting = paint(neurons, 60, 5, plain, FOCUS)
    rows = read(painting)
    columns = {
        index: column for column, (_, index) in sorted(painting.across.items(), reverse=True)
    }
    strip = [rows[3][columns[position]] for position in range(5)]
    assert strip == [" ", " ", "█", "-", " "]
    assert rows[1][columns[4]] == "▓"


def test_signs_have_colours_of_their_own(neurons):
    look = RenderOptions()
    ready = styles_for(look)
    painting = paint(neurons, 60, 5, look, FOCUS)
    assert any(segment.style is ready.plus for segment in painting.rows[1])
    assert any(segment.style is ready.minus for segment in painting.rows[2])


def test_tokens_read_back(tokens, plain, read):
    rows = read(paint(tokens, 60, 6, plain, FOCUS))
    assert rows[0].split()[:5] == ["#", "token", "id", "surprisal", "rank"]
    assert rows[1].split() == ["0", "The", "504", "–", "–"]
    assert rows[2].split()[:5] == ["1", "·capital", "3575", "9.10", "312"]
    assert rows[5].startswith("▸4 ·is")


@pytest.mark.parametrize(("width", "titles"), [(20, ["surprisal"]), (27, ["surprisal", "rank"])])
def test_a_narrow_table_drops_the_least_telling(tokens, plain, read, width, titles):
    head = read(paint(tokens, width, 6, plain, FOCUS))[0]
    assert head.split()[2:] == titles


def test_bars_of_both_signs(plain, read):
    axes = (Axis("component", ("embed", "attn 0")),)
    figure = Figure("any", "Any", "bars", axes, np.array([2, -4.5], np.float32), "logit")
    rows = read(paint(figure, 40, 2, plain))
    assert (rows[0].count("█"), rows[1].count("█")) == (7, 17)
    assert rows[0].index("█") == rows[1].rindex("█") + 1, "they grow from a common zero"
    assert rows[1].split()[:3] == ["attn", "0", "-4.500"]


@pytest.fixture
def edited(next_token):
    extra = {
        **next_token.extra,
        "unedited": np.array([0.35, 0.4, 0.0125, 0.01], np.float32),
        "unedited_target_rank": 1,
        "unedited_target_probability": 0.4,
        "kl": 0.6234,
    }
    return replace(next_token, extra=extra)


def test_next_token_of_an_edited_pass_golden(edited, plain, read):
    assert read(paint(edited, 70, 7, plain)) == [
        " ·Paris  77.25 % +42.2▴ ███████████████████████████████████▌          ",
        "▸·the     6.45 % -33.6▾ ███                                           ",
        " ·London  1.25 %   0.0  ▋                                             ",
        "×↵        0.04 %  -1.0  ▏                                             ",
        " " * 70,
        " KL 0.62 nats from the unedited pass · target was rank 1 at 40.0 %    ",
        " entropy 1.62 bits · target ·the rank 2                               ",
    ]


@pytest.mark.parametrize("ascii_only", [False, True])
def test_changes_fit_any_room(edited, read, ascii_only):
    for width in (1, 6, 12, 20, 30, 48):
        for height in (1, 2, 3, 4, 8):
            rows = read(paint(edited, width, height, RenderOptions(ascii=ascii_only)))
            assert len(rows) == height
            assert rows[0][:2].strip(" >▸") or width == 1
    assert natural_height(edited) == natural_height(replace(edited, extra={})) + 1


def test_changes_read_back(edited, plain, read):
    rows = read(paint(edited, 64, 7, plain))[:4]
    painted = [float(re.search(r"%\s+([+-]?[\d.]+)", row)[1]) for row in rows]
    expected = 100 * (edited.values - edited.extra["unedited"])
    np.testing.assert_allclose(painted, expected, atol=0.0501)
    assert len({row.index("%") for row in rows}) == 1


def test_a_change_of_attention_and_of_heads_keeps_its_signs(attention, plain, read):
    values = attention.values.copy()
    values[4] = [-0.4, 0.3, 0.001, -0.001, 0.098]
    row = read(paint(replace(attention, values=values), 60, 8, plain, FOCUS))[-1]
    assert row.strip() == "▸·is → The -.40  ·capital .30  ·is .10"
    axes = (Axis("layer", ("0",)), Axis("head", ("0", "1")))
    figure = Figure(
        "any", "Any", "heatmap", axes, np.array([[-0.4, 0.01]], np.float32), "probability"
    )
    assert any("-.40" in row for row in read(paint(figure, 60, 5, plain))[1:-1])


def test_what_is_said_of_a_bar_stands_beside_it(plain, read):
    axes = (Axis("direction", ("o 1", "down 1")),)
    beside = ("promotes ‹ be› ‹Arr›", "promotes a list that is longer than there is room")
    values = np.array([4.25, 2.125], dtype=np.float32)
    figure = Figure("stages", "", "bars", axes, values, "norm", extra={"beside": beside})
    first, second = read(paint(figure, 56, 2, plain))
    assert first.rstrip().endswith("promotes ‹·be› ‹Arr›")
    assert second.rstrip().endswith("…")
    assert first.index("promotes") == second.index("promotes")
    assert (first.count("█"), second.count("█")) == (10, 5)
    for width in range(1, 56):  # and never instead of the number
        row = read(paint(figure, width, 2, plain))[0]
        assert len(row) == width
        assert width < 14 or "4.250" in row
