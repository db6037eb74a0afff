"""The wait of whole-app tests: what follows from a key is on the screen once it has ended."""

from __future__ import annotations

import threading
import time

import pytest
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static


class Late(Widget):
    """Shows a text that it makes after its first layout, as a pane does."""

    text = ""

    def on_resize(self) -> None:
        self.call_after_refresh(self.fill)

    def fill(self) -> None:
        self.text = "filled"
        self.refresh()

    def render_line(self, y: int) -> Strip:
        from rich.segment import Segment

        return Strip([Segment(self.text.ljust(self.size.width))])


class Mounting(App[None]):
    """Mounts a widget on a key, or reads in a thread what it shows."""

    BINDINGS = [Binding("m", "add"), Binding("r", "read")]  # noqa: RUF012

    def compose(self) -> ComposeResult:
        yield Static("", id="read")

    def action_add(self) -> None:
        self.mount(Late())

    def action_read(self) -> None:
        threading.Thread(target=self._read, name="llmscope-read", daemon=True).start()

    def _read(self) -> None:
        time.sleep(0.3)
        self.call_from_thread(self.query_one("#read", Static).update, "was read")

    @property
    def text(self) -> str:
        strips = self.screen._compositor.render_strips()
        return "\n".join("".join(part.text for part in strip) for strip in strips)


@pytest.mark.parametrize("period", [1 / 60, 0.3])
async def test_a_widget_that_a_key_mounts_is_painted(
    monkeypatch: pytest.MonkeyPatch, period: float
) -> None:
    monkeypatch.setattr("textual.screen.UPDATE_PERIOD", period)
    app = Mounting()
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.press("m")
        assert "filled" in app.text


async def test_what_a_thread_reads_after_a_key_is_shown() -> None:
    app = Mounting()
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.press("r")
        assert "was read" in app.text
