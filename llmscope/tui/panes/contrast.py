"""The workspace Compare: this prompt, A, held against prompt B, token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llmscope.draw.painting import Painting
from llmscope.edits import Edit
from llmscope.figure import Figure, Focus
from llmscope.text import display_text
from llmscope.tui.ledger import Shown
from llmscope.tui.panes.versus import VersusPane
from llmscope.tui.scene import Scene

UNSEEN = "the cue comes later"
"""What a title says where the token cannot know of what the prompts differ in."""
HEADINGS = {
    "cosine": ("A and B", "cosine of the same token"),
    "centred": ("A and B", "cosine of the same token, mean taken off"),
    "attention": ("A", "attention to what only A has"),
    "attention-difference": ("A − B", "attention to what differs"),
    "kl": ("KL of predictions", "A‖B, B‖A"),
    "word": ("", "cosine of A and B"),
    "lens": ("", "two lists of words"),
}
"""What a title says of each mode, for panes that are narrow; the empty first part is the token."""
DIGITS = 6
"""Decimals of a cosine that float32 has: the ramp would stretch over what is less."""
ATTENTION = ("attention", "attention-difference")
"""The modes whose columns are heads."""


class ContrastPane(VersusPane):
    """What the two prompts made of each token that both have, layer by layer."""

    key: ClassVar[str] = "contrast"
    row: ClassVar[str] = "layer"
    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "contrast"
    views: ClassVar[tuple[str, ...]] = ("cosine", "centred", *ATTENTION)
    asks: ClassVar[tuple[str, ...]] = ("position",)

    def heading(self, shown: Shown) -> str:
        """What is compared, and whether the cue is out of sight."""
        return heading(shown)

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Streams that are the same up to rounding are drawn as the same."""
        figure = shown.figure
        if figure.unit == "cosine":
            figure = replace(figure, values=figure.values.round(DIGITS))
        return super().draw(replace(shown, figure=figure), focus, tokens)

    def step(self, scene: Scene, by: int) -> Scene:
        """Up and down are layers."""
        return scene.move(layer=by)

    def side(self, scene: Scene, by: int) -> Scene:
        """Left and right are heads where columns are, else tokens."""
        heads = scene.view_of(self.key, self.views) in ATTENTION
        return scene.move(head=by) if heads else scene.move(position=by)

    def point(self, scene: Scene, hit: dict[str, int]) -> Scene:
        """The layer and the token, or the head, of the cell."""
        layer = self.layer_at(hit.get("layer"))
        return scene.go(layer=layer, position=hit.get("position"), head=hit.get("head"))

    def edit_here(self, scene: Scene) -> Edit | None:
        """The head is zeroed where the cell is one."""
        return scene.zero_head if scene.view_of(self.key, self.views) in ATTENTION else None


class DivergencePane(VersusPane):
    """How far the predictions of the two prompts part after each token."""

    key: ClassVar[str] = "contrast-kl"
    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "contrast"
    views: ClassVar[tuple[str, ...]] = ("kl",)
    asks: ClassVar[tuple[str, ...]] = ("position",)

    def heading(self, shown: Shown) -> str:
        """What is compared, and whether the cue is out of sight."""
        return heading(shown)


class WordPane(DivergencePane):
    """The token under the cursor in both prompts: how alike, and what it says, layer by layer."""

    key: ClassVar[str] = "contrast-word"
    views: ClassVar[tuple[str, ...]] = ("word", "lens")


def heading(shown: Shown) -> str:
    """A title that tells, before it says how, where a token cannot know what differs."""
    extra = shown.figure.extra
    first, how = HEADINGS[shown.want.focus.mode]
    place = extra.get("position", shown.want.focus.position)
    token = shown.tokens[min(place, len(shown.tokens) - 1)]
    word = display_text(token.text, whitespace=True).replace(" · ", " ")
    return " · ".join([first or f"‹{word}›", *([UNSEEN] if extra.get("unseen") else []), how])
