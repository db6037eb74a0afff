"""Bytes of a terminal in pieces: keys, reports and pastes, through the thread that reads them."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

START, END = b"\x1b[200~", b"\x1b[201~"
PACKET = 4096
"""Bytes that the thread reads at once."""
RESIZE = b"\x1b[48;3;7;60;70t"
TYPED = 120
"""Bytes that are typed between two pastes; each key is handled alone."""
SPACES = "\t\n\x0b\x0c\r"
"""Control characters that are white space, which a prompt may hold."""
OPTION = "¡™£¢∞§¶•ªº–≠"
"""Letters that Textual makes of an escape and a key."""

BEGUN = re.compile(rb"\x1b[^~]{0,5}\Z")
"""The beginning of a mark: after a pause it is no mark any more."""

PIECES = (
    *(
        b"caf\xe9 au lait",
        "漢字 🙂 é".encode(),
        b"\xff\xfe",
        b"\xf0\x9f",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
    ),
    *(
        b"\x1b",
        b"\x1b[",
        b"\x1b[2",
        b"\x1b[20",
        b"\x1b[200",
        b"\x1b[201",
        b"\x1b]11;?\x07",
        b"\x9b3m",
    ),
    *(RESIZE, b"\x1b[48;0;0;0;0t", b"\x1b[31mred", b"\x1b[A", b"\x1b[<0;5;5M", b"\x1b[97;5u"),
    *(
        b"\x1b[1114112u",
        b"\x1b1",
        b"\x1b9",
        b"\x1b-",
        b"\x1bq",
        b"\x1b[?2048;1$y",
        b"\x1b[c",
        b"\x1bP1$r",
    ),
    *(b"\r\n", b"\r", b"\n", b"\t", b"\x00", b"\x03", b"\x11", b"\x1a", b"\x7f", b"\x0c", b"\x08"),
    *("\u202eabc".encode(), "\x85\x9b31m".encode(), b"[/nope]", b"[@click=app.quit]x", b"a" * 300),
)
"""Parts of a paste, or of what is typed."""


def mutated_bytes(rng: random.Random) -> bytes:
    """Return bytes of pieces that are hostile, random or long."""
    parts = []
    for _ in range(rng.choice((0, 1, 3, 10))):
        change = rng.randrange(8)
        if change < 5:
            parts.append(rng.choice(PIECES))
        elif change == 5:
            parts.append(rng.randbytes(rng.choice((1, 5, 60))))
        elif change == 6:
            body = bytes(rng.choices(b"0123456789;:?<[]uMmtRyO~\x1b", k=12))
            parts.append(b"\x1b[" + body)
        else:
            parts.append(rng.choice(PIECES) * rng.choice((2, 50, 1000)))
    whole = b"".join(parts)
    for mark in (START, END):  # after the end of a paste all is typed
        while mark in whole:
            whole = whole.replace(mark, b"")
    return whole


def terminal_bytes(_: Path, folder: Path, rng: random.Random) -> list[list[str]]:
    """Write the bytes of a terminal in packets, and the texts that they paste."""
    stream, pastes, only = b"", [], rng.random() < 0.6
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not only and rng.random() < 0.6:
            stream += mutated_bytes(rng)[:TYPED]
            continue
        content = mutated_bytes(rng)
        if rng.random() < 0.01:
            content = (content or b"line\n") * (
                rng.choice((10**5, 3 * 10**6)) // (len(content) or 5)
            )
            content = content.replace(START, b"").replace(END, b"")
        stream += START + content + END
        pastes.append(content.decode("utf-8", "replace"))
    target = folder / "packets.json"
    packets = [packet.hex() for packet in cut(stream, rng)]
    target.write_text(json.dumps({"packets": packets, "pastes": pastes, "only": only}))
    return [["paste", str(target)]]


def cut(stream: bytes, rng: random.Random) -> list[bytes]:
    """Return a stream in packets of random sizes or single bytes; an empty one is a pause."""
    most = rng.choice((1, 2, 7, 100, PACKET)) if len(stream) < 3000 else PACKET
    packets, place = [], 0
    while place < len(stream):
        size = rng.randint(1, most) if rng.random() < 0.5 else most
        packets.append(stream[place : place + size])
        place += size
        if rng.random() < 0.001 and not BEGUN.search(stream[:place]):
            packets.append(b"")
    return packets


def read_packets(path: str) -> Any:
    """Let the input thread read packets, give its events to a prompt editor, and check the text."""
    case = json.loads(Path(path).read_text())
    messages = read_messages([bytes.fromhex(packet) for packet in case["packets"]])
    from textual import events

    pasted = [message.text for message in messages if isinstance(message, events.Paste)]
    wanted = [expected_text(text) for text in case["pastes"]]
    assert pasted == wanted, (pasted, wanted)
    if case["only"]:
        others = [message for message in messages if not isinstance(message, events.Paste)]
        assert not others, others
    text = editor()(messages)
    typed = b"".join(map(bytes.fromhex, case["packets"])).decode("utf-8", "replace")
    assert not [char for char in text if control(char)], text
    if "u" not in typed:  # the Kitty protocol spells any letter
        assert not set(OPTION) & set(text) - set(typed), text
    lines = [paste.replace("\r\n", "\n").replace("\r", "\n") for paste in wanted]
    if case["only"] and not any(map(too_long, lines)):
        assert text == "".join(lines), (text, lines)
    return 0


def control(char: str) -> bool:
    """Return whether a character controls a terminal and is no white space."""
    return (ord(char) < 32 or 127 <= ord(char) < 160) and char not in SPACES


def expected_text(text: str) -> str:
    """Return what arrives of a pasted text: all of it, with U+FFFD for control characters."""
    return "".join("\ufffd" if control(char) else char for char in text)


def too_long(text: str) -> bool:
    """Return whether the editor may refuse a paste, which it does with a notice."""
    return len(text) > 100_000


def read_messages(packets: list[bytes]) -> list[Any]:
    """Return what the thread that reads the terminal hands to the app, packet by packet."""
    from textual.drivers.linux_driver import LinuxDriver

    from llmscope.tui.terminal.input_thread import guard_driver

    messages: list[Any] = []
    driver: Any = object.__new__(guard_driver(LinuxDriver))
    driver._debug = False
    driver.process_message = messages.append
    driver._app = Failing()
    terminal, program = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with terminal, program:
        driver.fileno = program.fileno()
        driver.exit_event = Sending(terminal, packets)
        driver._run_input_thread()
    if not isinstance(driver._app.error, EOFError):
        raise driver._app.error or AssertionError("the end of the terminal is not told")
    return messages


class Failing:
    """An app that keeps the error with which the thread would end it."""

    error: BaseException | None = None

    def _handle_exception(self, error: BaseException) -> None:
        self.error = error

    def call_later(self, function: Callable[[BaseException], None], error: BaseException) -> None:
        """Call the function."""
        function(error)


class Sending:
    """The event that would end the thread; asked before each read, it sends the next packet."""

    def __init__(self, terminal: socket.socket, packets: list[bytes]) -> None:
        self._terminal, self._packets = terminal, iter(packets)

    def is_set(self) -> bool:
        """Send a packet, nothing for an empty one, or close the terminal after the last."""
        packet = next(self._packets, None)
        if packet is None:
            self._terminal.close()
        elif packet:
            self._terminal.send(packet)
        return False


@cache
def editor() -> Callable[[list[Any]], str]:
    """Return a function that gives events to a prompt editor, and returns its text."""
    from textual import events
    from textual._context import active_app
    from textual.app import App, ComposeResult

    from llmscope.tui.prompt.editor import PromptEditor
    from llmscope.tui.session.undo_history import UndoHistory

    class Screen(App[None]):
        def compose(self) -> ComposeResult:
            yield PromptEditor("", id="prompt", past=UndoHistory())

    loop = asyncio.new_event_loop()
    app = Screen()
    context = app.run_test(size=(80, 24))
    loop.run_until_complete(context.__aenter__())
    prompt = app.query_one(PromptEditor)

    async def take(messages: list[Any]) -> str:
        active_app.set(app)
        prompt.replace_all("")
        for message in messages:
            if isinstance(message, events.Paste | events.Key):
                message._set_forwarded()  # as by the app: it does not take it once more
                await prompt._dispatch_message(message)
        size = app.size
        await asyncio.sleep(0)
        assert (size.width, size.height) == (80, 24), size
        return prompt.text

    def take_now(messages: list[Any], _: Any = context) -> str:  # which ends the app when freed
        return loop.run_until_complete(take(messages))

    return take_now
