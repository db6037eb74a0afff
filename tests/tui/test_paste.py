"""A paste of 100 kB: it arrives whole and as one step, and the letter after it too."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stored import prompts_in
from tests.test_terminal import Terminal, terminal  # noqa: F401

PASTED = "".join(f"line {number} of what was pasted, 漢字 \t\r" for number in range(2700)) + "END"


@pytest.mark.slow
def test_a_large_paste_is_whole_and_at_once(
    terminal: Callable[..., Terminal],  # noqa: F811
    tmp_path: Path,
) -> None:
    assert len(PASTED.encode()) > 100_000
    program = terminal("builtin:sort", "--prompt", "CAB")
    program.wait("Next token")
    data = f"\x1b[200~{PASTED}\x1b[201~Q".encode()

    def paste() -> None:  # as fast as the terminal takes it
        sent = 0
        while sent < len(data):
            sent += os.write(program.child.child_fd, data[sent : sent + 4096])

    thread = threading.Thread(target=paste)
    thread.start()
    program.wait("ENDQ")  # the letter after it too
    thread.join()
    program.child.send("\x1a\x1a")  # the letter, and then all of the paste at once
    program.wait("│ CAB  ")
    program.child.send("\x19\x19")
    program.wait("ENDQ")
    assert program.leave("\x11") == 0
    text = "CAB" + PASTED.replace("\r", "\n") + "Q"
    assert prompts_in(tmp_path / "state") == {"builtin:sort": text}
    history = (tmp_path / "state" / "history.jsonl").read_text().splitlines()
    assert json.loads(history[-1])["text"] == text
