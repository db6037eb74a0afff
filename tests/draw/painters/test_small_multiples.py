"""Small multiples, and the grid of layers and heads: what stands where, read back from cells."""

import numpy as np
import pytest

from llmscope.draw import RenderOptions, framed, natural_height, paint, styles_for
from llmscope.draw.painters.small_multiples import plan
from llmscope.figure import Axis, Figure, Focus


def heads_of(count, tokens, unit="probability", seed=0):
    generator = np.random.default_rng(seed)
    values = generator.random((count, tokens, tokens)).astype(np.float32)
    values[(slice(None), *np.triu_indices(tokens, 1))] = np.nan
    values /= np.nansum(values, -1, keepdims=True)
    labels = tuple(f" t{place}" for place in range(tokens))
    axes = (
        Axis("head", tuple(map(str, range(count)))),
        Axis("query", labels),
        Axis("key", labels),
    )
    return Figure("attention", "Attention · layer 3", "heatmap", axes, values, unit)


def drawn(figure, painting, look, head, made):
    """The backgrounds of the dots of one of them, read from the cells. [row, column]"""
    count = figure.values.shape[0]
    place = head - made.shown.start
    left = 2 + place % made.beside * (made.width + 2)
    top = 1 + place // made.beside * (made.height + 1 + made.apart)
    assert 0 <= place < count
    dots = []
    for row in painting.rows[top : top + made.height]:
        cells = [(char, segment.style) for segment in row for char in segment.text]
        line = cells[left : left + made.width]
        dots.append([(style.color if char == "▀" else style.bgcolor) for char, style in line])
        dots.append([style.bgcolor for _, style in line])
    return dots


@pytest.mark.parametrize(("count", "tokens", "size"), [(9, 14, (116, 38)), (12, 40, (90, 30))])
def test_every_dot_is_the_maximum_of_its_block(count, tokens, size):
    figure, look = heads_of(count, tokens), RenderOptions()
    painting = paint(figure, *size, look, Focus(head=1))
    made = plan(figure.values.shape, size[0], size[1] - 2, 2, 1)
    assert not made.shown.partial
    ramp = styles_for(look).sequential
    for head in range(count):
        dots = drawn(figure, painting, look, head, made)
        for row, line in enumerate(dots):
            for column, shade in enumerate(line):
                query, key = row // made.down * made.pool, column // made.across * made.pool
                block = figure.values[head, query : query + made.pool, key : key + made.pool]
                known = block[np.isfinite(block)]
                step = round(float(known.max()) * (len(ramp) - 1)) if known.size else -1
                assert shade == ramp.styles[step].bgcolor, (head, row, column)
    said = f"max of {made.pool}×{made.pool} tokens" if made.pool > 1 else ""
    assert painting.remark == said
    assert (made.pool > 1) == (tokens > 14)


def test_each_bears_its_number_and_a_click_finds_it(read):
    figure = heads_of(9, 14)
    painting = paint(figure, 116, 38, RenderOptions(), Focus(head=4, position=5))
    text = read(painting)
    labels = [row for row in text if "head" in row][:-1]
    assert [row.split() for row in labels] == [
        ["head", "0", "head", "1", "head", "2"],
        ["head", "3", "▸head", "4", "head", "5"],
        ["head", "6", "head", "7", "head", "8"],
    ]
    for head in range(9):
        y = text.index(labels[head // 3])
        x = labels[head // 3].index(f"head {head}")
        assert painting.hit(x, y) == painting.hit(x + 3, y + 4) == {"head": head}
    assert painting.hit(115, 0) == {}
    assert sum(row.count("▸") for row in text) == 9 + 1 + 1  # rows, the head, the words


def test_the_words_are_those_of_the_head_and_the_row(read):
    figure = heads_of(3, 6)
    text = read(paint(figure, 60, 12, RenderOptions(), Focus(head=2, position=4)))
    row = figure.values[2, 4]
    first = int(np.nanargmax(row))
    assert text[-1].startswith(f"head 2 ▸·t4 → ·t{first} {row[first]:.2f}".replace(" 0.", " ."))


@pytest.mark.parametrize(
    "look", [RenderOptions(), RenderOptions(tier="none"), RenderOptions(tier="256", ascii=True)]
)
def test_as_many_as_fit_around_the_focus_and_the_title_says_so(look, read):
    figure = heads_of(64, 300)
    for head in (0, 31, 63):
        painting = paint(figure, 50, 14, look, Focus(head=head))
        assert [len(row) for row in read(painting)] == [50] * 14
        shown = sorted({index for *_, index in painting.boxes})
        assert head in shown
        assert shown == list(range(shown[0], shown[-1] + 1))
        assert f"head {shown[0]}–{shown[-1]} of 64" in painting.remark
    top = "".join(s.text for s in framed(figure, 110, 16, look, Focus(head=63))[0])
    assert "Attention" in top
    assert "of 64" in top
    assert "max of" in top
    if look.ascii:
        assert all(text.isascii() for text in read(painting))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 3), (20, 5), (300, 100)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (32, 1, 1), (7, 3, 90), (2, 700, 700)])
def test_any_room_is_filled_exactly(size, shape, read):
    axes = tuple(
        Axis(name, tuple(map(str, range(count))))
        for name, count in zip(("layer", "position", "neuron"), shape, strict=True)
    )
    values = np.linspace(-1, 1, np.prod(shape), dtype=np.float32).reshape(shape)
    figure = Figure("any", "Any", "heatmap", axes, values, "activation")
    rows = read(paint(figure, *size, RenderOptions(), Focus(layer=0)))
    assert [len(row) for row in rows] == [size[0]] * size[1]


def test_foreign_labels_do_no_harm(read):
    figure = heads_of(2, 4)
    axes = (Axis("head", ("\x1b[31m", "1")), *figure.axes[1:])
    evil = Figure("x", "x", "heatmap", axes, figure.values.copy(), "probability")
    assert "\x1b" not in "".join(read(paint(evil, 60, 12, RenderOptions(), Focus(head=0))))


def test_more_room_is_always_of_use():
    assert natural_height(heads_of(4, 9)) is None


def grid(values, unit="probability", **extra):
    layers, heads = values.shape
    axes = (
        Axis("layer", tuple(map(str, range(layers)))),
        Axis("head", tuple(map(str, range(heads)))),
    )
    return Figure("heads", "Heads", "heatmap", axes, values, unit, extra=extra)


def test_heads_are_numbers_and_the_largest_are_named(plain, read):
    values = np.array([[0.01, 0.5, 0.049], [np.nan, 0.996, 0.05]], dtype=np.float32)
    painting = paint(grid(values), 70, 4, plain, Focus(layer=0, head=1))
    text = read(painting)
    assert text[0].split() == ["layer", "0", "▸1", "2"]
    assert [word.strip("░▒▓█") for word in text[1].split()] == ["▸0", ".50"]
    assert [word.strip("░▒▓█") for word in text[2].split()] == ["1", "1.00", ".05"]
    words = "▸0.1 .50 · largest, by layer.head: 1.1 1.00  0.1 .50  1.2 .05"
    assert text[3].startswith(words)
    assert {"layer": 1, "head": 2} in [painting.hit(x, 2) for x in range(70)]


def test_the_scale_of_heads_is_even(plain):
    values = np.array([[0.001, 1.0, 2.5]], dtype=np.float32)
    painting = paint(grid(values, "bits"), 60, 6, plain, Focus(layer=0))
    assert "log" not in "".join(segment.text for segment in painting.legend)
