import re
from dataclasses import replace

import numpy as np

from llmscope.draw import RenderOptions, paint, styles_for
from llmscope.draw.scale import Scale, in_decades
from llmscope.figure import Axis, Figure, Focus

FOCUS = Focus(layer=1, position=-1)


def big(layers=40, tokens=90):
    values = np.arange(layers * tokens, dtype=np.float32).reshape(layers, tokens)
    axes = (
        Axis("layer", tuple(map(str, range(layers)))),
        Axis("position", tuple(f" t{i}" for i in range(tokens))),
    )
    return Figure("residual", "Norm", "heatmap", axes, values, "norm")


def test_golden(residual, tokens, plain, read):
    assert read(paint(residual, 60, 8, plain, FOCUS, tokens=tokens)) == [
        "     layer      The ·capital      ·of  ·France     ▸·is     ",
        "     embed     1.00     2.50     4.00 ░   5.50 ░   7.00     ",
        "         0 ░   8.50 ░  10.00 ░  11.50 ▒  13.00 ▒  14.50     ",
        "        ▸1 ▒  16.00 ▒  17.50 ▓  19.00 ▓  20.50 ▓  22.00     ",
        "         2 ▓  23.50 ▓  25.00 █  26.50 █  28.00 █  29.50     ",
        " surprisal        –     9.10     1.20     4.00     0.90     ",
        " " * 60,
        " " * 60,
    ]


def test_golden_narrow_in_ascii(residual, tokens, read):
    painting = paint(residual, 20, 7, RenderOptions(tier="none", ascii=True), FOCUS, tokens=tokens)
    assert read(painting) == [
        "      The _of >_is  ",
        " emb~     ....::    ",
        "    0 ::----====    ",
        "   >1 ++++****X     ",
        "    2 ##%%%%@@@@    ",
        " sur~ - @@::++::    ",
        " " * 20,
    ]


def test_numbers_read_back(residual, tokens, plain, read):
    rows = read(paint(residual, 60, 8, plain, FOCUS, tokens=tokens))
    painted = [
        [float(cell) for cell in row[11:].split() if cell not in "░▒▓█"] for row in rows[1:5]
    ]
    np.testing.assert_allclose(painted, residual.values, atol=0.05)
    np.testing.assert_allclose(
        [float(x) for x in rows[5].split()[2:6]], tokens.values[1:], atol=0.05
    )


def test_colour_follows_the_value(residual, tokens):
    painting = paint(residual, 20, 8, RenderOptions(), Focus(layer=1, position=0), tokens=tokens)
    painted = []
    for row in painting.rows[1:5]:
        cells = [s.style for s in row for _ in s.text]
        painted.append([cells[column] for column in sorted(painting.across)])
    order = {
        style: step for step, style in enumerate(styles_for(RenderOptions()).sequential.styles[:-1])
    }
    levels = [[order.get(style, -1) for style in row[2:]] for row in painted]
    flat = [level for row in levels for level in row if level >= 0]
    assert flat == sorted(flat)
    assert max(flat) == 31


def test_a_click_finds_layer_and_position(residual, tokens, plain):
    painting = paint(residual, 60, 8, plain, FOCUS, tokens=tokens)
    assert painting.hit(12, 1) == {"position": 0, "layer": 0}
    assert painting.hit(50, 4) == {"position": 4, "layer": 3}
    assert painting.hit(50, 0) == {"position": 4}
    assert painting.hit(2, 2) == {"layer": 1}
    assert painting.hit(2, 7) == {}


def test_negative_layers_count_from_the_end(residual, plain, read):
    assert "▸2" in read(paint(residual, 60, 8, plain, Focus()))[4]
    assert "▸" not in "".join(read(paint(residual, 60, 8, plain, Focus(layer=9)))[1:])


def test_a_window_follows_the_cursor_and_says_so(plain, read):
    for layer, position in ((0, 0), (20, 45), (39, 89), (13, 7)):
        painting = paint(big(), 70, 20, plain, Focus(layer=layer, position=position))
        rows = read(painting)
        assert f"▸·t{position}" in rows[0]
        marked = [row for row in rows[1:] if f"▸{layer} " in row]
        assert len(marked) == 1
        assert marked[0].count("◆") == 1
        column, row = marked[0].index("◆"), rows.index(marked[0])
        assert painting.hit(column, row) == {"layer": layer, "position": position}
        shown = {index for name, index in painting.across.values() if name == "position"}
        before, after = min(shown), 89 - max(shown)
        assert (f"‹{before} " in rows[-1]) == (before > 0)
        assert (f" {after}›" in rows[-1]) == (after > 0)
        assert "┃" in {row[-1] for row in rows}


def test_words_stand_in_wide_cells(residual, plain, read):
    words = [[f"w{row}{column}" for column in range(5)] for row in range(4)]
    words[2][3] = "[/nope]\x1b"
    extra = {
        "ids": np.arange(20).reshape(4, 5),
        "names": dict(enumerate(word for row in words for word in row)),
    }
    figure = Figure("any", "Any", "heatmap", residual.axes, residual.values, "x", extra=extra)
    rows = read(paint(figure, 80, 7, plain, FOCUS))
    words = [re.sub("[░▒▓█]", " ", row).split() for row in rows]
    assert words[1] == ["embed", "w00", "w01", "w02", "w03", "w04"]
    assert "[/nope]\\x1b" in rows[3]
    narrow = paint(figure, 24, 7, plain, FOCUS)
    assert {index for _, index in narrow.across.values()} == {3, 4}


def test_zoom_is_obeyed(residual, plain):
    painting = paint(residual, 60, 8, plain, FOCUS, zoom=2)
    assert len(painting.across) == 10


def test_tokens_of_another_prompt_are_left_out(tokens, plain, read):
    rows = read(paint(big(3, 4), 60, 8, plain, tokens=tokens))
    assert not any("surprisal" in row for row in rows)


def test_the_cursor_is_the_accent(residual):
    look = RenderOptions()
    painting = paint(residual, 60, 8, look, FOCUS)
    accented = [
        (index, segment.text.strip())
        for index, row in enumerate(painting.rows)
        for segment in row
        if segment.style.bgcolor and segment.style.bgcolor.name == look.theme.accent
    ]
    assert accented == [(3, "22.00")]


def hybrid(residual):
    kinds = ("state space", "attention", "convolution")
    return Figure(
        "residual",
        "Norm",
        "heatmap",
        residual.axes,
        residual.values,
        "norm",
        extra={"kinds": kinds},
    )


def test_layers_of_several_kinds_carry_a_letter(residual, tokens, plain, read):
    painting = paint(hybrid(residual), 60, 7, plain, FOCUS, tokens=tokens)
    assert read(painting) == [
        "     layer      The ·capital      ·of  ·France     ▸·is     ",
        "   embed       1.00     2.50     4.00 ░   5.50 ░   7.00     ",
        "       0 M ░   8.50 ░  10.00 ░  11.50 ▒  13.00 ▒  14.50     ",
        "      ▸1 A ▒  16.00 ▒  17.50 ▓  19.00 ▓  20.50 ▓  22.00     ",
        "       2 C ▓  23.50 ▓  25.00 █  26.50 █  28.00 █  29.50     ",
        " surprisal        –     9.10     1.20     4.00     0.90     ",
        " " * 60,
    ]
    assert painting.hit(50, 3) == {"position": 4, "layer": 2}
    legend = paint(hybrid(residual), 70, 7, plain, FOCUS, tokens=tokens).legend
    legend = "".join(segment.text for segment in legend)
    assert legend == "norm 1  ░▒▓█ 29.5 · A attention, M state space, C convolution"


def test_where_there_is_no_room_letters_stand_unexplained(residual, tokens, plain, read):
    painting = paint(hybrid(residual), 40, 7, plain, FOCUS, tokens=tokens)
    assert "▸1 A" in read(painting)[3]
    assert "".join(segment.text for segment in painting.legend) == "norm 1  ░▒▓█ 29.5"


def test_rows_of_a_learned_lens_are_marked_and_explained(residual, tokens, plain, read):
    extra = {"unmapped": (0, 3), "doubtful": (2,)}
    figure = replace(residual, extra=extra)
    painting = paint(figure, 60, 7, plain, FOCUS, tokens=tokens)
    labels = [row.split()[0] for row in read(painting)[1:5]]
    assert labels == ["embed*", "0", "▸1!", "2*"]
    legend = "".join(segment.text for segment in painting.legend)
    assert legend == "norm 1  ░▒▓█ 29.5 · * logit lens, ! doubtful"
    figure = replace(residual, extra=extra | {"doubtful": ()})
    legend = paint(figure, 60, 7, plain, FOCUS, tokens=tokens).legend
    assert "!" not in "".join(segment.text for segment in legend)


def test_the_probability_of_a_token_has_its_ranks_and_a_scale_that_shows_early_layers(plain, read):
    values = np.array([[2e-9, 2e-4], [3e-3, 0.25]], dtype=np.float32)
    axes = (Axis("layer", ("0", "1")), Axis("position", ("a", "b")))
    extra = {"ids": [[1, 2], [3, 4]], "names": {1: "on", 2: "top", 3: "of", 4: "it"}}
    top = Figure("logit-lens", "P", "heatmap", axes, values, "probability", extra=extra)
    ranks = np.array([[30_000.0, 734.0], [12.0, 1.0]], dtype=np.float32)
    figure = replace(top, extra={**extra, "ranks": ranks})
    painting = paint(figure, 70, 8, plain, FOCUS)
    text = "\n".join(read(painting))
    for mark in "░▒▓█▸":
        text = text.replace(mark, " ")
    assert {"30.0k", "734", "12", "1"} <= set(text.split())
    assert "top" not in text
    legend = "".join(part.text for part in painting.legend)
    assert legend.endswith("· log · cells: rank")
    scale = Scale.of(values, "probability", decades=True)
    assert (scale.kind, scale.low, scale.high) == ("log", 1e-9, 1.0)
    assert scale.steps(values, 10).ravel().tolist() == [0, 5, 6, 8]
    assert Scale.of(values, "probability").steps(values, 10).ravel().tolist() == [0, 0, 0, 2]
    # A difference of two passes, and tokens pooled into blocks, have no such ranks.
    change = replace(figure, extra={**figure.extra, "change": True})
    assert not in_decades(change)
    assert not in_decades(replace(figure, extra={**extra, "ranks": ranks[:, :1]}))
    assert "top" in "\n".join(read(paint(top, 40, 8, plain, FOCUS)))
