"""The model picker (key `M`): a list of models to search; any other model's spec can be typed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from threading import Thread
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from llmscope.models.spec import prefixes
from llmscope.support.text import display_line, display_text
from llmscope.tui.dialogs.base import LONGEST_NAME, LineScreen
from llmscope.tui.dialogs.search_list import SearchLine
from llmscope.tui.features.models.model_catalog import Catalogue, Offer, offers

if TYPE_CHECKING:
    from textual._widget_navigation import Direction

    from llmscope.tui.host import Host

PACE = 0.05
"""Seconds between two updates of the list while models are searched."""
WIDEST_NAMES = 0.55
"""Maximum share of the width for the names."""
AMOUNT = 10
"""Width in cells of the size column, including the gap."""
OPEN_NOW = "open now"
FAILED = "the list cannot be read"


def asked(*, second: bool = False) -> str:
    """Return the question, with what can be typed."""
    what = "compare with which model" if second else "open which model"
    named = [f"{prefix}NAME" for prefix in prefixes() if prefix != "builtin:"]
    return f"{what}? {', '.join(('a name, ./folder, file.gguf, org/name', *named))}"


def ask(host: Host) -> None:
    """Open the picker."""
    if host.may("models"):
        host.push_screen(PickerScreen(host))


def ask_second(host: Host) -> None:
    """Open the picker for a second model, to compare the open one with."""
    if host.may("models"):
        host.push_screen(PickerScreen(host, second=True))


class ModelsFound(Message):
    """Posted by the search thread with models found; the last message has `complete` set."""

    def __init__(self, offers: Sequence[Offer], *, complete: bool, flaw: str = "") -> None:
        super().__init__()
        self.offers, self.complete, self.flaw = offers, complete, flaw


class ModelList(OptionList):
    """A list that has no lines where it has no columns, to which Textual cannot wrap them."""

    def _update_lines(self) -> None:
        padding = self.get_component_styles("option-list--option").padding
        if self.scrollable_content_region.width > padding.width:
            super()._update_lines()

    def _move_page(self, direction: Direction) -> None:
        if self.scrollable_content_region and (self.highlighted or 0) in self._index_to_line:
            super()._move_page(direction)
        elif direction < 0:  # without rows or lines, a page is one model
            self.action_cursor_up()
        else:
            self.action_cursor_down()


class PickerScreen(LineScreen):
    """An input line with the list below it: enter opens the selected model, esc closes.

    Args:
        host: the app.
        second: the model is opened as the second one of a comparison.
    """

    def __init__(self, host: Host, *, second: bool = False) -> None:
        super().__init__(asked(second=second), "")
        self._host, self._second = host, second
        self._line = SearchLine(compact=True, id="line")
        self._line.longest, self._line.cursor_blink = LONGEST_NAME, False
        self._box = Vertical(id="picker")
        self._catalogue = Catalogue()
        self._list = ModelList(id="model-list", markup=False)
        self._list.can_focus = False
        self._shown: list[Offer | str] = []
        self._walked = self._taken = False

    def compose(self) -> ComposeResult:
        """Yield the label, the line, and the list."""
        with self._box:
            self._box.border_title = Content("Models")
            yield self._label
            yield self._line
            yield self._list

    def on_mount(self) -> None:
        """Start the search in a thread, since a network folder may not answer."""
        self._present()
        Thread(target=self._read, name="llmscope-models", daemon=True).start()

    def on_resize(self) -> None:
        """Lay out the names for the new width."""
        self._present()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Open the selected model as soon as it is known which one that is."""
        event.stop()
        event.prevent_default()  # an empty line does not close the picker
        if self.is_current:
            self._taken = True
            self._take()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search for the new text."""
        event.stop()
        self._walked = self._taken = False
        self._present()

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        listed = self._list.options
        # The list may have become another one since the click.
        if event.option in listed:
            self._open(self._shown[listed.index(event.option)])

    @on(ModelsFound)
    def _found(self, message: ModelsFound) -> None:
        self._catalogue.add(message.offers)
        self._catalogue.complete = message.complete
        if message.flaw:
            self.say(f"{FAILED}: {display_text(message.flaw)}")
        self._present()
        if self._taken:
            self._take()

    def action_choose(self, by: int) -> None:
        """Select the model above or below."""
        self._walked = True
        getattr(self._list, f"action_cursor_{'down' if by > 0 else 'up'}")()

    def action_page(self, by: int) -> None:
        """Move the selection by a page."""
        self._walked = True
        getattr(self._list, f"action_page_{'down' if by > 0 else 'up'}")()

    def _read(self) -> None:
        """Search for models; runs in its own thread, which does all file access."""
        batch: list[Offer] = []
        posted, listed, flaw = 0.0, 0, ""
        try:
            for offer in offers():
                batch.append(offer)
                # Each list is laid out as a whole, so it must have grown by a share of its length.
                if time.monotonic() - posted > PACE and len(batch) >= listed // 4:
                    listed += len(batch)
                    self.post_message(ModelsFound(batch, complete=False))
                    batch, posted = [], time.monotonic()
        except Exception as error:  # a cache may hold anything
            flaw = f"{type(error).__name__}: {error}"
        self.post_message(ModelsFound(batch, complete=True, flaw=flaw))

    def _take(self) -> None:
        marked = self._list.highlighted
        if marked is not None:
            self._open(self._shown[marked])
        elif self._catalogue.complete and not self._line.value.strip():
            self.action_leave()

    def _open(self, offer: Offer | str) -> None:
        if isinstance(offer, Offer) and self.is_current:
            self.action_leave()
            models = self._host.models
            (models.compare if self._second else models.switch)(self._host, offer.spec)

    def _present(self) -> None:
        """Show the matches; the selection stays on a model that the user moved to."""
        marked = self._list.highlighted
        was = None if marked is None or not self._walked else self._shown[marked]
        offers = self._catalogue.matching(self._line.value)
        meant = self._catalogue.meant(self._line.value, offers)
        chosen = None if meant is None else offers[meant].spec
        if isinstance(was, Offer) and was.spec in (offer.spec for offer in offers):
            chosen = was.spec
        self._shown = list(_with_heads(offers))
        self._list.set_options(self._rows())
        places = {
            offer.spec: at for at, offer in enumerate(self._shown) if isinstance(offer, Offer)
        }
        self._list.highlighted = None if chosen is None else places[chosen]
        number = len(self._catalogue)
        reading = "" if self._catalogue.complete else " · reading …"
        self._box.border_subtitle = Content(f"{number} model{'s' * (number != 1)}{reading}")

    def _rows(self) -> Iterator[Option]:
        width = max(10, self._list.scrollable_content_region.width - 2)
        text_styles = self._host.text_styles
        names = [_name(entry) for entry in self._shown if isinstance(entry, Offer)]
        room = min(max(map(cell_len, names), default=0), max(8, int(WIDEST_NAMES * width)))
        for offer in self._shown:
            if isinstance(offer, str):
                yield Option(Content.assemble((offer, text_styles.dim)), disabled=True)
                continue
            name = Content.assemble((_name(offer), text_styles.text))
            about = [display_line(part) for part in offer.about]
            if offer.spec == self._host.source.spec and self._host.state.info is not None:
                about.insert(0, OPEN_NOW)
            row = Content.assemble(
                name.truncate(room, ellipsis=True, pad=True),
                (f"{offer.amount:>{AMOUNT}}  ", text_styles.dim),
                (" · ".join(about), text_styles.dim),
            )
            yield Option(row.truncate(width, ellipsis=True))


def _name(offer: Offer) -> str:
    return display_text(offer.spec, whitespace=True)


def _with_heads(offers: Sequence[Offer]) -> Iterator[Offer | str]:
    """Yield the offers, with the name of each group before its offers."""
    group = ""
    for offer in offers:
        if offer.group != group:
            group = offer.group
            yield group
        yield offer
