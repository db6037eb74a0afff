"""What the server of a file answers, to whom: the file to who has the link, refusals to others."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.web import connections, file_server
from llmscope.web.bind import listen
from llmscope.web.file_server import FileServer, parsed
from llmscope.web.headers import HEADERS

PAGE, POLICY = "<!DOCTYPE html><p>é</p>" + "x" * 300_000, "default-src 'none'"


@asynccontextmanager
async def serving(host="127.0.0.1"):
    listening = listen(host, 0)
    server = FileServer(PAGE, POLICY, listening)
    ready = asyncio.Event()
    task = asyncio.create_task(server.until_left(ready.set))
    await ready.wait()
    try:
        yield server, listening
    finally:
        server.leave(3)
        assert await task == 3


async def ask(listening, text):
    """Status, headers and body of the answer to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.write(text.encode("latin-1"))
    data = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def request(server, listening, method="GET", target=None, *more, host=None):
    target = f"/?token={server.gate.token}" if target is None else target
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{listening.port}'}", *more]
    return "\r\n".join(lines) + "\r\n\r\n"


async def test_many_viewers_get_the_page_with_one_link():
    async with serving() as (server, listening):
        assert server.link == f"{listening.origin}/?token={server.gate.token}"
        asked = [ask(listening, request(server, listening)) for _ in range(20)]
        for status, headers, body in await asyncio.gather(*asked):
            assert (status, body.decode()) == (200, PAGE)
            assert headers["Content-Length"] == str(len(body))
            assert headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"
            assert headers.items() >= HEADERS.items()
            assert "Set-Cookie" not in headers


async def test_head_tells_without_the_page():
    async with serving() as (server, listening):
        status, headers, body = await ask(listening, request(server, listening, "HEAD"))
    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == str(len(PAGE.encode()))


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "X"]
)
async def test_it_only_reads(method):
    async with serving() as (server, listening):
        asked = request(server, listening, method, None, "Content-Length: 100000")
        status, headers, body = await ask(listening, asked + "x" * 100_000)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert b"this only shows a file" in body


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token={short}", "?x={token}"])
async def test_nothing_is_shown_without_the_token(query):
    async with serving() as (server, listening):
        token = server.gate.token
        target = "/" + query.format(short=token[:-1], token=token)
        status, headers, body = await ask(listening, request(server, listening, "GET", target))
        assert status == 403
        assert b"Refused" in body
        assert b"xxx" not in body
        assert headers.items() >= HEADERS.items()
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert (await ask(listening, request(server, listening)))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "{own}\r\nHost: x"],
)
async def test_a_foreign_name_is_refused(host):
    async with serving() as (server, listening):
        own = f"127.0.0.1:{listening.port}"
        asked = request(server, listening).replace(own, host.format(port=listening.port, own=own))
        status, _, body = await ask(listening, asked)
    assert status == 403
    assert b"the browser asked for" in body


async def test_another_page_is_refused_and_localhost_is_not():
    async with serving() as (server, listening):
        asked = request(server, listening, "GET", None, "Origin: http://evil.example")
        assert (await ask(listening, asked))[0] == 403
        asked = request(server, listening, host=f"localhost:{listening.port}")
        assert (await ask(listening, asked))[0] == 200


@pytest.mark.parametrize("path", ["/x", "/../etc/passwd", "//x/", "/favicon.ico", "/%2e%2e/"])
async def test_there_is_one_page(path):
    async with serving() as (server, listening):
        target = f"{path}?token={server.gate.token}"
        assert (await ask(listening, request(server, listening, "GET", target)))[0] == 404
        assert (await ask(listening, request(server, listening, "GET", path)))[0] == 403


@pytest.mark.parametrize(
    "text",
    [
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno header\r\n\r\n",
        "GET / HTTP/1.1\r\n folded: x\r\n\r\n",
        "GET /?" + "&".join("token=x" for _ in range(50)) + " HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: " + "x" * (1 << 15) + "\r\n\r\n",
        "\x16\x03\x01 TLS\r\n\r\n",
    ],
    ids=range(9),
)
async def test_what_is_no_request_is_answered_and_harmless(text):
    async with serving() as (server, listening):
        status, _, body = await ask(listening, text)
        assert status == 400
        assert b"no request" in body
        assert (await ask(listening, request(server, listening)))[0] == 200


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_make_a_request_or_an_error(head):
    try:
        found = parsed(head)
    except ValueError:
        return
    assert found.path.startswith("/")


async def test_connections_that_say_nothing_are_ended(monkeypatch):
    monkeypatch.setattr(connections, "HEAD", 0.3)
    async with serving() as (server, listening):
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            assert await asyncio.wait_for(reader.readexactly(1), 20)
        writer.close()
        assert (await ask(listening, request(server, listening)))[0] == 200


async def test_a_viewer_that_takes_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(file_server, "SENDING", 0.3)
    monkeypatch.setattr(f"{__name__}.PAGE", "x" * 50_000_000)
    async with serving() as (server, listening):
        _, writer = await asyncio.open_connection("127.0.0.1", listening.port, limit=1)
        writer.write(request(server, listening).encode())
        for _ in range(100):
            await asyncio.sleep(0.05)
            if server._viewers == 0 and not server._sending:
                break
        assert (server._viewers, server._sending) == (0, set())
        writer.close()


async def test_beyond_the_most_viewers_it_says_so(monkeypatch):
    monkeypatch.setattr(file_server, "VIEWERS", 0)
    async with serving() as (server, listening):
        status, _, body = await ask(listening, request(server, listening))
    assert status == 503
    assert b"reload this page" in body
