"""The base class of widgets that are drawn as the app says: its styles, characters and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.widget import Widget

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.tui.actions.user_keymap import Keymap
    from llmscope.tui.host import Host
    from llmscope.tui.theme.textual_theme import TextStyles


class HostedWidget(Widget):
    """A widget of the screen, which asks the app for styles and keys when it is drawn."""

    @property
    def host(self) -> Host:
        """The app."""
        return cast("Host", self.app)

    @property
    def look(self) -> RenderOptions:
        """The theme, colours and characters to draw with."""
        return self.host.look

    @property
    def text_styles(self) -> TextStyles:
        """The theme's styles of text."""
        return self.host.text_styles

    @property
    def keymap(self) -> Keymap:
        """The user's keys."""
        return self.host.user.keymap
