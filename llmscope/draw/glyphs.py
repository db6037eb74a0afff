"""The characters that pictures are drawn with, in Unicode and in ASCII, each one cell wide."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """One set of characters.

    Attributes:
        mark, back: point at the focus from the left and from the right.
        cursor: fills the focused cell when it is too narrow for a word.
        ellipsis: replaces text that was cut off.
        missing: replaces a missing value.
        special: precedes a special token.
        separator: separates two remarks on one line.
        arrow: leads from one item to another.
        cut: marks a candidate that the sampler excludes.
        left, right, up, down: mark that there is more in that direction.
        track, thumb: the horizontal minimap; track_down, thumb_down: the vertical one.
        bar: a full cell of a bar; tips: its ends by eighths, the first empty; left_tips: the ends
            of a bar that grows to the left, of equal steps, the first empty.
        spark: increasing heights.
        density: increasing weight, blank first; plus, minus: the same for positive and negative
            values, of equal length.
        box: corners and sides of a frame: top left, top right, bottom left, bottom right,
            horizontal, vertical.
    """

    mark: str
    back: str
    cursor: str
    ellipsis: str
    missing: str
    special: str
    separator: str
    arrow: str
    cut: str
    left: str
    right: str
    up: str
    down: str
    track: str
    thumb: str
    track_down: str
    thumb_down: str
    bar: str
    tips: str
    left_tips: str
    spark: str
    density: str
    plus: str
    minus: str
    box: str


UNICODE = Glyphs(
    mark="▸",
    back="◂",
    cursor="◆",
    ellipsis="…",
    missing="–",
    special="◇",
    separator="·",
    arrow="→",
    cut="×",
    left="‹",
    right="›",
    up="▴",
    down="▾",
    track="─",
    thumb="━",
    track_down="│",
    thumb_down="┃",
    bar="█",
    tips=" ▏▎▍▌▋▊▉",
    left_tips=" ▐",
    spark="▁▂▃▄▅▆▇█",
    density=" ░▒▓█",
    plus=" ░▒▓█",
    minus=" -─═≡",
    box="╭╮╰╯─│",
)

ASCII = Glyphs(
    mark=">",
    back="<",
    cursor="X",
    ellipsis="~",
    missing="-",
    special="*",
    separator="|",
    arrow=">",
    cut="x",
    left="<",
    right=">",
    up="^",
    down="v",
    track="-",
    thumb="=",
    track_down="|",
    thumb_down="#",
    bar="#",
    tips=" ",
    left_tips=" ",
    spark=".:-=+*#%@",
    density=" .:-=+*#%@",
    plus=" .:+#@",
    minus=" -~=%&",
    box="++++-|",
)
