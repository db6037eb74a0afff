"""Help for the focused pane, from the lens's help text, the registry of actions and the marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from llmscope.config import CONFIG
from llmscope.edits import GRAMMAR
from llmscope.lenses import lens, names
from llmscope.support.text import display_text
from llmscope.tui.actions.menus import MENU_BY_NAME, MENUS, without_empty_menus
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.actions.types import Action, Place, listed
from llmscope.tui.dialogs.base import LONGEST_SEARCH, LineScreen, TextLine
from llmscope.tui.dialogs.marks import marks

if TYPE_CHECKING:
    from llmscope.tui.host import Host

PROMPT_HELP = """\
Whatever you type is read by the model at once, and every pane follows. The tokens are shown in \
place: each has its own shade, and the one under the cursor is marked. The cursor stays on the \
last token while you type, unless you put it on another one.

For a model that was tuned for chat, {chat} in the figures puts the text into the model's own chat \
template, special tokens included, and takes it out again; undo does so too. Everything stays \
yours to edit. The title names who speaks and marks the one whose words the cursor is in; what the \
template writes itself is dim. While there is a template, no special tokens are added to the text.

The model can write on here: F4 writes one token after the other until any key, the end that the \
model sets, or that of its context. What it wrote is underlined, and the title counts it; undo \
takes a token back, or a whole run, with its very picture. In the figures {write-token} writes one \
token, {write-on} goes on until a key, {write-back} takes a token back, {fork} begins another \
branch from the token under the cursor and keeps this one, {branch-previous} and {branch-next} go \
through the branches, and {sampler} sets how a token is drawn: temperature, top-k, top-p, min-p, \
and a seed with which the same text comes again.

On the tab A and B there are two prompts; tab goes from one to the other.

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
KEYS, TITLES, MARKS = 12, 50, 14
"""Widths in cells of the columns of keys, of titles, and of marks."""
COLUMN, TWO_COLUMNS = 36, 80
"""Width of a column of the first keys, and the terminal width from which on there are two."""
TO = "–"
"""Between the first and the last key of a range."""
BASICS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("figures",), "leave the prompt"),
    (("edit",), "edit the prompt"),
    (("token-left", "token-right", "up", "down"), "move the cursor"),
    (("tab-1", TO, "tab-9"), "tabs"),
    (("pane-next",), "next pane"),
    (("take",), "go in"),
    (("find",), "find a token"),
    (("edit-zero",), "ablate / restore"),
    (("undo",), "undo"),
    (("models",), "open a model"),
    (("save", "copy"), "save, copy"),
    (("palette",), "find any command"),
    (("quit-anywhere",), "quit"),
)
"""The keys to know first: their actions, and what they do. The menus follow them."""
NOTHING = "nothing in the help holds all of these words"


@dataclass(frozen=True)
class HelpRow:
    """A row of the page, or a paragraph, and what it is found by."""

    shown: Content
    found_by: str

    def holds(self, wanted: Sequence[str]) -> bool:
        """Return whether it holds all of the words."""
        text = self.found_by.casefold()
        return all(word in text for word in wanted)


class HelpLine(TextLine):
    """The search line of the help.

    While it is empty, q and ? close the help. After /, they are text like all other letters.
    """

    longest = LONGEST_SEARCH
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, f"screen.page('{name}')", name, show=False)
            for key, name in (
                ("up", "scroll_up"),
                ("down", "scroll_down"),
                ("pageup", "page_up"),
                ("pagedown", "page_down"),
                ("home", "scroll_home"),
                ("end", "scroll_end"),
            )
        ),
    ]
    _searching = False

    async def _on_key(self, event: events.Key) -> None:
        if self.value or event.character not in ("q", "?", "/"):
            return
        if event.character == "/":
            self._searching = True
        elif self._searching:
            return
        else:
            self.screen.dismiss()
        event.stop()
        event.prevent_default()


def _group(action: Action) -> str:
    """Return what an action is listed under: its menu, or its area."""
    return f"menu {MENU_BY_NAME[action.menu].title}" if action.menu else action.area


class HelpScreen(LineScreen):
    """A modal help page that follows what is searched for, until a key closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "tour", "take the tour", show=False, priority=True)
    ]

    def __init__(self, host: Host) -> None:
        super().__init__("", "")
        self._host, self._keymap, self._styles = host, host.user.keymap, host.text_styles
        self._place: Place = "prompt" if host.in_prompt else "figures"
        pane = host.grid.pane if host.grid.display and not host.in_prompt else None
        want = None if pane is None else pane.want(host.state)
        self._lens = None if want is None else want.lens
        self._usage = host.mode.usage(pane)
        offered = [action for action in self._keymap.actions if listed(host, action)]
        # Those without a key, which the palette runs, come last of their subject.
        self._actions = sorted(
            without_empty_menus(offered), key=lambda action: not self._keymap.shown(action)
        )
        self._line = HelpLine(placeholder="type to search the help", compact=True, id="line")
        self._line.cursor_blink = False
        self._text = Static(markup=False)
        self._page = VerticalScroll(id="help-page", can_focus=False)

    def compose(self) -> ComposeResult:
        """Yield the search line and the page."""
        with Vertical(id="help-box") as box:
            box.border_title = Content("Help")
            box.border_subtitle = Content("↑↓ scroll · F1 takes the tour · esc closes")
            yield self._line
            with self._page:
                yield self._text

    def on_mount(self) -> None:
        """Show the whole page."""
        super().on_mount()
        self._text.update(self.page())

    def action_tour(self) -> None:
        """Close the help, and take the tour."""
        self.dismiss(None)
        BY_NAME["tour"].run(self._host)

    def action_page(self, name: str) -> None:
        """Scroll the page."""
        getattr(self._page, f"action_{name}")()

    def action_leave(self) -> None:
        """Clear the search, or close the help if nothing is searched for."""
        if self._line.value:
            self._line.value = ""
        else:
            self.dismiss(None)

    def submit(self, event: Input.Submitted) -> None:
        """Keep what is found on the screen."""

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what holds all words of the line."""
        event.stop()
        self._text.update(self.page(event.value))
        self._page.scroll_home(animate=False)

    def page(self, wanted: str = "") -> Content:
        """Return the page: first keys, explanation, keys by area, and marks; or what is found."""
        words = wanted.casefold().split()
        parts: list[Content] = []
        for heading, rows in self._sections(searched=bool(words)):
            matching = [row.shown for row in rows if row.holds(words)]
            if matching:
                parts += [Content.styled(heading, self._styles.strong)] if heading else []
                parts += [*matching, Content("")]
        return Content("\n").join(parts or [Content.styled(NOTHING, self._styles.dim)])

    def _sections(self, *, searched: bool) -> Iterator[tuple[str, list[HelpRow]]]:
        roomy = self.app.size.width >= TWO_COLUMNS and not searched
        columns = 2 if roomy else 1
        yield "The first keys", self._key_rows(BASICS, columns)
        menus = [((menu.action,), menu.title) for menu in MENUS]
        yield "Menus: a key opens one, the next key chooses", self._key_rows(menus, columns)
        question, text = self._explanation()
        paragraphs = [Content.styled(passage, self._styles.text) for passage in text.split("\n\n")]
        yield (
            question,
            [
                HelpRow(
                    Content("\n").join([paragraph, Content("")]), f"{question} {paragraph.plain}"
                )
                for paragraph in paragraphs
            ],
        )
        named = f", and their names for [keys] in {CONFIG}" if self.app.size.width >= ROOMY else ""
        places = (self._place, "anywhere")
        here = [action for action in self._actions if action.where in places]
        elsewhere = [action for action in self._actions if action.where not in places]
        yield from self._by_area(f"Keys here{named}", here)
        yield from self._by_area("Keys elsewhere", elsewhere)
        yield (
            "Marks on the screen",
            [
                self._row(mark, meaning, also="marks on the screen, symbols, legend", width=MARKS)
                for mark, meaning in marks(self._host.look)
            ],
        )

    def _explanation(self) -> tuple[str, str]:
        """Return the question of the pane, and its explanation."""
        question, text = "The prompt", self._keymap.filled(PROMPT_HELP)
        if self._host.mode.subject:
            question, text = self._host.mode.subject, ""
        if self._lens in names():
            assert self._lens is not None
            chosen = lens(self._lens)
            question, text = chosen.question, chosen.explanation
        elif self._usage is not None and not self._host.mode.subject:
            question, text = EDITS_HELP
        if self._usage:
            text += f"\n\n{self._keymap.filled(self._usage)}"
        if self._host.mode.help:
            text = f"{text}\n\n{self._keymap.filled(self._host.mode.help)}".lstrip()
        return display_text(question), display_text(text)

    def _key_rows(
        self, keys_of: Sequence[tuple[tuple[str, ...], str]], columns: int
    ) -> list[HelpRow]:
        """Return rows of keys with their meanings, in `columns` columns.

        Args:
            keys_of: actions with the meaning of their first keys. Entries with an action that this
                screen does not offer are left out.
            columns: the number of entries in a row.
        """
        names_listed = {action.name for action in self._actions}
        offered = [
            (self._first_keys(actions), meaning)
            for actions, meaning in keys_of
            if all(action == TO or action in names_listed for action in actions)
        ]
        styles = self._styles
        rows = []
        for start in range(0, len(offered), columns):
            cells, searched_text = [], ""
            for keys, meaning in offered[start : start + columns]:
                keys, fill = f"{keys:<{KEYS}}", " " * max(0, COLUMN - KEYS - cell_len(meaning))
                cells.append(Content.assemble((keys, styles.strong), (meaning, styles.text), fill))
                searched_text += f" {keys} {meaning}"
            rows.append(HelpRow(Content("").join(cells), searched_text))
        return rows

    def _first_keys(self, actions: Sequence[str]) -> str:
        keys = [action if action == TO else self._keymap.first(action) for action in actions]
        return ("" if TO in keys else " ").join(filter(None, keys))

    def _by_area(
        self, title: str, actions: Sequence[Action]
    ) -> Iterator[tuple[str, list[HelpRow]]]:
        groups = [_group(action) for action in actions]
        palette = self._keymap.first("palette")
        for area in dict.fromkeys(groups):
            rows = []
            for action, group in zip(actions, groups, strict=True):
                if group == area:
                    keys = " ".join(self._keymap.shown(action)) or palette
                    name = action.name if self.app.size.width >= ROOMY else ""
                    full = self._host.mode.title_of(action)
                    also = f"{full} {action.words} {action.name}"
                    title_here = full.removeprefix(f"{action.area}: ")
                    rows.append(self._row(keys, title_here, name, also=also))
            yield f"{title} · {area}", rows
            title = title.partition(",")[0]

    def _row(
        self, keys: str, text: str, name: str = "", *, also: str = "", width: int = KEYS
    ) -> HelpRow:
        styles = self._styles
        gap = " " * max(1, width - cell_len(keys))
        content = Content.assemble(
            (f"{keys}{gap}", styles.strong),
            (f"{text:<{TITLES}}" if name else text, styles.text),
            (f" {name}" if name else "", styles.dim),
        )
        return HelpRow(content, f"{keys} {text} {also}")
