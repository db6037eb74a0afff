import pytest

from llmscope.draw.colour import (
    along,
    contrast,
    luminance,
    mix,
    monotone_256,
    nearest_16,
    nearest_256,
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


def test_a_ramp_of_256_colours_goes_one_way():
    stops = tuple(map(parse_hex, ("#440154", "#31688e", "#35b779", "#fde725")))
    light = [luminance(xterm(index)) for index in monotone_256(stops)]
    assert len(light) >= 8
    assert light == sorted(set(light))


@pytest.mark.parametrize("text", ["red", "#12345", "#gggggg", "123456"])
def test_what_is_no_colour_is_refused(text):
    with pytest.raises(ValueError, match=r"colour|base 16"):
        parse_hex(text)


def test_hex_there_and_back():
    assert to_hex(parse_hex("#0d1015")) == "#0d1015"
