"""The menus: one key opens what can be done with one subject, the next key does it.

An action names its menu and its letter there (`Action.menu`, `Action.letter`). The views of a pane
and what can be copied depend on the pane: their menus are filled when they are opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.tui.actions.types import Action


AREA = "menu"
"""The area of the actions that open a menu."""


@dataclass(frozen=True)
class Menu:
    """A menu.

    Attributes:
        name: identifies it; the action `menu-NAME` opens it.
        key: the key that opens it by default.
        title: its heading.
    """

    name: str
    key: str
    title: str

    @property
    def action(self) -> str:
        """The name of the action that opens it."""
        return f"menu-{self.name}"


MENUS = (
    Menu("view", "d", "view"),
    Menu("go", "g", "go to"),
    Menu("write", "w", "generate"),
    Menu("target", "t", "target"),
    Menu("edits", "X", "what if"),
    Menu("ab", "b", "A and B"),
    Menu("context", "c", "chat, context, adapters"),
    Menu("tabs", "0", "tabs"),
    Menu("panes", "p", "panes"),
)
MENU_BY_NAME = {menu.name: menu for menu in MENUS}


def actions_of(name: str, actions: Sequence[Action]) -> list[Action]:
    """Return the actions of a menu, in their order."""
    return [action for action in actions if action.menu == name]


def without_empty_menus(actions: Sequence[Action]) -> list[Action]:
    """Return the actions without those that open a menu whose entries are not among them."""
    menus = {f"menu-{action.menu}" for action in actions if action.menu}
    return [action for action in actions if action.area != AREA or action.name in menus]
