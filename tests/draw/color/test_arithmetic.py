import pytest

from llmscope.draw.color.arithmetic import (
    ANSI_NAMES,
    along,
    contrast,
    distance,
    luminance,
    mix,
    monotone_256,
    nearest_16,
    nearest_256,
    parse_colour,
    parse_hex,
    to_hex,
    xterm,
)


def test_contrast_is_that_of_wcag():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(
    ("index", "rgb"), [(16, (0, 0, 0)), (67, (95, 135, 175)), (231, (255,) * 3), (232, (8,) * 3)]
)
def test_xterm_numbers(index, rgb):
    assert xterm(index) == rgb
    assert nearest_256(rgb) in (index, 16, 231)


def test_mixing_keeps_ends_and_lies_between():
    black, white = (0, 0, 0), (255, 255, 255)
    assert mix(black, white, 0) == black
    assert mix(black, white, 1) == white
    middle = mix(black, white, 0.5)
    assert len(set(middle)) == 1
    assert 80 < middle[0] < 120


def test_along_goes_through_its_stops():
    stops = ((10, 20, 30), (200, 30, 40), (250, 250, 250))
    assert along(stops, 5)[::2] == stops
    assert along(stops, 1) == stops[:1]


def test_hue_decides_among_sixteen():
    assert nearest_16(parse_hex("#2b7a40")) == 2
    assert nearest_16(parse_hex("#8fcf8a")) == 10
    assert nearest_16(parse_hex("#ff6b70")) == 9
    assert nearest_16(parse_hex("#2f68a3")) == 4
    assert nearest_16(parse_hex("#000000")) == 0


@pytest.mark.parametrize("number", range(16))
def test_a_colour_of_xterms_sixteen_keeps_its_number(number):
    assert parse_colour(ANSI_NAMES[number]) == to_hex(xterm(number))
    assert nearest_16(xterm(number)) == number


def test_distances_are_those_of_oklab():
    assert distance((0, 0, 0), (255, 255, 255)) == pytest.approx(1, abs=1e-4)
    # Ottosson's own figures: red is L 0.628, a 0.225, b 0.126; blue is 0.452, -0.032, -0.312.
    expected = (0.176**2 + 0.257**2 + 0.438**2) ** 0.5
    assert distance((255, 0, 0), (0, 0, 255)) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("ends", [("#000000", "#ffffff"), ("#ffffff", "#000000")])
def test_a_grey_ramp_of_256_colours_is_grey(ends):
    indices = monotone_256(tuple(map(parse_hex, ends)))
    shown = [xterm(index) for index in indices]
    assert all(len(set(rgb)) == 1 for rgb in shown)
    assert len(shown) >= 16
    assert [to_hex(shown[0]), to_hex(shown[-1])] == list(ends)


def test_a_ramp_of_256_colours_goes_one_way():
    stops = tuple(map(parse_hex, ("#440154", "#31688e", "#35b779", "#fde725")))
    light = [luminance(xterm(index)) for index in monotone_256(stops)]
    assert len(light) >= 8
    assert light == sorted(set(light))


@pytest.mark.parametrize("text", ["red", "#12345", "#gggggg", "123456", "#+12345", "# 12345"])
def test_what_is_no_colour_is_refused(text):
    with pytest.raises(ValueError, match="colour"):
        parse_hex(text)


def test_hex_there_and_back():
    assert to_hex(parse_hex("#0d1015")) == "#0d1015"
