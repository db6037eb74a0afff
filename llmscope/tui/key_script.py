r"""Key scripts: parsed, validated against the known keys, and pressed one key after the other.

    tab right right ctrl+r type:"the weather" enter

Words are separated by white space. Each is a key as the help and the footer name it (`?`, `esc`,
`ctrl+r`, `F2`, `←`) or as Textual does (`escape`, `shift+left`), or a text in quotes that is typed
letter by letter, in which `\"` is a quote and `\\` a backslash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.events import Key
from textual.keys import _character_to_key, key_to_character

from llmscope.errors import ScopeError
from llmscope.support.text import quoted_text
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.actions.types import is_text
from llmscope.tui.actions.user_keymap import key_for, nearest_key

if TYPE_CHECKING:
    from llmscope.tui.app import LlmscopeApp

_WORD = re.compile(r'type:"((?:[^"\\]|\\.)*)"(?=\s|$)|(\S+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
TYPE = "type:"

WRITES = "a snapshot writes nothing but --out"
REFUSED = {
    "quit": "it leaves the program",
    "quit-anywhere": "it leaves the program",
    "stop": "it stops the program",
    "visual": "it opens an editor",
    "models": "it lists what is on this machine, which another one does not have",
    "save": WRITES,
    "bake": WRITES,
    "copy": "a snapshot leaves the clipboard alone",
    "theme-next": "it is remembered: --theme is the theme of a picture",
    "walk-on": "it goes on by itself: down goes a step on, up one back",
    "walk-back": "it goes on by itself: down goes a step on, up one back",
}
"""Actions that no script may run, and why: a screenshot must not depend on when it is taken or on
the user, and must have no effects outside of it."""


@dataclass(frozen=True)
class Press:
    """A key to press.

    Attributes:
        key: Textual's name of the key.
        character: the character it types; None if it types nothing.
        said: the key as written in the script.
        waits: whether to wait until all has settled; if not, as between the letters of a text,
            wait only for the pass of the letter.
    """

    key: str
    character: str | None
    said: str
    waits: bool = True

    def event(self) -> Key:
        """Return the event that the terminal would send."""
        return Key(self.key, self.character)


def read_script(text: str) -> tuple[Press, ...]:
    """Return the keys of a script.

    Raises:
        ScopeError: a word names no key, or one that no script may press; a quoted text is not
            closed, or has a character that cannot be typed.
    """
    press: list[Press] = []
    for word in _WORD.finditer(text):
        if word[2] is None:
            press += _parse_text(_ESCAPED.sub(r"\1", word[1]))
        elif word[2].startswith(TYPE):
            raise ScopeError(
                f"{quoted_text(word[2])} has no quotes around its text", f'{TYPE}"some text"'
            )
        else:
            press.append(_parse_key(word[2]))
    if not press:
        raise ScopeError("there is no key in it", "tab right ?")
    return tuple(press)


def _parse_key(word: str) -> Press:
    key = key_for(word)
    if key is None:
        near = nearest_key(word)
        raise ScopeError(f"no key {quoted_text(word)}", near or "? lists the keys on the screen")
    for name, reason in REFUSED.items():
        action = BY_NAME[name]
        if action.where == "anywhere" and key in action.keys and not is_text(key):
            raise ScopeError(f"no script can press {quoted_text(word)}", reason)
    return Press(key, key_to_character(key), word)


def _parse_text(text: str) -> list[Press]:
    presses = []
    for char in text.replace("\r\n", "\n"):
        if char == "\n":
            key, character = "enter", None
        elif char.isprintable():
            key, character = _character_to_key(char), char
        else:
            raise ScopeError(f"{char!r} cannot be typed", "tab, enter and so on by their names")
        presses.append(Press(key, character, f"{TYPE}{char}", waits=False))
    return [
        *presses[:-1],
        *(Press(press.key, press.character, press.said) for press in presses[-1:]),
    ]


def busy(app: LlmscopeApp) -> str:
    """Return in a word or two what the screen waits for; empty once all figures are there."""
    if app.state.info is None:
        return "loading"
    if app.generation.writes:
        return "writing"
    if app.context.waiting:
        return "teaching"
    if app.lenses.waiting:
        return "the lens"
    if app.chat.waiting:
        return "the chat template"
    prompts = app.state.prompts
    if prompts is not None and not (prompts.report is not None and prompts.report.done):
        return "the list of prompts"
    return "figures" if app.figures.waiting else ""


def at_rest(app: LlmscopeApp, *, timers: bool = True) -> bool:
    """Return whether nothing is pending that would change the screen: no message, no layout.

    Unlike a pause, this does not depend on how busy the machine is.

    Args:
        timers: also require that no timer is pending.
    """
    screens = app.screen_stack
    pumps = [app, *screens, *(child for screen in screens for child in screen.walk_children())]
    handled = not any(pump.message_queue_size or pump._next_callbacks for pump in pumps)
    drawn = not any(
        open_screen._callbacks
        or open_screen._dirty_widgets
        or open_screen._layout_required
        or open_screen._scroll_required
        for open_screen in screens
    )
    moves = app.animator._animations or app.animator._scheduled
    searched = all(worker.is_finished for worker in app.workers)
    if not (handled and drawn and searched) or moves:
        return False
    return not (timers and app.requests.unsettled)
