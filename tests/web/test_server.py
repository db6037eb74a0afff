"""What the web server answers, to whom, and what becomes of the programs behind its pages."""

import asyncio
import json
import os
import signal

import aiohttp
import psutil
import pytest

from llmscope.web import process
from tests.web.serving import LEAVES, TELLS, browser, connect, gone, serving, types

EVIL = "http://evil.example"


async def told(socket):
    """What the small program says of itself."""
    return json.loads((await socket.receive(timeout=60)).data)


async def test_a_browser_with_the_link_sees_the_page_and_runs_a_program():
    async with serving() as (server, origin), browser(server, origin) as client:
        async with client.get("/") as page:
            text = await page.text()
            assert "<title>&lt;b&gt;a &amp; b</title>" in text
            assert f"ws://{origin.removeprefix('http://')}/ws" in text
            assert "http://" not in text.replace(origin, "")
            assert "https:" not in text
        for file in ("/static/js/textual.js", "/static/css/xterm.css", "/page/page.js"):
            assert file in text
            async with client.get(file) as found:
                assert found.status == 200, file
        async with connect(client, origin) as socket:
            found = await told(socket)
            assert len(server.programs) == 1
            await types(socket, "é")
            assert (await socket.receive(timeout=60)).data == b"D" + "é".encode()
            await socket.send_str('["resize", {"width": 99999, "height": 40}]')
            size = json.loads((await socket.receive(timeout=60)).data[1:])
            assert size == {"type": "resize", "width": 1000, "height": 40}
        await gone(found["pid"])


async def test_the_link_opens_one_browser():
    async with serving() as (server, origin), browser(server, origin) as client:
        async with client.get(server.link, allow_redirects=False) as again:
            assert (again.status, again.headers["Location"]) == (303, "/")
        async with aiohttp.ClientSession(origin) as other, other.get(server.link) as refused:
            assert refused.status == 403
            assert "has opened a browser already" in await refused.text()
            assert "Set-Cookie" not in refused.headers


async def test_the_cookie_is_the_servers_alone():
    async with serving() as (server, origin), aiohttp.ClientSession(origin) as client:
        async with client.head(server.link) as looked:
            assert looked.status == 403, "whoever only looks at a link does not use it up"
        link = server.link + "&fontsize=20"
        async with client.get(link, allow_redirects=False) as opened:
            assert (opened.status, opened.headers["Location"]) == (303, "/?fontsize=20")
            given = opened.headers.getall("Set-Cookie")
        assert len(given) == 1
        named, *flags = given[0].split("; ")
        assert sorted(flags) == ["HttpOnly", "Path=/", "SameSite=Strict"]
        assert named.startswith(f"llmscope-{server.port}=")
        assert server.gate.token not in named


PATHS = ["/", "/ws", "/static/js/textual.js", "/static/", "/page/page.js", "/download/x", "/nope"]


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_is_shown_without_the_session(path):
    async with serving() as (server, origin), aiohttp.ClientSession(origin) as client:
        token = server.gate.token
        cookie = {"Cookie": f"llmscope-{server.port}={'x' * 43}"}
        for query, headers in (
            ("", {}),
            ("?token=", {}),
            (f"?token={token[:-1]}", {}),
            (f"?token={token}", {"Host": "evil.example"}),
            (f"?token={token}", {"Origin": EVIL}),
            ("", cookie),
            (f"?token={token}", {}) if path != "/" else ("?token=x", {}),
        ):
            headers = {"Origin": origin, **headers} if path == "/ws" else headers
            async with client.get(path + query, headers=headers) as refused:
                assert refused.status == 403, (query, headers)
                assert "Refused" in await refused.text()
        assert not server.programs
        async with client.get(server.link, allow_redirects=False) as opened:
            assert opened.status == 303, "none of that has used up the link"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": None},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
        {"Host": "localhost:{port}"},
    ],
    ids=str,
)
async def test_with_the_session_no_other_page_gets_a_program(headers):
    async with serving() as (server, origin), browser(server, origin) as client:
        given = {"Origin": origin} | {
            name: value and value.format(port=server.port) for name, value in headers.items()
        }
        given = {name: value for name, value in given.items() if value is not None}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect("/ws", headers=given)
        assert refused.value.status == 403
        assert not server.programs
        if given.get("Origin") != origin and "Origin" in given:
            async with client.get("/", headers=given) as page:
                assert page.status == 403
        async with connect(client, origin) as socket:
            await told(socket)


async def test_two_hosts_in_one_request_are_none():
    async with serving() as (server, origin):
        host = origin.removeprefix("http://")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"GET /?token={server.gate.token} HTTP/1.1\r\n"
            f"Host: {host}\r\nHost: evil.example\r\n\r\n".encode()
        )
        answer = await reader.readline()
        writer.close()
        assert answer.split()[1] in (b"400", b"403")


async def test_each_answer_says_what_a_browser_may_do_with_it():
    async with serving() as (server, origin), browser(server, origin) as client:
        for path in [*PATHS[2:], "/"]:
            for headers in ({}, {"Host": "evil.example"}, {"Host": "a; script-src *"}):
                async with client.get(path, headers=headers) as answer:
                    said = answer.headers
                assert said["Referrer-Policy"] == "no-referrer"
                assert said["Cache-Control"] == "no-store"
                assert said["X-Content-Type-Options"] == "nosniff"
                policy = dict(
                    part.split(" ", 1) for part in said["Content-Security-Policy"].split("; ")
                )
                assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
                assert policy["script-src"] == "'self'"
                assert "evil" not in str(policy)
                assert "*" not in str(policy)


async def test_the_program_is_told_that_a_page_shows_all_colours(monkeypatch):
    theirs = {"TERM": "dumb", "COLORFGBG": "0;15", "LC_ALL": "C", "TMUX": "x", "NO_COLOR": "1"}
    for name, value in (theirs | {"TEXTUAL_FPS": "7"}).items():
        monkeypatch.setenv(name, value)
    odd = ("$(touch x)", "a b", "'\"\n;", "")
    async with (
        serving(TELLS + LEAVES, *odd) as (server, origin),
        browser(server, origin) as client,
        connect(client, origin) as socket,
    ):
        found = await told(socket)
    assert tuple(found["words"]) == odd
    environ = found["environ"]
    assert environ["TEXTUAL_DRIVER"] == "module:Driver"
    assert (environ["COLUMNS"], environ["ROWS"]) == ("100", "30")
    assert (environ["TERM"], environ["COLORTERM"]) == ("xterm-256color", "truecolor")
    assert environ["LC_CTYPE"] == "C.UTF-8"
    assert not environ.keys() & {"COLORFGBG", "LC_ALL", "TMUX"}
    assert (environ["TEXTUAL_FPS"], environ["NO_COLOR"]) == ("7", "1")
    assert server.gate.token not in str(found)


@pytest.mark.parametrize(
    "message", ["x", "{}", "[]", '["stdin"]', '["resize", 3]', '["resize", {"width": "x"}]']
)
async def test_what_no_page_says_ends_the_session_quietly(message, capfd):
    async with serving() as (server, origin), browser(server, origin) as client:
        async with connect(client, origin) as socket:
            found = await told(socket)
            await socket.send_str(message)
            assert (await socket.receive(timeout=60)).type == aiohttp.WSMsgType.CLOSE
        await gone(found["pid"])
    assert capfd.readouterr() == ("", "")


async def test_a_program_that_ends_closes_its_page(capfd):
    code = TELLS + "sys.stderr.write('error: no\\n')"
    async with (
        serving(code) as (server, origin),
        browser(server, origin) as client,
        connect(client, origin) as socket,
    ):
        await told(socket)
        assert (await socket.receive(timeout=60)).type == aiohttp.WSMsgType.CLOSE
    assert capfd.readouterr() == ("", "error: no\n")


FLOODS = """
import threading
def flood():
    while True:
        tell(b"x" * 9000)
threading.Thread(target=flood, daemon=True).start()
"""


@pytest.mark.parametrize("closes", [True, False], ids=["page", "server"])
async def test_a_page_that_takes_nothing_more_keeps_no_program(closes):
    async with serving(TELLS + FLOODS + LEAVES) as (server, origin):
        async with browser(server, origin) as client, connect(client, origin) as socket:
            found = await told(socket)
            if not closes:
                server.leave(3)
                await gone(found["pid"])
            else:
                socket._response.connection.transport.abort()  # as a cable that is cut
        await gone(found["pid"])


@pytest.mark.parametrize("ignores", ["quit", "SIGTERM"])
async def test_a_program_that_does_not_leave_is_ended(monkeypatch, ignores):
    monkeypatch.setattr(process, "GRACE", (0.1, 0.5 if ignores == "quit" else 0.1))
    stays = "import signal, time, subprocess\n"
    if ignores == "SIGTERM":
        stays += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stays += "child = subprocess.Popen(['sleep', '1000'])\ntell(str(child.pid).encode())\n"
    async with serving(stays.join([TELLS, "time.sleep(1000)"])) as (server, origin):
        async with browser(server, origin) as client, connect(client, origin) as socket:
            found = await told(socket)
            child = await told(socket)
        await gone(found["pid"])
        await gone(child)


async def test_a_program_that_cannot_be_started_is_told_in_one_line(monkeypatch, capfd):
    async with serving() as (server, origin), browser(server, origin) as client:
        server._words = ("/nowhere/python",)
        async with connect(client, origin) as socket:
            assert (await socket.receive(timeout=60)).type == aiohttp.WSMsgType.CLOSE
    out, line = capfd.readouterr()
    assert out == ""
    assert line.startswith("error: no program for a page: ")
    assert line.count("\n") == 1


async def test_a_server_that_leaves_while_a_program_starts_leaves_none_behind(monkeypatch):
    start, before = asyncio.create_subprocess_exec, set(psutil.Process().children())

    async def starts(*words, **more):
        server.leave(3)
        await asyncio.sleep(0.2)  # now the server ends its programs
        return await start(*words, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", starts)
    async with serving() as (server, origin), browser(server, origin) as client:  # noqa: SIM117
        async with connect(client, origin) as socket:
            async for _ in socket:
                pass
    assert set(psutil.Process().children()) == before


async def test_ctrl_c_of_the_servers_terminal_is_not_the_programs():
    async with (
        serving() as (server, origin),
        browser(server, origin) as client,
        connect(client, origin) as socket,
    ):
        found = await told(socket)
        assert os.getpgid(found["pid"]) != os.getpgrp()
        os.kill(found["pid"], signal.SIGKILL)
        assert (await socket.receive(timeout=60)).type == aiohttp.WSMsgType.CLOSE
