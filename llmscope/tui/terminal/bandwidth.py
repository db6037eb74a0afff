"""Limits on what is sent to the terminal: all there is to show, or less over a slow link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from llmscope.draw.render_options import RenderOptions

Choice = Literal["auto", "high", "low", "textual"]


@dataclass(frozen=True)
class Bandwidth:
    """The limits on what is sent to a terminal.

    Attributes:
        name: `high`, `low` or `textual`.
        frames: the most frames a second; 0 for Textual's own limit.
        chunk: characters that are sent at once; typed letters go before the rest.
        pause: seconds without a letter after which figures are requested. Letters themselves are
            shown at once.
        fades: whether out-of-date figures are dimmed, and not only marked.
        paced: whether only changes are sent, as fast as the terminal takes them; if not, Textual
            sends its frames itself.
    """

    name: Literal["high", "low", "textual"]
    frames: int
    chunk: int
    pause: float
    fades: bool
    paced: bool = True

    def look(self, look: RenderOptions) -> RenderOptions:
        """Return render options to suit: 256 colours have shorter codes, and ramps fewer steps."""
        return replace(look, tier="256") if self is LOW and look.tier == "truecolor" else look


HIGH = Bandwidth("high", frames=0, chunk=16_000, pause=0.0, fades=True)
LOW = Bandwidth("low", frames=20, chunk=4_000, pause=0.2, fades=False)
TEXTUAL = replace(HIGH, name="textual", paced=False)


def bandwidth(choice: Choice, environ: Mapping[str, str]) -> Bandwidth:
    """Return the bandwidth of the user's choice; `auto` is low over ssh."""
    if choice == "auto":
        return LOW if environ.get("SSH_CONNECTION") else HIGH
    return {"low": LOW, "textual": TEXTUAL}.get(choice, HIGH)
