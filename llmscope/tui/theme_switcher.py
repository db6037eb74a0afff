"""Themes while the screen is open: applied, switched, remembered, and reloaded when saved."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from llmscope.draw import theme_names
from llmscope.draw.color.theme import load_theme
from llmscope.tui.session.state_file import changing

if TYPE_CHECKING:
    from llmscope.tui.host import Host

EVERY = 1.0
"""Seconds between two checks whether the file of a user's own theme was saved."""


def all_names() -> tuple[str, ...]:
    """Return the names of the built-in themes and of the user's own."""
    # Imported late: most users have no themes of their own, and wait for the first paint.
    from llmscope.draw.color.user_themes import own_theme_names

    return (*theme_names(), *own_theme_names())


def apply_theme(host: Host, name: str) -> None:
    """Change to a theme, and report errors in it."""
    theme = load_theme(name, partial(host.tell, severity="warning"))
    if theme == host.look.theme:
        return
    look = host.bandwidth.look(host.look.with_theme(theme))
    with host.batch_update():
        host.set_render_options(look)
        for screen in host.screen_stack:
            for widget in screen.query("*"):
                redraw = getattr(widget, "set_render_options", None)
                if redraw is not None:
                    redraw(look)
                widget.refresh()


def choose(host: Host, name: str) -> None:
    """Change to a theme by the user's choice, which the next start uses again."""
    if host.may("theme-next"):
        apply_theme(host, name)
        with changing() as state:
            state.put("theme", name)


def next_theme(host: Host) -> None:
    """Change to the next theme."""
    names = all_names()
    at = names.index(host.look.theme.name) if host.look.theme.name in names else -1
    chosen = names[(at + 1) % len(names)]
    choose(host, chosen)
    host.tell(f"theme: {chosen}")


class ThemeFileWatch:
    """Reloads a theme of the user's own when its file was saved."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._seen = self._stamp()

    def begin(self) -> None:
        """Report errors in the current theme, and check its file from now on."""
        name = self._host.look.theme.name
        if name not in theme_names() and name in all_names():
            load_theme(name, partial(self._host.tell, severity="warning"))
        self._host.set_interval(EVERY, self.look_again)

    def look_again(self) -> None:
        """Apply the file's colours if the file has changed since it was read."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        changed = self._seen is not None and stamp is not None and stamp[0] == self._seen[0]
        self._seen = stamp
        if changed and stamp is not None:
            apply_theme(self._host, stamp[0])

    def _stamp(self) -> tuple[str, int, int, int] | None:
        """Return the theme's name and stat values that change on a save; None without a file."""
        name = self._host.look.theme.name
        if name in theme_names():
            return None
        from llmscope.draw.color.user_themes import own_path

        path = own_path(name)
        with suppress(OSError):
            if path is not None:
                status = path.stat()
                return (name, status.st_mtime_ns, status.st_size, status.st_ino)
        # An editor that replaces the file may be half-way: keep the last stamp.
        return self._seen if hasattr(self, "_seen") else None
