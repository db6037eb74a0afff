"""A server of pages in this process, with a small program behind them; and what a page shows."""

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager, suppress

import aiohttp
import psutil
import pyte

from llmscope.web.bind import listen
from llmscope.web.server import PageServer

PATIENCE = 60  # seconds; torch alone takes several on a busy machine

TELLS = """
import json, os, sys
out = sys.stdout.buffer
def tell(data):
    out.write(b"D" + len(data).to_bytes(4, "big") + data)
    out.flush()
out.write(b"__GANGLION__\\n")
tell(json.dumps({"pid": os.getpid(), "words": sys.argv[1:], "environ": dict(os.environ)}).encode())
"""
"""Says what it is, as textual's driver for pages says things."""
LEAVES = """
while kind := sys.stdin.buffer.read(1):
    data = sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big"))
    if kind == b"M" and json.loads(data)["type"] == "quit":
        break
    tell(kind + data)
"""
"""Gives back what it hears, until it is asked to leave."""


@asynccontextmanager
async def serving(code=TELLS + LEAVES, *words):
    """A server whose pages run a program, and its origin."""
    listening = listen("127.0.0.1", 0)
    server = PageServer(
        [sys.executable, "-c", code, *words], "module:Driver", listening, title="<b>a & b"
    )
    ready = asyncio.Event()
    task = asyncio.create_task(server.until_left(ready.set))
    await ready.wait()
    try:
        yield server, listening.origin
    finally:
        server.leave(3)
        assert await task == 3
    assert not server.programs


@asynccontextmanager
async def browser(server, origin):
    """A client that has opened the link, as a browser does."""
    jar = aiohttp.CookieJar(unsafe=True)  # which takes cookies of an address without a name
    async with aiohttp.ClientSession(origin, cookie_jar=jar) as client:
        async with client.get(server.link) as page:
            assert page.status == 200
            assert "token" not in str(page.url)
        yield client


def connect(client, origin, **more):
    """The connection that a page makes to its program."""
    return client.ws_connect("/ws?width=100&height=30", origin=origin, **more)


async def gone(pid):
    """Wait until a process has ended, whether somebody has asked how or not."""
    until = time.monotonic() + PATIENCE
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until, "it goes on"
            await asyncio.sleep(0.05)


class Page:
    """What the terminal of a page shows, from the bytes that it is sent."""

    def __init__(self, columns=100, rows=30):
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)

    def feed(self, data):
        self._stream.feed(data)

    @property
    def text(self):
        return "\n".join(self.screen.display)


async def shows(socket, page, *wanted):
    """Wait until a page shows all of `wanted`."""
    until = time.monotonic() + PATIENCE
    while not all(part in page.text for part in wanted):
        assert time.monotonic() < until, f"{wanted} did not appear:\n{page.text}"
        try:
            message = await socket.receive(timeout=1)
        except TimeoutError:
            continue
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
        if message.type == aiohttp.WSMsgType.BINARY:
            page.feed(message.data)


async def types(socket, text):
    """Press keys on a page."""
    await socket.send_str(json.dumps(["stdin", text]))
