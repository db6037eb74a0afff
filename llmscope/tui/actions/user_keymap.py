"""The user's keys: read from the config file, validated against the registry, and bound.

```toml
[keys]
copy = "Y"
token-left = "left,a"
```

An action named there has these keys and no others. If two actions want one key in the same
place, the one that the user named gets it. All errors in the file are reported in one notice, and
each costs only its own line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from string import ascii_lowercase
from typing import Any

from textual.binding import BindingsMap
from textual.dom import DOMNode
from textual.keys import Keys, _character_to_key

from llmscope.config import CONFIG, KEYS, read_file
from llmscope.errors import ScopeError
from llmscope.support.text import display_line, nearest, quoted_text
from llmscope.tui.actions.registry import BY_NAME, EVERY, bindings
from llmscope.tui.actions.types import (
    SHOWN,
    SIGNS,
    Action,
    Place,
    Where,
    binds_at,
    is_text,
    key_name,
)
from llmscope.tui.state.workspaces import FIRST

_NAME = re.compile(r"\{([a-z-]+)\}")
TAB_OF = {f"workspace-{name}": f"tab-{at}" for at, name in enumerate(FIRST, 1)}
"""The tabs that always show the same workspace, by the action that shows it."""
NEEDED = ("figures", "edit", "quit-anywhere")
"""Without a key for these, the user could not leave the prompt, enter it, or quit."""
TOLD = 4
"""Errors to report one by one; of the others only the number is reported."""
_SAME = {"esc": "escape", "return": "enter", "ctrl+i": "tab", "ctrl+m": "enter"}
"""Other names, and keys for which a terminal sends the same as for another key."""
_MODIFIERS = ("ctrl", "shift", "alt", "super", "meta", "hyper")
_NAMED = SIGNS | {key.value for key in Keys if key.value[0] != "<" and "+" not in key.value}


@dataclass(frozen=True)
class Keymap:
    """The keys of each action.

    Attributes:
        chosen: the keys of the actions whose keys differ from the registry's.
        notice: one line on the errors in the file; empty if it has no errors.
    """

    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notice: str = ""

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions, also those that only a replay offers."""
        return EVERY

    def action(self, name: str) -> Action:
        """Return the action of that name."""
        return BY_NAME[name]

    def keys(self, action: Action) -> tuple[str, ...]:
        """Return the keys that run an action."""
        return self.chosen.get(action.name, action.keys)

    def shown(self, action: Action, place: Place | None = None) -> tuple[str, ...]:
        """Return an action's keys as displayed; only those that work in `place`, if given.

        Of an action in a menu, the keys of both are one: `w r`.
        """
        # A workspace whose tab is always there is shown by the digit of its tab too.
        tab = BY_NAME.get(TAB_OF.get(action.name, ""))
        single = tuple(
            key_name(key)
            for bound in (action, *([tab] if tab is not None else []))
            for key in self.keys(bound)
            if place is None or place in places(bound, key)
        )
        in_menu = () if place == "prompt" else self._strokes(action)
        # A key that the user chose comes before the menu's, and that before one for the prompt.
        chosen = action.name in self.chosen or action.where == "figures"
        return (*single, *in_menu) if chosen else (*in_menu, *single)

    def _strokes(self, action: Action) -> tuple[str, ...]:
        """Return the keys that choose an action in its menu, the menu's own before."""
        if not action.menu:
            return ()
        opening = self.keys(BY_NAME[f"menu-{action.menu}"])
        return tuple(f"{key_name(key)} {action.letter}" for key in opening[:1])

    def first(self, name: str) -> str:
        """Return an action's first key in the figures, else in the prompt; empty without a key."""
        action = BY_NAME[name]
        return next(iter(self.shown(action, "figures") or self.shown(action)), "")

    def keys_from(self, in_prompt: bool, name: str) -> str:
        """Return the keys that run an action of the figures, first leaving the prompt if need be.

        Empty if the action, or leaving the prompt, has no key.
        """
        there, here = (self.shown(BY_NAME[name], place) for place in ("figures", "prompt"))
        if not in_prompt or here:
            return next(iter(here if in_prompt else there), "")
        leave = self.shown(BY_NAME["figures"], "prompt")
        return f"{leave[0]} {there[0]}" if leave and there else ""

    def filled(self, text: str) -> str:
        """Return `text` with each `{name}` replaced by the key of that action."""
        return _NAME.sub(lambda match: self.first(match[1]) or "the palette", text)

    def for_run(self) -> Keymap:
        """Return the keymap on the screen of a run, whose actions take their keys from others."""
        run_keys = {
            action.name: self.chosen.get(action.name) or tuple(action.run_keys.split(","))
            for action in EVERY
            if action.run_keys
        }
        lost = {key for keys in run_keys.values() for key in keys}
        rest = {
            action.name: tuple(key for key in self.keys(action) if key not in lost)
            for action in EVERY
            if action.name not in run_keys and lost & set(self.keys(action))
        }
        return replace(self, chosen={**self.chosen, **rest, **run_keys})

    def bind(self, where: Where, *nodes: DOMNode, only: Collection[str] | None = None) -> None:
        """Bind the keys of the actions of a place to widgets, beside the bindings of their own."""
        ours = bindings(where, only=only, keys=self.keys)
        bound = {binding.key for binding in ours}
        for node in nodes:
            others = [binding for _, binding in node._bindings if binding.key not in bound]
            node._bindings = BindingsMap([*ours, *others])


def places(action: Action, key: str) -> tuple[Place, ...]:
    """Return the places where a key runs an action."""
    where = binds_at(action, key)
    return ("prompt", "figures") if where == "anywhere" else (where,)


def read_keymap() -> Keymap:
    """Return the user's keymap; errors in the file are never raised."""
    try:
        record = read_file()
    except ScopeError as error:
        return Keymap(notice=display_line(error.message))
    return keymap_from(record)


def keymap_from(record: Mapping[str, Any], name: str = CONFIG) -> Keymap:
    """Return the keymap of a config file's contents.

    Args:
        name: the name of the file for the notice.
    """
    flaws: list[str] = []
    section = record.get(KEYS, {})
    if not isinstance(section, dict):
        flaws.append('keys is a section: [keys], then action = "key"')
        section = {}
    reader = _KeysReader(flaws)
    for action, keys in section.items():
        reader.choose(action, keys)
    settled = reader.settled()
    first_flaws = flaws[:TOLD] + [f"and {len(flaws) - TOLD} more"] * (len(flaws) > TOLD)
    return Keymap(settled, f"{name}: {'; '.join(first_flaws)}" if first_flaws else "")


class _KeysReader:
    """Takes one line after the other, and collects the errors."""

    def __init__(self, flaws: list[str]) -> None:
        self.flaws = flaws
        self.chosen: dict[str, tuple[str, ...]] = {}

    def choose(self, name: str, keys: object) -> None:
        """Set the user's keys for an action."""
        action = BY_NAME.get(name)
        if action is None:
            self.flaws.append(f"no action {quoted_text(name)}{_nearest(name, BY_NAME)}")
            return
        if not isinstance(keys, str):
            self.flaws.append(f'the keys of {name} are text: "key,key"')
            return
        valid: list[str] = []
        for written in filter(None, (part.strip() for part in keys.split(","))):
            key = key_for(written)
            if key is None:
                near = nearest_key(written)
                self.flaws.append(f"no key {quoted_text(written)} for {name}{near and f', {near}'}")
            elif action.where == "prompt" and is_text(key) and key != "tab":
                self.flaws.append(f"{key_name(key)} is text in the prompt, so it cannot be {name}")
            else:
                rival = self._rival(action, key)
                if rival is None:
                    valid.append(key)
                else:
                    self.flaws.append(
                        f"{rival} and {name} both want {key_name(key)}: {rival} has it"
                    )
        if valid or not any(part.strip() for part in keys.split(",")):
            if not valid and name in NEEDED:
                self.flaws.append(f"{name} needs a key")
                return
            self.chosen[name] = tuple(dict.fromkeys(valid))

    def _rival(self, action: Action, key: str) -> str | None:
        """Return an action to which the user gave the same key in the same place before."""
        mine = set(places(action, key))
        for name, keys in self.chosen.items():
            if key in keys and mine & set(places(BY_NAME[name], key)):
                return name
        return None

    def settled(self) -> dict[str, tuple[str, ...]]:
        """Return the chosen keys, and the remaining keys of the actions that lost some."""
        result = dict(self.chosen)
        wanted = [(BY_NAME[name], key) for name, keys in self.chosen.items() for key in keys]
        for loser in EVERY:
            if loser.name in self.chosen:
                continue
            default_keys = loser.keys
            lost: list[str] = []
            for winner, key in wanted:
                if key in default_keys and set(places(winner, key)) & set(places(loser, key)):
                    left = [default for default in default_keys if default not in (*lost, key)]
                    if loser.name in NEEDED and not left:
                        self.flaws.append(f"{loser.name} needs {key_name(key)}: give it another")
                        result[winner.name] = tuple(
                            default for default in result[winner.name] if default != key
                        )
                        continue
                    lost.append(key)
                    self.flaws.append(
                        f"{key_name(key)} is {winner.name} now, and no longer {loser.name}"
                    )
            if lost:
                result[loser.name] = tuple(key for key in default_keys if key not in lost)
        return result


def key_for(written: str) -> str | None:
    """Return Textual's name of a key as users write it (`?`, `ctrl+y`, `F2`); None if unknown.

    The names that the help and the footer show are accepted too: `←`, `del`.
    """
    if written in SHOWN:
        return SHOWN[written]
    if len(written) == 1:
        return _character_to_key(written) if written.isprintable() else None
    *modifiers, base = written.split("+") if not written.endswith("+") else [written]
    modifiers = [modifier.lower() for modifier in modifiers]
    if len(base) > 1:
        base = base.lower()
    elif base and not base.isalnum():
        base = _character_to_key(base)
    key = "+".join([*modifiers, base])
    key = _SAME.get(key, key)
    known = (base.isalnum() and len(base) == 1) or base in _NAMED or base in _SAME
    return key if known and all(modifier in _MODIFIERS for modifier in modifiers) else None


def nearest_key(written: str) -> str:
    """Return the key whose name is closest to the user's text; empty if no name is close."""
    near = _nearest(written, [*sorted(_NAMED), *(f"ctrl+{key}" for key in ascii_lowercase)])
    return near.removeprefix(", ")


def _nearest(written: str, known: Collection[str]) -> str:
    near = nearest(written, known)
    return f", nearest is {near}" if near else ""
