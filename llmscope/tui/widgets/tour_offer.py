"""The line below the prompt that offers the tour at a user's first start."""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.widget import Widget

from llmscope.tui.actions.keymap import Keymap
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.widgets.status_bar import KeyLine

HELP = "help-anywhere"
TAKE, HIDE = "tour", "tour-hide"
"""The actions that it offers: it takes no key of its own, so that typing goes to the prompt."""
PALETTE = "the palette"
FORMS = (
    (
        "New to llmscope? Just type. ",
        " takes the tour of two minutes",
        "  ·  ",
        " hides this line",
    ),
    ("New here? ", " takes the tour", "  ·  ", " hides this line"),
    ("New? ", " tour", " · ", " hide"),
)
"""What is said before and after the two keys, from the longest to the shortest."""


class TourOffer(Widget):
    """The offer of the tour. A click on one of its halves does what its key does."""

    def __init__(self, keymap: Keymap) -> None:
        super().__init__(id="tour-offer")
        key = keymap.shown(BY_NAME[HELP], "prompt")
        # The help takes the tour by its own key, and has this line hidden.
        self._keys = [f"{key[0]} {key[0]}", f"{key[0]} esc"] if key else [PALETTE, PALETTE]
        self._middle = 0

    def render(self) -> Content:
        """Render the longest form that fits."""
        take, hide = self._keys
        for before, taking, gap, hiding in FORMS:
            left = f"{before}{take}{taking}{gap}"
            if cell_len(f"{left}{hide}{hiding}") <= self.size.width:
                break
        self._middle = cell_len(left)
        return Content(f"{left}{hide}{hiding}")

    def on_click(self, event: events.Click) -> None:
        """Run the action of the half that was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None:
            self.post_message(KeyLine.Chosen(HIDE if offset.x >= self._middle else TAKE))
