"""Actions and the names of their keys. The actions themselves are in `registry`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from textual.keys import _character_to_key

if TYPE_CHECKING:
    from llmscope.tui.host import Host

Where = Literal["prompt", "figures", "anywhere"]
Place = Literal["prompt", "figures"]
Run = Callable[["Host"], None]

_NAMES = {
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "slash": "/",
    "apostrophe": "'",
    "question_mark": "?",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "minus": "-",
    "plus": "+",
    "equals_sign": "=",
    "underscore": "_",
    "comma": ",",
    "full_stop": ".",
    "semicolon": ";",
    "colon": ":",
    "escape": "esc",
    "dollar_sign": "$",
    "circumflex_accent": "^",
    "vertical_line": "|",
    "backslash": "\\",
    "at": "@",
    "asterisk": "*",
    "quotation_mark": '"',
    "tilde": "~",
    "number_sign": "#",
    "grave_accent": "`",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "delete": "del",
    "backspace": "bksp",
    "f1": "F1",
    "f2": "F2",
    "f3": "F3",
    "f4": "F4",
    "f6": "F6",
    "f7": "F7",
    "f8": "F8",
    "f9": "F9",
    "exclamation_mark": "!",
    "left_parenthesis": "(",
    "right_parenthesis": ")",
}
SHOWN = {shown: key for key, shown in _NAMES.items()}
"""Textual's name of each key that is displayed by another name."""


def key_name(key: str) -> str:
    """Return the displayed name of a key."""
    return _NAMES.get(key, key)


SIGNS = frozenset(_character_to_key(chr(code)) for code in range(33, 127))
"""Textual's names of the letters, digits and signs of a keyboard."""


class Lazy:
    """A module that is imported when one of its functions is first accessed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattribute__(self, function: str) -> Any:
        # Not `__getattr__`: nnsight gives every object in its process a method `save`.
        if function.startswith("_"):
            return super().__getattribute__(function)
        return getattr(import_module(self._name), function)


@dataclass(frozen=True)
class Action:
    """A command that the user can run.

    Attributes:
        name: identifies it in bindings and tests.
        area: groups it in the palette and the help.
        title: describes it in the palette and the help.
        keys: the keys that run it, as Textual names them, separated by commas; the first is shown.
        run: performs it.
        where: whether its keys work in the prompt, in the figures, or in both.
        words: what else users may type to find it: words and phrases, separated by commas.
        run_keys: the keys that it has on the screen of a run, where other actions lose them.
        menu: the menu that lists it; empty if none does.
        letter: the key that chooses it there.
    """

    name: str
    area: str
    title: str
    keys: str
    run: Run
    where: Where = "figures"
    words: str = ""
    run_keys: str = ""
    menu: str = ""
    letter: str = ""

    @property
    def full_title(self) -> str:
        """Return `area: title`, as shown in the palette and the help."""
        return f"{self.area}: {self.title}"


ESSENTIAL = (
    *("models", "recall", "edit", "write-on", "map-view", "edit-zero"),
    *("save", "copy", "help", "tour", "quit"),
)
"""The names of the actions that the palette lists first, while nothing is searched for."""


def listed(host: Host, action: Action) -> bool:
    """Return whether the palette and the help list an action here."""
    offer = host.tour_line
    hides = action.name != "tour-hide" or (offer is not None and bool(offer.display))
    return hides and host.mode.offers(action.name)


def own_keys(action: Action) -> tuple[str, ...]:
    """Return an action's default keys."""
    return tuple(key for key in action.keys.split(",") if key)


def binds_at(action: Action, key: str) -> Where:
    """Return where a key of an action is bound; a letter is text in the prompt, so never there."""
    return "figures" if action.where == "anywhere" and is_text(key) else action.where


def is_text(key: str) -> bool:
    """Return whether the prompt uses a key for text or for moving through it."""
    return len(key) == 1 or key in SIGNS or key in ("space", "tab", "enter")
