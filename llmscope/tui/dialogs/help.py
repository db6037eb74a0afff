"""Help for the focused pane, built from the lens's help text and the registry of actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from llmscope.config import CONFIG
from llmscope.draw.color.theme import Theme
from llmscope.edits import GRAMMAR
from llmscope.lenses import lens, names
from llmscope.text import display_text
from llmscope.tui.actions.types import Action, Where
from llmscope.tui.dialogs.base import Overlay
from llmscope.tui.theme.textual_theme import text_styles

if TYPE_CHECKING:
    from llmscope.tui.actions.keymap import Keymap
    from llmscope.tui.mode import LiveMode

PROMPT_HELP = """\
Whatever you type is read by the model at once, and every pane follows. The tokens are shown in \
place: each has its own shade, and the one under the cursor is marked. The cursor stays on the \
last token while you type, unless you put it on another one.

For a model that was tuned for chat, c in the figures puts the text into the model's own chat \
template, special tokens included, and takes it out again; undo does so too. Everything stays \
yours to edit. The title names who speaks and marks the one whose words the cursor is in; what the \
template writes itself is dim. While there is a template, no special tokens are added to the text.

The model can write on here: F3 writes a token, F4 one after the other until any key, the end \
that the model sets, or that of its context. What it wrote is underlined, and the title counts it; \
undo takes a token back, or a whole run, with its very picture. In the figures E and R do the \
same, u takes a token back, A begins another branch from the token under the cursor and keeps this \
one, ( and ) go through the branches, and S sets how a token is drawn: temperature, top-k, top-p, \
min-p, and a seed with which the same text comes again.

In the workspace Compare there are two prompts, A and B; tab goes from one to the other.

Leave the prompt with esc or tab to walk through the figures: tokens run from left to right, \
layers from top to bottom; point at a place and see what happens there."""


EDITS_HELP = (
    "What if the pass were another one?",
    f"""\
Each edit changes the pass of the prompt, and every pane then shows the pass with all of them \
made, in their order, which counts: one edit finds what those before it have left. The title \
counts those in force; the model itself stays as it is.

{GRAMMAR}""",
)
"""The title and text for the one pane that shows no lens."""
ROOMY = 100
"""Minimum terminal width in columns for showing the actions' names in the config file."""


class HelpScreen(Overlay[None]):
    """A modal help page, until a key closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "close", show=False)
    ]

    def __init__(
        self,
        theme: Theme,
        lens_name: str | None,
        where: Where,
        keymap: Keymap,
        usage: str | None,
        mode: LiveMode,
    ) -> None:
        super().__init__()
        self._usage = usage
        self._theme = theme
        self._lens = lens_name
        self._where: Where = where
        self._keymap = keymap
        self._mode = mode

    def compose(self) -> ComposeResult:
        """Yield the page."""
        page = VerticalScroll(Static(self.page(), markup=False), id="help")
        page.border_title = Content("Help")
        page.border_subtitle = Content("↑↓ scroll · esc closes")
        yield page

    def on_mount(self) -> None:
        """Focus the page, so that the arrow keys scroll it."""
        self.query_one("#help").focus()

    def page(self) -> Content:
        """Return the question, the explanation and the keys."""
        styles = text_styles(self._theme)
        question, text = "The prompt", PROMPT_HELP
        if self._mode.subject:
            question, text = self._mode.subject, ""
        if self._lens in names():
            assert self._lens is not None
            found = lens(self._lens)
            question, text = found.question, found.help
        elif self._usage is not None:
            question, text = EDITS_HELP
        if self._usage:
            text += f"\n\n{self._keymap.filled(self._usage)}"
        if self._mode.help:
            text = f"{text}\n\n{self._keymap.filled(self._mode.help)}".lstrip()
        parts = [
            Content.assemble((display_text(question), styles.strong)),
            Content(""),
            Content.assemble((display_text(text), styles.text)),
            Content(""),
        ]
        shown = [
            action
            for action in self._keymap.actions
            if self._keymap.keys(action) and self._mode.offers(action.name)
        ]
        first = [action for action in shown if action.where == self._where]
        rest = [action for action in shown if action.where != self._where]
        named = f", and their names for [keys] in {CONFIG}" if self.app.size.width >= ROOMY else ""
        for title, actions in ((f"Keys here{named}", first), ("Keys elsewhere", rest)):
            parts += [
                Content.assemble((title, styles.strong)),
                *map(self._row, actions),
                Content(""),
            ]
        return Content("\n").join(parts)

    def _row(self, action: Action) -> Content:
        styles = text_styles(self._theme)
        keys = " ".join(self._keymap.shown(action))
        name = f"  {action.name}" if self.app.size.width >= ROOMY else ""
        return Content.assemble(
            (f"{keys:<12}", styles.text),
            (f"{self._mode.title_of(action):<52}", styles.dim),
            (name, styles.dim),
        )
