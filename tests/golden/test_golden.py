"""The screens stand as they were kept; `python -m tests.golden` keeps them as they are now."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from llmscope.draw.color import arithmetic
from llmscope.tui.terminal.output_filter import in_ascii
from tests.golden.files import FOLDER, content, path_of
from tests.golden.grids import LEGEND, LETTERS, colour_grid, legend_of
from tests.golden.scenes import SIZES, TIERS, scenes, shoot
from tests.thinned import thinned

SCENES = scenes()
FEWER = ("80x24-256", "80x24-16", "120x40-16", "120x40-none", "200x60-none", "200x60-ascii")
"""Scenes whose size and whose tier other scenes have too."""
REMAKE = "python -m tests.golden makes them again; read what git diff says of them"


def runs_by_default(name: str) -> bool:
    """Whether a scene is drawn by default: no small copy of another, no further tier of a size."""
    return not name.endswith("-small") and name not in FEWER


@pytest.mark.parametrize("name", thinned(SCENES, runs_by_default))
async def test_the_screen_is_as_it_was(name: str) -> None:
    kept = path_of(name).read_text(encoding="utf-8")
    made = content(await shoot(SCENES[name]), SCENES[name], kept)
    assert made.splitlines() == kept.splitlines(), REMAKE


def test_what_is_kept_is_what_there_is() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SCENES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 410_000


def grids(name: str) -> list[list[str]]:
    """The text of a file, and its colours where there are some: rows without their bars."""
    blocks = path_of(name).read_text(encoding="utf-8").split(f"\n{LEGEND}\n")[0].split("\n\n")
    return [[line[1:-1] for line in block.splitlines()] for block in blocks]


@pytest.mark.parametrize("name", SCENES)
def test_each_row_is_as_wide_as_the_screen(name: str) -> None:
    width, height = SCENES[name].size
    parts = grids(name)
    assert len(parts) == 1 + SCENES[name].coloured
    for rows in parts:
        assert [cell_len(row) for row in rows] == [width] * height


@pytest.mark.parametrize("name", [name for name in SCENES if name.endswith("ascii")])
def test_ascii_is_ascii(name: str) -> None:
    assert path_of(name).read_text(encoding="utf-8").isascii()


@pytest.mark.parametrize("name", [name for name in SCENES if name.endswith("-ascii")])
def test_every_character_has_a_likeness_in_ascii(name: str) -> None:
    """A question mark stands for what has none: only where there is one anyway."""
    other = name.removesuffix("-ascii")
    other = other if other in SCENES else f"{other}-none"
    for row, unicode in zip(grids(name)[0], grids(other)[0], strict=True):
        assert row.count("?") == unicode.count("?"), (row, unicode)


def at_all_sizes(*tiers: str) -> list[str]:
    return [f"{width}x{height}-{tier}" for width, height in SIZES for tier in tiers]


def at_large_sizes(*tiers: str) -> list[str]:
    """Where all layers are in sight."""
    return [name for name in at_all_sizes(*tiers) if SCENES[name].size[1] >= 40]


def test_each_tier_is_kept_at_each_size() -> None:
    assert set(at_all_sizes(*TIERS)) < set(SCENES)
    assert len({SCENES[name].look for name in at_all_sizes(*TIERS)}) == len(TIERS)


@pytest.mark.parametrize("name", [*at_large_sizes("truecolor", "256"), "120x40-light"])
def test_a_larger_value_is_never_nearer_to_the_ground(name: str) -> None:
    """The norms double every four layers: down each column the background moves one way only."""
    text, letters = grids(name)
    words = {letter: look for look, letter in legend_of(path_of(name).read_text("utf-8")).items()}
    for label in (" The", "·capital", "·of", "·France"):
        top = next(y for y, row in enumerate(text) if "layer  " in row)
        column = text[top].index(label) + len(label) - 1
        rows = layers_below(text, top)
        grounds = [words[letters[y][column]].split(" on ")[1] for y in rows]
        light = [luminance(background) for background in grounds]
        assert light == sorted(light, reverse=name.endswith("light")), label
        assert len(set(light)) >= 6, label


def layers_below(text: list[str], top: int) -> range:
    """The rows of the layers below the row of the tokens; of 30 layers, one may be out of sight."""
    stop = next(y for y in range(top, len(text)) if "surprisal" in text[y])
    assert stop - top - 1 >= 29
    return range(top + 1, stop)


def luminance(background: str) -> float:
    """Of a colour in the legend."""
    name = background.split(" bold")[0]
    number = name.removeprefix("colour ")
    rgb = arithmetic.parse_hex(name) if name.startswith("#") else arithmetic.xterm(int(number))
    return arithmetic.luminance(rgb)


@pytest.mark.parametrize("name", at_large_sizes("16", "none", "ascii"))
def test_without_grounds_a_larger_value_is_never_lighter_in_weight(name: str) -> None:
    text = grids(name)[0]
    weights = " .:-=+*#%@" if name.endswith("ascii") else " ░▒▓█"
    top = next(y for y, row in enumerate(text) if "layer  " in row)
    column = text[top].index("The") - 1  # a cell's weight stands before its token
    seen = [weights.index(text[y][column]) for y in layers_below(text, top)]
    assert seen == sorted(seen)
    assert len(set(seen)) >= 4


def words_of(name: str) -> list[str]:
    """What the looks of a file are, in words."""
    return list(legend_of(path_of(name).read_text(encoding="utf-8")))


def test_tiers_have_no_colours_that_they_cannot_show() -> None:
    for name in at_all_sizes("none", "ascii"):
        assert all(look.startswith("default on default") for look in words_of(name)), name
    for name in at_all_sizes("16"):
        shades = [int(word) for look in words_of(name) for word in look.split() if word.isdigit()]
        assert shades
        assert max(shades) < 16
    for name in at_all_sizes("256"):
        assert not [look for look in words_of(name) if "#" in look]


def test_a_look_keeps_its_letter() -> None:
    from rich.segment import Segment
    from rich.style import Style

    red, blue = Style(color="red"), Style(color="blue", bold=True)
    first = colour_grid([[Segment("ab", red), Segment("c", blue)]])
    assert first == f"|..a|\n\n{LEGEND}\n.  colour 1 on default\na  colour 4 on default bold\n"
    again = colour_grid([[Segment("a漢", blue)], [Segment("x", red)]], legend_of(first))
    assert again.startswith("|aaa|\n|.|\n")
    alone = colour_grid([[Segment("x", blue), Segment("yy")]], legend_of(first))
    assert alone == f"|a..|\n\n{LEGEND}\n.  plain\na  colour 4 on default bold\n"
    assert len(set(LETTERS)) == len(LETTERS)


def test_parts_of_a_block_have_a_likeness_in_ascii() -> None:
    """Scroll bars end in eighths of a cell; which, depends on the length of what is scrolled."""
    assert in_ascii("▁▂▃▄▅▆▇█▉▊▋▌▍▎▏") == "--######|||||||"
