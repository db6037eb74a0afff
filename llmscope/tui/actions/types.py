"""Actions and the names of their keys. The actions themselves are in `registry`."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from textual.keys import _character_to_key

if TYPE_CHECKING:
    from llmscope.tui.host import Host

Where = Literal["prompt", "figures", "anywhere"]
Place = Literal["prompt", "figures"]

_SIGNS = {_character_to_key(chr(code)): chr(code) for code in range(33, 127)}
SIGNS = frozenset(_SIGNS)
"""Textual's names of the letters, digits and signs of a keyboard."""
_NAMES = {
    **_SIGNS,
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "escape": "esc",
    "delete": "del",
    "backspace": "bksp",
    **{f"f{number}": f"F{number}" for number in (1, 2, 3, 4, 6, 7, 8, 9)},
}
SHOWN = {name: key for key, name in _NAMES.items()}
"""Textual's name of each key that is displayed by another name."""


def key_name(key: str) -> str:
    """Return the displayed name of a key."""
    return _NAMES.get(key, key)


@dataclass(frozen=True)
class Action:
    """A command that the user can run.

    Attributes:
        name: identifies it in bindings and tests.
        full_title: its area and what it does, as in the palette and the help.
        shortcuts: what runs it, separated by commas: keys as Textual names them, the first of which
            is shown, and at most one letter of a menu (`go k`).
        performs: the function that performs it, below `llmscope.tui`, with its arguments after the
            app: `features.text_moves.hit(1)`; or below the app: `host.undo.redo`. It is imported
            when the action first runs: the first paint would wait for all of them.
        words: what else users may type to find it: words and phrases, separated by commas.
        where: whether its keys work in the prompt, in the figures, or in both.
        run_keys: the keys that it has on the screen of a run, where other actions lose them.
        offline: whether it needs no model, so that a replay offers it.
    """

    name: str
    full_title: str
    shortcuts: str
    performs: str
    words: str = ""
    where: Where = "figures"
    run_keys: str = ""
    offline: bool = False

    @cached_property
    def area(self) -> str:
        """What it is about, which groups it in the palette and the help."""
        return self.full_title.partition(": ")[0]

    @cached_property
    def title(self) -> str:
        """What it does, in the palette and the help."""
        return self.full_title.partition(": ")[2]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys that run it by default."""
        return tuple(key for key in self.shortcuts.split(",") if key and " " not in key)

    @cached_property
    def menu(self) -> str:
        """The menu that lists it; empty if none does."""
        return self._stroke[0]

    @cached_property
    def letter(self) -> str:
        """The key that chooses it in its menu; empty without one."""
        return self._stroke[1]

    @property
    def _stroke(self) -> tuple[str, str]:
        """Return its menu and the letter there."""
        stroke = next((part for part in self.shortcuts.split(",") if " " in part), "")
        menu, _, letter = stroke.partition(" ")
        return menu, letter

    def run(self, host: Host) -> None:
        """Perform it."""
        function, arguments = self.resolved(host)
        function(host, *arguments)

    def resolved(self, host: Host) -> tuple[Callable[..., object], tuple[Any, ...]]:
        """Return the function that performs it, and its arguments after the app."""
        path, _, listed = self.performs.partition("(")
        owner, _, name = path.rpartition(".")
        if owner.startswith("host."):
            holder: object = attrgetter(owner.removeprefix("host."))(host)
        else:
            holder = import_module(f"llmscope.tui.{owner}")
        return getattr(holder, name), literal_eval(f"({listed[:-1]},)") if listed else ()


ESSENTIAL = (
    "models",
    "recall",
    "edit",
    "write-on",
    "map-view",
    "edit-zero",
    "save",
    "copy",
    "help",
    "tour",
    "quit",
)
"""The names of the actions that the palette lists first, while nothing is searched for."""


def listed(host: Host, action: Action) -> bool:
    """Return whether the palette and the help list an action here."""
    offer = host.tour_line
    hides = action.name != "tour-hide" or (offer is not None and bool(offer.display))
    return hides and host.mode.offers(action.name)


def binds_at(action: Action, key: str) -> Where:
    """Return where a key of an action is bound; a letter is text in the prompt, so never there."""
    return "figures" if action.where == "anywhere" and is_text(key) else action.where


def is_text(key: str) -> bool:
    """Return whether the prompt uses a key for text or for moving through it."""
    return len(key) == 1 or key in SIGNS or key in ("space", "tab", "enter")
