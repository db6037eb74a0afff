"""What strangers and broken requests cost the owner of a server: nothing."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from itertools import pairwise

import aiohttp
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.web import connections
from llmscope.web.auth import CANDIDATES, Auth
from llmscope.web.bind import listen
from llmscope.web.connections import EACH, STRANGERS
from llmscope.web.messages import Typed
from llmscope.web.server import PageServer
from tests.web.serving import LEAVES, TELLS, browser, connect, serving, types


async def idle(server, stack):
    """A connection that says nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    stack.callback(writer.close)
    return reader, writer


async def ended(reader):
    """Wait until the server ends a connection."""
    try:
        while await asyncio.wait_for(reader.read(1000), 20):
            pass
    except ConnectionError:
        pass


async def test_idle_connections_do_not_keep_the_owner_out():
    async with serving() as (server, origin), AsyncExitStack() as stack:
        opened = [await idle(server, stack) for _ in range(129)]
        async with browser(server, origin) as client, connect(client, origin) as page:
            assert (await page.receive(timeout=60)).type == aiohttp.WSMsgType.BINARY
            later = [await idle(server, stack) for _ in range(129)]
            await types(page, "é")
            assert (await page.receive(timeout=60)).data == b"D" + "é".encode()
            await asyncio.gather(*(ended(reader) for reader, _ in [*opened, *later[:-EACH]]))
            assert len(server._connections) <= EACH <= STRANGERS


async def test_a_request_has_to_be_sent_in_time(monkeypatch):
    monkeypatch.setattr(connections, "HEAD", 0.5)
    async with serving() as (server, origin), AsyncExitStack() as stack:
        silent, _ = await idle(server, stack)
        slow, writer = await idle(server, stack)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        async with browser(server, origin) as client, connect(client, origin) as page:
            await page.receive(timeout=60)
            await asyncio.gather(ended(silent), ended(slow))
            await asyncio.sleep(0.6)
            await types(page, "x")
            assert (await page.receive(timeout=60)).data == b"Dx", "the owner's page stays"
        assert not len(server._connections)


async def test_addresses_are_counted_apart():
    class Transport(asyncio.WriteTransport):
        def __init__(self, address):
            super().__init__({"peername": (address, 1)})
            self.ended = False

        def abort(self):
            self.ended = True

    ours = connections.Connections()
    near = [Transport("10.0.0.1") for _ in range(EACH + 5)]
    far = [Transport(f"10.0.1.{number}") for number in range(STRANGERS)]
    for one in near:
        ours.opened(one)
    assert [one.ended for one in near] == [True] * 5 + [False] * EACH
    for one in far:
        ours.opened(one)
    assert len(ours) == STRANGERS
    assert all(one.ended for one in near)
    assert not any(one.ended for one in far)
    ours.known(far[0])
    ours.opened(Transport("10.0.2.1"))
    assert not far[0].ended
    assert not far[1].ended


async def test_a_link_whose_answer_was_lost_opens_again():
    async with serving() as (server, origin):
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            host = origin.removeprefix("http://")
            path = server.link.removeprefix(origin)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await writer.drain()
            writer.transport.abort()
        async with browser(server, origin) as client, client.get("/") as page:
            assert page.status == 200
        async with aiohttp.ClientSession(origin) as other, other.get(server.link) as refused:
            assert refused.status == 403


def test_of_browsers_that_were_answered_the_first_that_comes_back_is_the_one():
    gate = Auth(["a:1"])
    first, second = gate.open(gate.token), gate.open(gate.token)
    assert None is not first != second is not None
    assert not gate.knows("x")
    assert gate.knows(second)
    assert not gate.knows(first)
    assert gate.open(gate.token) is None
    gate = Auth(["a:1"])
    given = [gate.open(gate.token) for _ in range(CANDIDATES + 3)]
    assert not gate.knows(given[2])
    assert gate.knows(given[3])


BROKEN = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
    b"GET\r\n\r\n",
    b"G\xff / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: " + b"x" * 20_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n",
    b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //[:bad HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?token=%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nshort",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"=;" * 2000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
]


async def test_broken_requests_print_nothing(capfd):
    async with serving() as (server, origin), AsyncExitStack() as stack:
        for request in BROKEN:
            reader, writer = await idle(server, stack)
            writer.write(request)
            writer.write_eof()
            await ended(reader)
        async with browser(server, origin):
            pass
    assert capfd.readouterr() == ("", "")


async def test_a_failure_of_our_own_is_one_line(monkeypatch, capfd):
    async def fails(self, request):
        raise RuntimeError("no \x1b[31m" + "x" * 10_000 + "\nmore")

    monkeypatch.setattr(PageServer, "handle_index", fails)
    async with (
        serving() as (server, origin),
        aiohttp.ClientSession(origin, cookie_jar=aiohttp.CookieJar(unsafe=True)) as client,
        client.get(server.link) as page,
    ):
        assert page.status == 500
    out, line = capfd.readouterr()
    assert out == ""
    assert line.startswith("error: a request failed: no \\x1b[31mxxx")
    assert line.count("\n") == 1
    assert len(line) < 400


def test_a_server_on_all_addresses_answers_under_each_of_its_own():
    listening = listen("0.0.0.0", 0)
    for one in listening.sockets:
        one.close()
    port, gate = listening.port, Auth(listening.names)
    own = {
        one.address
        for found in psutil.net_if_addrs().values()
        for one in found
        if one.family == socket.AF_INET
    }
    assert "127.0.0.1" in own
    for host in (*own, socket.gethostname(), "localhost"):
        assert gate.stranger([f"{host}:{port}"], [f"http://{host}:{port}"], socket=True) == ""
    for host in ("evil.example", "192.0.2.1", "1.2.3.4.nip.io"):
        assert gate.stranger([f"{host}:{port}"], [f"http://{host}:{port}"], socket=True)
    alone = listen("127.0.0.1", 0)
    for one in alone.sockets:
        one.close()
    assert len(alone.names) == 2


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("😀é𝒳"), max_size=12), st.data())
def test_text_that_is_cut_in_utf_16_comes_whole(text, data):
    units = text.encode("utf-16-le")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(units) // 2), max_size=4)))
    ends = [0, *(2 * cut for cut in cuts), len(units)]
    pieces = [
        units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(ends)
    ]
    typed = Typed()
    assert b"".join(map(typed.bytes_of, pieces)).decode() == text


async def test_half_a_character_does_not_end_the_page():
    async with (
        serving() as (server, origin),
        browser(server, origin) as client,
        connect(client, origin) as page,
    ):
        await page.receive(timeout=60)
        await types(page, "a\udc00b\ud83d")
        assert (await page.receive(timeout=60)).data == "Da\ufffdb".encode()
        await types(page, "\ude00")
        assert (await page.receive(timeout=60)).data == "D😀".encode()
        await types(page, "\ud83dx")
        assert (await page.receive(timeout=60)).data == "D\ufffdx".encode()


@pytest.mark.parametrize(
    "message",
    ['["resize", {"width": Infinity, "height": 1}]', "[" * 100_000, '["stdin", 3]', '{"a": 1}'],
    ids=lambda text: text[:20],
)
async def test_no_message_prints_a_traceback(message, capfd):
    async with (
        serving() as (server, origin),
        browser(server, origin) as client,
        connect(client, origin) as page,
    ):
        await page.receive(timeout=60)
        await page.send_str(message)
        assert (await page.receive(timeout=60)).type == aiohttp.WSMsgType.CLOSE
    assert capfd.readouterr() == ("", "")


async def test_a_page_too_many_is_told_so_and_one_that_closed_makes_room():
    async with serving(TELLS + LEAVES) as (server, origin), browser(server, origin) as client:
        server._pages = 2
        async with connect(client, origin) as first, AsyncExitStack() as stack:
            second = await stack.enter_async_context(connect(client, origin))
            for page in (first, second):
                await page.receive(timeout=60)
            async with connect(client, origin) as third:
                said = (await third.receive(timeout=60)).data.decode()
                assert said.strip().startswith("2 pages are open")
                assert "--max-pages" in said
                assert (await third.receive(timeout=60)).type == aiohttp.WSMsgType.CLOSE
            assert len(server.programs) == 2
            await second.close()
            async with connect(client, origin) as third:
                assert "pid" in json.loads((await third.receive(timeout=60)).data)
