"""Help for the place one is at, made from the lens's own page and the registry of actions."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from llmscope.draw.theme import Theme
from llmscope.lenses import lens
from llmscope.text import display_text
from llmscope.tui.actions import ACTIONS, Action, Where
from llmscope.tui.keymap import Keymap
from llmscope.tui.theme import inks

PROMPT_HELP = """\
Whatever you type is read by the model at once, and every pane follows. The tokens are shown in \
place: each has its own shade, and the one under the cursor is marked. The cursor stays on the \
last token while you type, unless you put it on another one.

For a model that was tuned for chat, c in the figures puts the text into the model's own chat \
template, special tokens included, and takes it out again; undo does so too. Everything stays \
yours to edit. The title names who speaks and marks the one whose words the cursor is in; what the \
template writes itself is dim. While there is a template, no special tokens are added to the text.

Leave the prompt with esc or tab to walk through the figures: tokens run from left to right, \
layers from top to bottom; point at a place and see what happens there."""


class HelpScreen(ModalScreen[None]):
    """A page that lies over the screen until a key closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "close", show=False)
    ]

    def __init__(self, theme: Theme, lens_name: str | None, where: Where, keymap: Keymap) -> None:
        super().__init__()
        self._theme = theme
        self._lens = lens_name
        self._where: Where = where
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        """The page, scrolled by the arrow keys."""
        page = VerticalScroll(Static(self.page(), markup=False), id="help")
        page.border_title = Content("Help")
        page.border_subtitle = Content("esc closes")
        yield page

    def on_mount(self) -> None:
        """The arrow keys scroll."""
        self.query_one("#help").focus()

    def page(self) -> Content:
        """The question, the explanation and the keys."""
        ink = inks(self._theme)
        question, text = "The prompt", PROMPT_HELP
        if self._lens is not None:
            found = lens(self._lens)
            question, text = found.question, found.help
        parts = [
            Content.assemble((display_text(question), ink.strong)),
            Content(""),
            Content.assemble((display_text(text), ink.text)),
            Content(""),
        ]
        shown = [action for action in ACTIONS if self._keymap.keys(action)]
        first = [action for action in shown if action.where == self._where]
        rest = [action for action in shown if action.where != self._where]
        for title, actions in (("Keys here", first), ("Keys elsewhere", rest)):
            parts += [Content.assemble((title, ink.strong)), *map(self._row, actions), Content("")]
        return Content("\n").join(parts)

    def _row(self, action: Action) -> Content:
        ink = inks(self._theme)
        keys = " ".join(self._keymap.shown(action))
        return Content.assemble((f"{keys:<12}", ink.text), (action.full_title, ink.dim))
