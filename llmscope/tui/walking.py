"""Walking through the pass: to what a step or a number is made of and back, by itself, and on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.timer import Timer

from llmscope.draw.cell import source_said, weight_said
from llmscope.engine.events import Token
from llmscope.figure import Figure, Focus
from llmscope.tui.copying import Copy, CopyScreen
from llmscope.tui.marker import marked
from llmscope.tui.scene import Scene
from llmscope.tui.words import named

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk
    from llmscope.tui.panes.walk_values import ValuesPane
    from llmscope.tui.panes.walkthrough import WalkthroughPane

WORKSPACE = "walkthrough"
PLAYING = ("walk-on", "walk-back")
"""The actions that begin and stop it themselves."""
PACE = 1.2
"""Seconds that a step stays while the walk goes by itself."""
ELSEWHERE = "steps are in {workspace-walkthrough} Walkthrough"
BEGINS = "this is where it begins"
EARLIER = "the cursor is on an earlier token: {token-last} goes to the last one"
MOST = 9
"""Sources that are offered: as many as there are digits."""


@dataclass(frozen=True)
class Source:
    """Something that a step or a number is made of: what it is called, and the scene there."""

    said: str
    scene: Scene


class Walking:
    """What the walk remembers: where a person came from, and whether it goes by itself."""

    def __init__(self) -> None:
        self._before: list[tuple[tuple[Token, ...], Focus, tuple[int, int] | None]] = []
        self._timer: Timer | None = None
        self._by = 0
        self._at: tuple[Scene, str] | None = None

    @property
    def plays(self) -> int:
        """1 while the walk goes forwards by itself, -1 backwards, else 0."""
        return self._by

    def go(self, desk: Desk, scene: Scene) -> None:
        """Go somewhere from where one can come back."""
        here = desk.scene
        self._before.append((here.tokens, here.focus, here.inside))
        desk.look_at(scene)

    def back(self, desk: Desk) -> None:
        """To where one came from, if that is still there."""
        while self._before:
            tokens, was, inside = self._before.pop()
            if tokens == desk.scene.tokens:
                place = (was.layer, was.head, was.step, was.weight, was.cell)
                layer, head, step, weight, cell = place
                focus = replace(desk.scene.focus, layer=layer, head=head, step=step)
                focus = replace(focus, weight=weight, cell=cell)
                desk.look_at(replace(desk.scene, focus=focus, inside=inside))
                return
        desk.tell(desk.own.keymap.filled("you came from nowhere: {step-from} goes to an input"))

    def play(self, desk: Desk, by: int) -> None:
        """Let it go by itself; once more stops it."""
        if self._by == by:
            self.stop()
            return
        self.stop()
        self._by, self._at = by, (desk.scene, desk.text)
        self._timer = desk.set_interval(PACE, partial(self.tick, desk))
        desk.tell("the walk goes on by itself; any key stops it")
        self.tick(desk)

    def stop(self) -> None:
        """Stand still."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._by, self._at = None, 0, None

    def tick(self, desk: Desk) -> None:
        """One step further, once what stands is there; not if a person has moved on meanwhile."""
        moved = self._at != (desk.scene, desk.text) or len(desk.screen_stack) > 1
        if moved or desk.overview.workspace.name != WORKSPACE:
            self.stop()
        elif not desk.ledger.waiting:
            by = self._by
            scene = table(desk).onward(desk.scene, by, opens=True)
            if scene is None:
                self.stop()
                desk.tell(BEGINS if by < 0 else _ending(desk))
            else:
                desk.look_at(scene)
                self._at = (desk.scene, desk.text)


def table(desk: Desk) -> WalkthroughPane:
    """The pane of all steps."""
    from llmscope.tui.panes.walkthrough import WalkthroughPane

    pane = desk.overview.panes["walkthrough"]
    assert isinstance(pane, WalkthroughPane)
    return pane


def numbers(desk: Desk) -> ValuesPane:
    """The pane of the numbers of a step."""
    from llmscope.tui.panes.walk_values import ValuesPane

    pane = desk.overview.panes["walk-values"]
    assert isinstance(pane, ValuesPane)
    return pane


def here(desk: Desk) -> bool:
    """Whether there is a walk on screen; if not, it says where there is one."""
    if desk.overview.workspace.name == WORKSPACE and table(desk).steps:
        return True
    there = desk.overview.workspace.name == WORKSPACE
    desk.tell("there is no step to go to yet" if there else desk.own.keymap.filled(ELSEWHERE))
    return False


def source(desk: Desk) -> None:
    """To what the chosen step is made from, or the number under the cursor: one of several."""
    if not here(desk):
        return
    found = sources(desk)[:MOST]
    if not found:
        learned = desk.scene.focus.weight is not None
        desk.tell("a weight was learned, and made from nothing here" if learned else BEGINS)
    elif len(found) == 1:
        desk.walking.go(desk, found[0].scene)
    else:
        rows = [Copy(str(at), one.said, " ") for at, one in enumerate(found, 1)]

        def go(letter: str | None) -> None:
            if letter is not None:
                desk.walking.go(desk, found[int(letter) - 1].scene)

        keys = {key for key in desk.own.keymap.shown(_action("step-from")) if len(key) == 1}
        desk.push_screen(SourceScreen(rows, desk, keys), go)


def _action(name: str) -> Any:
    from llmscope.tui.actions import BY_NAME

    return BY_NAME[name]


class SourceScreen(CopyScreen):
    """What there is to go to: a digit goes there, and the key that asked to the first."""

    heading = "It is made of"

    def __init__(self, rows: Sequence[Copy], desk: Desk, first: set[str]) -> None:
        super().__init__(rows, desk.look.theme, desk.size)
        self._first = first

    def answer(self, key: str, character: str | None) -> str | None:
        """A digit's, or the first by the key that asked or by enter."""
        if key == "enter" or character in self._first:
            return self._rows[0].letter
        return super().answer(key, character)


def sources(desk: Desk) -> list[Source]:
    """What the number under the cursor is made of, or without a cursor the chosen step."""
    pane, scene = numbers(desk), desk.scene
    shown = pane.values_shown()
    if scene.focus.weight is not None:
        return []
    if shown is not None and (pane.among or scene.focus.cell is not None):
        found = _of_number(desk, shown.figure)
        if found:
            return found
    steps = table(desk).steps
    step = steps[min(scene.step, len(steps) - 1)]
    walked = table(desk).walk_to
    return [
        *(Source(f"step {at}, {steps[at]['name']}", walked(scene, at)) for at in step["inputs"]),
        *(
            Source(f"weight {at + 1}, {weight_said(one)}", _weighed(scene, at))
            for at, one in enumerate(step["weights"])
        ),
    ]


def _of_number(desk: Desk, figure: Figure) -> list[Source]:
    cell, scene, pane = figure.extra["cell"], desk.scene, table(desk)
    found: list[Source] = []
    for read in cell.get("reads", ()):
        at, head = landing(read, cell, scene, pane.steps[read["step"]]["shape"])
        there = pane.walk_to(scene, read["step"]).at_cell(at)
        there = replace(there, focus=replace(there.focus, head=head))
        found.append(Source(f"step {read['step']}, {source_said(read, desk.look.ascii)}", there))
    for weight in cell.get("weights", ()):
        said = f"weight {weight['weight'] + 1}, {weight_said(weight)}"
        row, column = (_first(part) for part in weight["index"])
        found.append(Source(said, _weighed(scene, weight["weight"]).at_cell((row, column))))
    return found


def landing(
    read: Any, cell: Any, scene: Scene, shape: Sequence[int]
) -> tuple[tuple[int, int], int]:
    """Row and column of what a number was made of, and the query head whose plane they are in.

    Of a whole row it is the number at the same place, if there is one, or else the first one.
    """
    index, names = read["index"], cell["names"]
    alike = list(names) == read["axes"]
    at = [
        names[axis]["at"] if alike and isinstance(part, list) else _first(part)
        for axis, part in zip(read["axes"], index, strict=True)
    ]
    head = scene.focus.head
    if len(shape) == 3:
        axis = read["axes"].index("head")
        heads = scene.info.heads if scene.info is not None else shape[axis]
        if isinstance(index[axis], int) and head * shape[axis] // heads != index[axis]:
            head = index[axis] * heads // shape[axis]
        at.pop(axis)
    row, column = (0, *at) if len(at) == 1 else at
    return (row, column), head


def _first(part: int | list[int]) -> int:
    return part[0] if isinstance(part, list) else part


def _weighed(scene: Scene, weight: int) -> Scene:
    return replace(scene, focus=replace(scene.focus, weight=weight, cell=None))


def back(desk: Desk) -> None:
    """To where one came from."""
    if here(desk):
        desk.walking.back(desk)


def play(by: int) -> Callable[[Desk], None]:
    """Let the walk go by itself, forwards or backwards."""

    def run(desk: Desk) -> None:
        if here(desk):
            desk.walking.play(desk, by)

    return run


def write(desk: Desk) -> None:
    """Write the likeliest token after the prompt, and begin the walk again."""
    if not here(desk):
        return
    pane, scene = table(desk), desk.scene
    last = pane.steps[-1]
    shown = pane.shown
    fresh = shown is not None and shown.at(scene) and shown.text == marked(desk.text).text
    if not fresh or "writes" not in last:
        desk.tell("what comes next is not known yet", "warning")
    elif scene.focus.position != len(scene.tokens) - 1:
        desk.tell(desk.own.keymap.filled(EARLIER), "warning")
    elif last["full"]:
        desk.tell(" ".join(last["ending"]))
    elif not last["writes"]:
        desk.tell(f"the model ends here: {named(last['told'][0])} cannot be written", "warning")
    else:
        editor = desk.editor
        editor.history.checkpoint()
        editor.insert(last["writes"], editor.document.end)
        editor.move_cursor(editor.document.end)
        desk.look_at(scene.walk_to(0, None))


def _ending(desk: Desk) -> str:
    """What is said at the end of a walk that went by itself."""
    last = table(desk).steps[-1]
    if last.get("ending"):
        return " ".join(last["ending"])
    if not last.get("writes"):
        return "this is where it ends"
    said = "comes next: {write-token} writes it, and the walk begins again"
    return f"{named(last['writes'])} {desk.own.keymap.filled(said)}"
