"""The placeholder shown instead of the figures: model loading, load failed, or empty prompt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.keys import _character_to_key
from textual.message import Message
from textual.style import Style

from llmscope.support.package_data import SORT, TOWN, world
from llmscope.support.text import display_text
from llmscope.tui.theme.hosted_widget import HostedWidget
from llmscope.tui.widgets.header import size

if TYPE_CHECKING:
    from llmscope.engine.events import LoadFailed, Loading

SORTING = ("CABACB", "BBACCA", "ABCABC")
OF_TOWN = (
    "cat -> kitten, dog -> puppy, cow ->",
    "The river was cold and Tom sat on the bank",
    "question: where does Anna live? answer:",
)
ENGLISH = (
    "The capital of France is",
    "When Mary and John went to the store, John gave a drink to",
    "The Eiffel Tower is located in the city of",
)
PLACEHOLDER_ACTIONS = ("edit", "models", "turns", "help", "stop", "quit")
"""The actions of the figures that also work here."""
MARKS = ("1.", "2.", "3.")
STARTING = "preparing the panes"
"""The stage shown before the engine reports one."""
MEANWHILE = "You can type the prompt meanwhile."
KEYS_WAIT = "Keys wait for the figures."
OF_EXAMPLES = {"up", "down", "enter", "1", "2", "3"}
"""Keys that choose an example prompt."""
MOST_KEYS = 100
"""The most keys that wait for the figures."""
WIDEST_BAR = 48
"""The most cells of a bar."""
TICK = 1.0
"""Seconds between two updates of the time that a stage has taken."""
Line = tuple[Content, int]
"""A line and its drop rank: the highest rank goes first when room is short, 0 stays."""


def examples(spec: str) -> tuple[str, ...]:
    """Return three example prompts that suit a model."""
    return {TOWN: OF_TOWN, SORT: SORTING}.get(world(spec), ENGLISH)


def first_look(spec: str) -> dict[str, Any]:
    """Return the first session's cursor and map view for the first example of a model.

    For the town model: the layer at which the base model begins to predict ` calf`, and the head
    that attends to ` puppy`. Empty for other models.
    """
    return {"layer": 4, "head": 0, "mode": "top"} if spec == TOWN else {}


class Placeholder(HostedWidget, can_focus=True):
    """A widget with a message, and example prompts to pick from where a prompt is needed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose(-1)", "example above", show=False),
        Binding("down", "choose(1)", "example below", show=False),
        Binding("enter", "pick", "take the example", show=False),
        *(Binding(str(n), f"pick({n - 1})", f"example {n}", show=False) for n in (1, 2, 3)),
    ]
    ALLOW_SELECT = False

    class Picked(Message):
        """Posted when the user picks an example prompt."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class OpenedInstead(Message):
        """Posted when the user opens another model in place of one that failed to load."""

        def __init__(self, spec: str) -> None:
            super().__init__()
            self.spec = spec

    def __init__(self, spec: str, *, still: bool = False) -> None:
        super().__init__(id="placeholder")
        self._still = still
        self._spec = display_text(spec, whitespace=True)
        self._examples = examples(spec)
        self._chosen = 0
        self._picks: list[int] = []
        self._picking = False
        self._failed: LoadFailed | None = None
        self._instead = ""
        self._keys: list[events.Key] = []
        self._progress: Loading | None = None
        self._begun = (time.monotonic(), 0.0)

    def hold_keys(self, typed: str) -> None:
        """Hold the keys of characters that were typed before the screen was there."""
        keys = (events.Key(_character_to_key(char), char) for char in typed if char.isprintable())
        self._keys += list(keys)[:MOST_KEYS]

    def take_keys(self) -> list[events.Key]:
        """Return the keys that waited for the figures, and hold them no longer."""
        keys, self._keys = self._keys, []
        return keys

    def on_key(self, event: events.Key) -> None:
        """Hold a key that is meant for the figures, which are still to come; those of others act.

        The keys that choose an example are such keys too, until examples are shown.
        """
        used = {*self._bindings.key_to_bindings, *self.app._bindings.key_to_bindings} - OF_EXAMPLES
        if self._failed or self._picking or event.key in used or event.key == "escape":
            return
        event.stop()
        event.prevent_default()
        if len(self._keys) < MOST_KEYS:
            self._keys.append(events.Key(event.key, event.character))
        self.refresh()

    def on_mount(self) -> None:
        """Count the seconds of a stage whose bytes are unknown."""
        self.set_interval(TICK, self.tick)

    def tick(self) -> None:
        """Show how long the present stage has taken."""
        if self.display and not (self._still or self._failed or self._picking):
            self.refresh()

    def about(self, spec: str) -> None:
        """Reset for another model, which is yet to be loaded."""
        self._spec = display_text(spec, whitespace=True)
        self._examples, self._chosen = examples(spec), 0
        self._failed = self._progress = None
        self._begun = (time.monotonic(), 0.0)
        self._picking = False
        self.refresh()

    def progress(self, progress: Loading) -> None:
        """Show the progress of the load."""
        if self._progress is None or _task(progress) != _task(self._progress):
            self._begun = (time.monotonic(), progress.done)
        self._progress = progress
        self.refresh()

    def failed(self, event: LoadFailed, instead: str = "") -> None:
        """Show why the model failed to load, the hint, and what can be opened instead.

        Args:
            event: what went wrong.
            instead: a model that opens without a network; empty if none can be opened.
        """
        self._failed, self._instead = event, instead
        self._keys.clear()
        self.refresh()

    def ask_for_prompt(self) -> None:
        """Show the example prompts: the model is ready and the prompt is empty."""
        self._picking = True
        self.refresh()

    def action_choose(self, by: int) -> None:
        """Move the selection by `by` examples."""
        self._chosen = max(0, min(self._chosen + by, len(self._examples) - 1))
        self.refresh()

    def action_pick(self, index: int | None = None) -> None:
        """Use the example at `index` as the prompt; None is the selected one."""
        if self._failed is not None:
            if self._instead and index is None:
                self.post_message(self.OpenedInstead(self._instead))
        elif self._picking:
            self.post_message(self.Picked(self._examples[self._chosen if index is None else index]))

    def on_click(self, event: events.Click) -> None:
        """Pick the example under the mouse."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y in self._picks:
            self.action_pick(self._picks.index(offset.y))

    def on_focus(self) -> None:
        """Redraw: the selection mark is shown only with focus."""
        self.refresh()

    def on_blur(self) -> None:
        """Redraw: the selection mark is shown only with focus."""
        self.refresh()

    def render(self) -> Content:
        """Render the message, dropping the lines of highest rank if it does not fit."""
        if not self.size:
            self._picks = []
            return Content("")
        if self._failed is not None:
            lines = self._failure(self._failed)
        else:
            lines = self._prompts() if self._picking else self._bar()
        width, height = self.size
        rows = [(row, rank) for text, rank in lines for row in text.wrap(width) or [text]]
        while len(rows) > height and (loosest := max(rank for _, rank in rows)):
            rows = [row for row in rows if row[1] != loosest]
        self._picks = [row for row, (text, _) in enumerate(rows) if text.plain[2:4] in MARKS]
        return Content("\n").join(text for text, _ in rows)

    def _failure(self, failed: LoadFailed) -> list[Line]:
        styles = self.text_styles
        lines = [
            (_say(f"{self._spec} could not be loaded", styles.error), 0),
            (Content(""), 2),
            (_say(display_text(failed.error), styles.text), 0),
        ]
        if failed.hint:
            hint = Content.assemble(("try: ", styles.dim), (display_text(failed.hint), styles.text))
            lines.append((hint, 0))
        lines.append((Content(""), 2))
        if self._instead:
            first = "" if self.has_focus else "esc, then "
            how = f"{first}enter opens {self._instead}, which needs no network · M lists all"
            lines.append((_say(how, styles.text), 0))
        return [*lines, (_say("The prompt is kept. ctrl+q leaves.", styles.dim), 1)]

    def _prompts(self) -> list[Line]:
        styles = self.text_styles
        how = "↑↓ and enter, or its number" if self.has_focus else "tab, then its number"
        lines = [
            (_say("Type a prompt above: every pane shows what the model does.", styles.text), 1),
            (_say(f"Or take one of these: {how}.", styles.dim), 2),
            (Content(""), 3),
        ]
        for index, text in enumerate(self._examples):
            chosen = index == self._chosen and self.has_focus
            mark, style = ("▸", styles.accent) if chosen else (" ", styles.text)
            line = Content.assemble((f"{mark} {MARKS[index]} ", styles.dim), (text, style))
            lines.append((line.truncate(self.size.width, ellipsis=True), 0))
        return lines

    def _bar(self) -> list[Line]:
        styles, progress = self.text_styles, self._progress
        if self._still:  # no model is being loaded
            return []
        room = max(1, min(WIDEST_BAR, self.size.width))
        done = progress.done / progress.total if progress and progress.total else 0.0
        full = round(room * min(1.0, done))
        bar = Content.assemble(("━" * full, styles.text), ("─" * (room - full), styles.dim))
        return [
            (Content.assemble(("Loading ", styles.dim), (self._spec, styles.strong)), 1),
            (_say(display_text(progress.stage if progress else STARTING), styles.text), 0),
            (bar, 0),
            (_say(self._amount(), styles.dim), 0),
            (Content(""), 3),
            (_say(self._meanwhile(), styles.dim), 2),
        ]

    def _meanwhile(self) -> str:
        """Return what keys do while the model loads."""
        if not self.has_focus:
            return MEANWHILE
        count = len(self._keys)
        return f"{KEYS_WAIT} {count} so far." if count else KEYS_WAIT

    def _amount(self) -> str:
        """Return the bytes of the stage and their rate; while no byte has come, its seconds."""
        progress = self._progress
        since, before = self._begun
        seconds = time.monotonic() - since
        if progress is None or not progress.done:
            return f"{seconds:.0f} s" if seconds >= TICK else ""
        of = f" of {size(progress.total)}" if progress.total else ""
        rate = (progress.done - before) / seconds if seconds > 0.5 else 0.0
        return f"{size(progress.done)}{of}" + (f" · {size(rate)}/s" if rate > 0 else "")


def _task(progress: Loading) -> str:
    """Return a stage without its note in parentheses, such as how many tensors are done."""
    return progress.stage.partition(" (")[0]


def _say(text: str, styles: Style) -> Content:
    return Content.assemble((text, styles))
