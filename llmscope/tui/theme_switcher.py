"""Themes while the screen is open: put on, changed, remembered, and read again when saved."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from rich.color import ColorSystem

from llmscope.draw import RenderOptions, theme_names
from llmscope.draw.color.theme import load_theme
from llmscope.tui.session.state_files import save_theme
from llmscope.tui.terminal.output_filter import filters
from llmscope.tui.theme.textual_theme import inks, textual_theme

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

COLOUR_SYSTEMS = {
    "truecolor": ColorSystem.TRUECOLOR,
    "256": ColorSystem.EIGHT_BIT,
    "16": ColorSystem.STANDARD,
    "none": ColorSystem.STANDARD,
}
EVERY = 1.0
"""Seconds between two looks whether the file of a person's own theme was saved."""


def all_names() -> tuple[str, ...]:
    """The themes that ship, and the person's own."""
    # Most people have none, and wait for the first picture.
    from llmscope.draw.color.user_themes import own_theme_names

    return (*theme_names(), *own_theme_names())


def put_on(desk: Desk, look: RenderOptions) -> None:
    """Give the screen a look. What is there already is drawn anew by `wear`."""
    desk.look, desk.inks = look, inks(look.theme)
    desk.console._color_system = COLOUR_SYSTEMS[look.tier]
    desk.own_filters = filters(look)
    desk.set_class(look.tier in ("16", "none"), "-few-colours")
    desk.set_class(look.tier == "none", "-colourless")
    desk.set_class(look.tier != "truecolor", "-no-tints")
    made = textual_theme(look.theme)
    desk.register_theme(made)
    desk.theme = made.name


def wear(desk: Desk, name: str) -> None:
    """Change to a theme, and tell what is wrong with it."""
    theme = load_theme(name, partial(desk.tell, severity="warning"))
    if theme == desk.look.theme:
        return
    look = desk.bandwidth.look(desk.look.wearing(theme))
    with desk.batch_update():
        put_on(desk, look)
        for screen in desk.screen_stack:
            for widget in screen.query("*"):
                dress = getattr(widget, "dress", None)
                if dress is not None:
                    dress(look)
                widget.refresh()


def choose(desk: Desk, name: str) -> None:
    """Change to a theme because a person wants to: the next start takes it again."""
    if desk.may("theme-next"):
        wear(desk, name)
        save_theme(name)


def next_theme(desk: Desk) -> None:
    """The theme after this one."""
    names = all_names()
    at = names.index(desk.look.theme.name) if desk.look.theme.name in names else -1
    chosen = names[(at + 1) % len(names)]
    choose(desk, chosen)
    desk.tell(f"theme: {chosen}")


class ThemeFileWatch:
    """Reads a theme of the person's own again when its file was saved."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._seen = self._stamp()

    def begin(self) -> None:
        """Tell what is wrong with the theme that is on, and look again from now on."""
        name = self._desk.look.theme.name
        if name not in theme_names() and name in all_names():
            load_theme(name, partial(self._desk.tell, severity="warning"))
        self._desk.set_interval(EVERY, self.look_again)

    def look_again(self) -> None:
        """Take the file's colours if it is not the one that was read."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        changed = self._seen is not None and stamp is not None and stamp[0] == self._seen[0]
        self._seen = stamp
        if changed and stamp is not None:
            wear(self._desk, stamp[0])

    def _stamp(self) -> tuple[str, int, int, int] | None:
        """The theme, and what changes when its file is saved; None if it has none."""
        name = self._desk.look.theme.name
        if name in theme_names():
            return None
        from llmscope.draw.color.user_themes import own_path

        path = own_path(name)
        with suppress(OSError):
            if path is not None:
                found = path.stat()
                return (name, found.st_mtime_ns, found.st_size, found.st_ino)
        # An editor that replaces the file may be half-way: what was seen stands.
        return self._seen if hasattr(self, "_seen") else None
