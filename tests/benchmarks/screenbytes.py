"""What the screen sends to the terminal, and how soon it echoes what is typed."""

from __future__ import annotations

import random
import re
import sys
import time
from bisect import bisect_left
from typing import Any

import pyte

from tests.benchmarks.passes import Tell
from tests.benchmarks.setting import Setting
from tests.benchmarks.terminal import Program
from tests.benchmarks.workers import Worker

LETTERS = " the small boat went down the river past seven stone houses and a green mill before noon"
PACE = 0.1
LATE = 0.1
TAIL = 10
"""Letters that must stand in a row for the last of them to count as echoed."""


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """Bytes at rest, of a letter and of a whole picture; delays of letters."""
    with Worker("bare", setting) as worker:
        short, long = (worker.ask("text", length=length)["text"] for length in (62, 500))
        tell("terminal: bytes")
        found.update(_bytes(setting, short))
        tell("terminal: typing ten letters a second")
        seconds = 6 if setting.quick else 30
        typed = unrepeated(round(seconds / PACE))
        expected = worker.ask("count", text=long + typed)["tokens"]
        found["typing"] = _typing(setting, long, typed, expected)


def unrepeated(length: int) -> str:
    """Words of which no `TAIL` letters in a row come twice, so that the screen tells each apart."""
    choose, words = random.Random(7), LETTERS.split()
    text = ""
    while len(text) < length:
        longer = f"{text} {choose.choice(words)}"
        letters = longer.replace(" ", "")
        tails = [letters[at : at + TAIL] for at in range(len(letters) - TAIL + 1)]
        if len(tails) == len(set(tails)):
            text = longer
    return text[:length]


def _opened(setting: Setting, prompt: str) -> Program:
    options = ["--device", setting.device, "--dtype", "float32"]
    options += ["--threads", str(setting.threads), "--prompt", prompt]
    command = [sys.executable, "-m", "llmscope", setting.spec, *options]
    program = Program(command, setting.environment)
    program.wait_for("Next token after")
    program.settle(2.0)
    return program


def _bytes(setting: Setting, prompt: str) -> dict[str, Any]:
    with _opened(setting, prompt) as program:
        rested = time.monotonic()
        time.sleep(2.0)
        found: dict[str, Any] = {"idle": {"bytes": [program.written(rested)]}}
        letters: list[int] = []
        for letter in LETTERS[: 7 if setting.quick else 20]:
            at = program.send(letter)
            program.settle()
            letters.append(program.written(at))
        found["letter"] = {"bytes": letters}
        repaints: list[int] = []
        resizes: list[int] = []
        for _ in range(2 if setting.quick else 5):
            for columns in (program.columns - 1, program.columns):
                at = program.resize(columns, program.rows)
                program.settle()
            repaints.append(sum(program.frames(at)))
            resizes.append(program.written(at))
        found["repaint"] = {"bytes": repaints}
        found["resize"] = {"bytes": resizes}
        return found


def _typing(setting: Setting, prompt: str, typed: str, expected: int) -> dict[str, Any]:
    with _opened(setting, prompt) as program:
        begun = time.monotonic()
        sent: list[float] = []
        for number, letter in enumerate(typed):
            time.sleep(max(0.0, begun + number * PACE - time.monotonic()))
            sent.append(program.send(letter))
        program.settle(3.0)
        shown = re.search(r"(\d+) tokens", program.screen()[0])
        delays = _delays(program, typed, sent)
        return {
            "delays": delays,
            "late": sum(delay is None or delay > LATE for delay in delays),
            "letters": len(delays),
            "bytes": program.written(begun),
            "tokens shown": int(shown[1]) if shown else None,
            "tokens expected": expected,
        }


def _delays(program: Program, typed: str, sent: list[float]) -> list[float | None]:
    """Seconds from each letter to the write after which the screen shows it; None: it never did.

    Spaces cannot be told from an empty screen, so only letters count.
    """
    letters = [(letter, at) for letter, at in zip(typed, sent, strict=True) if letter != " "]
    row = "".join(letter for letter, _ in letters)
    moments = [at for at, _ in program.chunks]
    screen = pyte.Screen(program.columns, program.rows)
    stream = pyte.ByteStream(screen)
    start = bisect_left(moments, sent[0])
    for _, data in program.chunks[:start]:
        stream.feed(data)
    before = _editor(screen)
    delays: list[float | None] = []
    for at, data in program.chunks[start:]:
        stream.feed(data)
        shown = before[-40:] + row
        text = _editor(screen)
        while len(delays) < len(letters):
            end = len(before[-40:]) + len(delays) + 1
            if shown[max(0, end - TAIL) : end] not in text:
                break
            delays.append(at - letters[len(delays)][1])
    return delays + [None] * (len(letters) - len(delays))


def _editor(screen: Any) -> str:
    """The letters and digits in the prompt's frame: no spaces, nothing of the scroll bar's."""
    rows = list(screen.display)
    top = next(y for y, row in enumerate(rows) if "Prompt" in row)
    bottom = next((y for y in range(top + 1, len(rows)) if rows[y][:1] in "╰└┗╚+"), len(rows))
    return "".join(char for row in rows[top + 1 : bottom] for char in row if char.isalnum())
