"""The sixteen tasks of docs/tour.md, done in a pty with the keys that the screen itself shows."""

from __future__ import annotations

import base64
import csv
import re
import time
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest

from llmscope.tui.actions.menus import MENUS
from llmscope.tui.actions.registry import EVERY
from llmscope.tui.actions.types import key_name
from tests.test_terminal import PATIENCE, Terminal, terminal  # noqa: F401

TOUR = Path(__file__).parents[2] / "docs" / "tour.md"
HEADING = "## Sixteen things to do\n"
START = "cat -> kitten, dog -> puppy, cow ->"
SENT = {
    "enter": "\r",
    "esc": "\x1b",
    "ctrl+p": "\x10",
    "ctrl+z": "\x1a",
    "F1": "\x1bOP",
    "↑": "\x1b[A",
    "→": "\x1b[C",
}
"""What a terminal sends for the keys that are not characters."""
KEYS = {key_name(key) for action in EVERY for key in action.keys} | {
    action.letter for action in EVERY if action.letter
}
ARROWS = "←→↑↓"
OPENING = {menu.key for menu in MENUS} | {"y"}
MENU = "any other key leaves"
HELP = "type to search the help"  # a toast may cover the lower border


class Task:
    """A row of the table: what is done, with which keys, and how many strokes that takes."""

    def __init__(self, row: str) -> None:
        self.title, keys, strokes, _ = (cell.strip() for cell in row.strip("|\n").split(" | "))
        self.keys = re.findall(r"`([^`]+)`", keys)
        self.strokes = int(strokes)


def tasks() -> list[Task]:
    """Return the tasks of the page, in their order."""
    section = TOUR.read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    rows = [row for row in section.split("\n") if row.startswith("| ")]
    return [Task(row) for row in rows[2:]]


def typed(key: str) -> str:
    """Return the text of a key that stands for one, or nothing."""
    return key[1:-1] if key.startswith('"') else ""


Wanted = tuple[str, ...]
SEEN: tuple[dict[int, Wanted], ...] = (
    {2: (r"hen -> ", r"▸·chick +9\d"), 3: (rf"│ {re.escape(START)} +│", r"▸·calf +9\d")},
    {2: (r"Map · probability of ‹·calf›", r" 3 .* 43 +[│┃]", r"▸4 .* 1 +[│┃]")},
    {1: (r"When does it know\?", HELP)},
    {3: (r"^ layer 4, ‹·dog›:",)},
    {4: (r"^ layer 2, ‹·->›: next ‹·calf›",)},
    {1: (r"▸L0 MLP +5\.3",), 2: (r"Neuron 140 of layer 0 · .*promotes", r"·kid +2\.7")},
    {3: (r"Attribution · logit of ‹·calf› − ‹·moo›", r"parts sum to 5\.3")},
    {
        5: (r"▸1 ✓ zero head 1\.0", r"Δ logit of ‹·cow›"),
        6: (r"Δ logit of ‹·calf›", r"logit of ‹·calf› with nothing ablated: 18\.2"),
    },
    {6: (r"▸1 ✓ steer 4 token ' moo' 4", r"logit of ‹·calf› with the edits alone")},
    {2: (r"Gain · surprisal of ‹·calf›", r"2\.46 bits without clauses")},
    {2: (r"copied the figure",)},
    {3: (r"saved map\.csv",)},
    {3: (r"A and B · cosine of the same token", r"‹·->› is least like itself at layer 5: 0\.2")},
    {4: (r"A town · B town-sft \+ town-pirate", r"^ KL .*mean 0\.\d+ nats")},
    {10: (r"Prompt · 5 written", r"cow -> calf, lion -> cub")},
    {3: (r"^ town-sft \+ town-pirate",), 5: (r"42 of 44 matrices changed", r"KL of predictions")},
)
"""For each task: after so many of its keys, what the rows of the screen hold, as expressions."""

SEEN_BESIDE: dict[tuple[int, int], Wanted] = {
    (5, 4): (r"; head 3 looks most at", r"Attention · layer 2 head 3"),
    (8, 5): (r"▸·cow +50\.\d % +\+50", r"·calf +3\.0 % +-95"),
    (8, 6): (r"▸·calf +98\.5 %",),
    (9, 6): (r"▸·calf +95\.\d % +-2", r"·moo +1\.\d % +\+0\."),
    (13, 3): (r"‹·calf› \.99 / <\.01, ‹·chick› <\.01 / \.98",),
}
"""What a large screen shows as well, by the numbers of the task and of its key."""


DEAR = (5, 7, 13, 15, 16)
"""Tasks that only slow tests do: they take most of the time, or need no key of another kind."""


class Newcomer:
    """Somebody who presses only the keys that the screen shows.

    Attributes:
        looks: how often the help had to be opened to find a key.
        in_line: whether a text is being typed.
    """

    def __init__(self, program: Terminal) -> None:
        self.program = program
        self.looks = 0
        self.in_line = False
        self._rows: list[str] = []
        self._heard = -1

    @property
    def rows(self) -> list[str]:
        """The rows of the screen, made once for all that is looked for in them."""
        if self._heard != len(self.program.raw):
            self._heard = len(self.program.raw)
            self._rows = list(self.program.screen.display)
        return self._rows

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def until(self, said: str, wanted: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + PATIENCE
        while not wanted():
            assert time.monotonic() < end, f"{said}\n{self.text}"
            self.program.read(0.05)

    def see(self, *wanted: str) -> None:
        """Wait until each expression is found in a row."""
        for part in wanted:
            self.until(part, partial(self.holds, re.compile(part)))

    def holds(self, expression: re.Pattern[str]) -> bool:
        return any(expression.search(row) for row in self.rows)

    def gone(self, part: str) -> None:
        """Wait until a text is not on the screen."""
        self.until(f"{part} stayed", lambda: part not in self.text)

    def send(self, key: str) -> None:
        text = typed(key)
        if text:
            self.program.type(text)
        else:
            self.program.child.send(SENT.get(key, key))

    def press(self, key: str) -> None:
        """Press a key that the screen shows, or else the first screen of the help."""
        # A line that is typed ends with enter everywhere.
        if not typed(key) and not (key == "enter" and self.in_line):
            self.find(key)
        opens = key in OPENING and MENU not in self.text
        self.in_line = key != "enter" and (self.in_line or bool(typed(key)))
        before = len(self.program.raw)
        self.send(key)
        self.until("nothing happened", lambda: len(self.program.raw) > before)
        self.program.wait(*[MENU] * opens)  # for a screen that is painted

    def find(self, key: str) -> None:
        """Wait until a key is on the screen; or open the help, find it there, and close it."""
        if not self.shows(key):
            help_key = "F1" if self.in_prompt else "?"
            assert self.shows(help_key)
            self.looks += 1
            self.send(help_key)
            self.see(HELP)
            self.until(f"no {key} in the help", lambda: in_help(key, self.rows))
            self.send("esc")
            self.gone(HELP)

    @property
    def hints(self) -> list[str]:
        return re.split(r" {2,}", self.rows[-1].strip())

    @property
    def in_prompt(self) -> bool:
        return "esc leave prompt" in self.rows[-1]

    def shows(self, key: str) -> bool:
        """Return whether a menu, the key line, the tabs, or a line to type in shows a key."""
        rows = self.rows
        if MENU in self.text:
            return any(re.search(rf"(│|  ) *{re.escape(key)}  \S", row) for row in menu(rows))
        if any(key in keys_of(hint) for hint in self.hints):
            return True
        if key == "→" and "→ completes" in self.text:
            return True
        tab = re.compile(rf"[ ▸]{re.escape(key)} (\w|…)")
        return any(row.endswith("…") and tab.search(row) for row in map(str.rstrip, rows[:8]))


def keys_of(hint: str) -> list[str]:
    """Return the keys of an entry of the key line: its words before the label."""
    words = list(takewhile(lambda word: word in KEYS or set(word) <= set(ARROWS), hint.split()))
    return [key for word in words for key in (word if set(word) <= set(ARROWS) else [word])]


def menu(rows: list[str]) -> list[str]:
    """Return the rows of the open menu."""
    last = next(at for at, row in enumerate(rows) if MENU in row)
    first = max(at for at, row in enumerate(rows[:last]) if row.startswith("╭─"))
    return rows[first + 1 : last]


def in_help(key: str, rows: list[str]) -> bool:
    """Return whether the first screen of the help shows a key, alone or beside others."""
    cells = [cell for row in rows for cell in re.split(r" {2,}|│", row)]
    return any(
        key in cell.split() or (key.isdigit() and cell == "1–9")
        for cell in cells
        if all(word in KEYS or word == "1–9" for word in cell.split())
    )


def go_back(newcomer: Newcomer) -> None:
    """Go back to the start, by keys that the screen shows."""
    if HELP in newcomer.text:
        newcomer.send("esc")
        newcomer.gone(HELP)
    if newcomer.in_prompt:
        newcomer.press("esc")
    newcomer.see(r"\? help")
    newcomer.send("ctrl+p")
    newcomer.see("enter runs it")
    newcomer.program.child.send("reset")
    newcomer.see(r"▸ program: reset")
    newcomer.send("enter")
    newcomer.gone("enter runs it")
    newcomer.see(r"▸1 ?Ov", r"Map .*· logit lens · verified")


def strokes(keys: list[str]) -> int:
    return sum(len(typed(key)) or 1 for key in keys)


def test_the_page_counts_the_strokes() -> None:
    rows = tasks()
    assert len(rows) == len(SEEN) == 16
    assert [task.strokes for task in rows] == [strokes(task.keys) for task in rows]
    assert sum(task.strokes for task in rows) <= 130
    for task, seen in zip(rows, SEEN, strict=True):
        assert max(seen) == len(task.keys), task.title


@pytest.mark.parametrize(
    ("large", "every"),
    [
        pytest.param(True, False, id="large, without the dear ones"),
        pytest.param(True, True, id="large", marks=pytest.mark.slow),
        pytest.param(False, True, id="small", marks=pytest.mark.slow),
    ],
)
def test_a_newcomer_does_them_from_what_the_screen_shows(
    terminal: Callable[..., Terminal],  # noqa: F811
    tmp_path: Path,
    large: bool,
    every: bool,
) -> None:
    program = terminal(columns=120 if large else 80, rows=40 if large else 24)
    newcomer = Newcomer(program)
    newcomer.see(re.escape(START), r"▸·calf +98")
    newcomer.press("esc")
    newcomer.find("ctrl+p")
    for number, (task, seen) in enumerate(zip(tasks(), SEEN, strict=True), 1):
        if number in DEAR and not every:
            continue
        go_back(newcomer)
        newcomer.in_line = False
        for count, key in enumerate(task.keys, 1):
            newcomer.press(key)
            newcomer.see(*seen.get(count, ()))
            newcomer.see(*(SEEN_BESIDE.get((number, count), ()) if large else ()))
    print(f"{newcomer.looks} keys of the tasks stood in the help alone")
    copied = re.findall(rb"\x1b\]52;c;([^\x07\x1b]+)", program.raw)
    assert base64.b64decode(copied[-1]).startswith(b"import llmscope\n")
    with (tmp_path / "map.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) > 6
    assert b"Traceback" not in program.raw
