"""The marks that pictures are made of, in Unicode and in ASCII. Each is one cell wide."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """One set of marks.

    Attributes:
        mark, back: point at the focus from the left, from the right.
        cursor: fills the focused cell when it is too narrow for a word.
        ellipsis: stands for what was cut off.
        missing: stands where there is no value.
        special: before a token that controls a model and is no text.
        separator: between two remarks on one line.
        arrow: from one thing to another.
        cut: a candidate that the sampler leaves out.
        left, right, up, down: there is more that way.
        track, thumb: the horizontal minimap; track_down, thumb_down: the vertical one.
        bar: a full cell of a bar; tips: its ends by eighths, the first empty.
        spark: rising heights.
        density: rising weight, blank first; plus, minus: the same for signed values, of one
            length.
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
    spark=".:-=+*#%@",
    density=" .:-=+*#%@",
    plus=" .:+#@",
    minus=" -~=%&",
    box="++++-|",
)
