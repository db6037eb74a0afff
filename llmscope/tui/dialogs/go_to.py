"""Go to a layer, head or token by its number, and show what the model knows at the layer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.tui.dialogs.base import LineScreen
from llmscope.tui.panes.next_token import LAYER_VIEW, NextTokenPane

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

_PLACE = re.compile(r"(?:(-?\d{1,9})(?:\.(-?\d{1,9}))?)?\s*(?:@(-?\d{1,9}))?", re.ASCII)


def examples(state: ViewState) -> tuple[str, str, str]:
    """Return a layer, a head and a token as they are typed, in the middle of all."""
    layers, heads = (2, 1) if state.info is None else (state.info.layers, state.info.heads)
    return f"{layers // 2}", f"{layers // 2}.{heads // 2}", f"@{len(state.tokens) // 2}"


@dataclass(frozen=True)
class TypedPlace:
    """A place by its numbers; None where nothing was given."""

    layer: int | None = None
    head: int | None = None
    token: int | None = None


def read_place(text: str, state: ViewState) -> TypedPlace | str:
    """Return the place that a text names, with numbers from 0; or what is wrong with it."""
    match = _PLACE.fullmatch(text.strip())
    numbers = [None if group is None else int(group) for group in match.groups()] if match else []
    if not any(index is not None for index in numbers):
        return "a number, such as {}, {} or {}".format(*examples(state))
    if state.info is None:
        return "the model is still loading"
    layer = numbers[0] if numbers[0] is not None else state.focus.layer
    counts = (state.info.layers, state.info.heads_at(layer), len(state.tokens))
    places: list[int | None] = []
    for name, number, count in zip(("layer", "head", "token"), numbers, counts, strict=True):
        if number is not None and not -count <= number < count:
            return (
                f"no {name} {number}: there are 0 to {count - 1}" if count else f"no {name}s here"
            )
        places.append(None if number is None else number % count)
    return TypedPlace(*places)


def open_dialog(host: Host) -> None:
    """Ask for a place by its number."""
    if not host.holds(GoToScreen):
        host.push_screen(GoToScreen(host))


class GoToScreen(LineScreen):
    """One line at the bottom: enter goes to the place, esc leaves."""

    def __init__(self, host: Host) -> None:
        layer, head, token = examples(host.state)
        places = f"layer {layer}, head {head}, token {token}"
        super().__init__(f"go to · {places}; negative numbers count from the end", "")
        self._host = host

    def submit(self, event: Input.Submitted) -> None:
        """Move the cursor, and show the logit lens at a layer; or say what is wrong."""
        state = self._host.state
        place = read_place(event.value, state)
        if isinstance(place, str):
            self.say(place)
            return
        self.action_leave()
        state = state.move_to(layer=place.layer, head=place.head, position=place.token)
        if place.layer is not None and place.head is None:
            state = state.with_view(NextTokenPane.key, NextTokenPane.views.index(LAYER_VIEW))
            if NextTokenPane.key not in self._host.grid.on_screen:
                self._host.grid.enter(NextTokenPane.key)
        self._host.look_at(state)
