"""The real program on a page: `llmscope serve` in a process, and what a browser would send it."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.stored import prompts_in
from tests.web.serving import PATIENCE, Page, connect, gone, shows, types


@asynccontextmanager
async def served(folder, *arguments):
    """The process, its origin, and a client that has opened its link."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llmscope", "serve", "--port", "0", *arguments),
        env=os.environ | {"LLMSCOPE_STATE": str(folder / "state"), "LC_ALL": "C"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        link = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode().strip()
        origin = link.partition("/?")[0]
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(origin, cookie_jar=jar) as client:
            async with client.get(link) as page:
                assert page.status == 200
            yield process, origin, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def programs(process):
    return {child.pid for child in psutil.Process(process.pid).children(recursive=True)}


def saved(folder):
    return list(prompts_in(folder / "state").values())


@pytest.mark.slow
async def test_a_person_types_on_a_page_and_closes_it(tmp_path):
    async with served(tmp_path, "builtin:sort", "--prompt", "C") as (process, origin, client):
        page = Page()
        async with connect(client, origin) as socket:
            await shows(socket, page, "3 layers", "Next token", "╭─ Map", "esc leave prompt")
            before = page.text
            await types(socket, "ABACB")
            await shows(socket, page, "CABACB", "99.98")
            assert page.text != before
            await types(socket, "\x1b[200~" + "A" * 5_000 + "\x1b[201~")
            await shows(socket, page, "A" * 90)
            await types(socket, "\x1a")  # ctrl+z, which takes the paste back
            await shows(socket, page, "│ CABACB  ", "99.98")
            await socket.send_str('["resize", {"width": 140, "height": 45}]')
            page.screen.resize(45, 140)
            await shows(socket, page, "Attention", "MLP")
            (first,) = programs(process)
        await gone(first)
        assert saved(tmp_path) == ["CABACB"]
        async with connect(client, origin) as socket, connect(client, origin) as beside:
            again, other = Page(), Page()
            await shows(socket, again, "─ Prompt ─")
            await shows(beside, other, "─ Prompt ─")
            both = programs(process)
            assert len(both - {first}) == 2, "each page has its own"
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 130
            for one in both:
                await gone(one)
        told = (await process.stderr.read()).decode()
        assert told == "the link opens one browser, once; ctrl+c ends it\n"
        assert await process.stdout.read() == b""


async def test_a_run_is_shown_without_a_model(tmp_path):
    async with (
        served(tmp_path, "builtin:town-run") as (process, origin, client),
        connect(client, origin) as socket,
    ):
        await shows(socket, Page(), "calf", "Prompt")
        (program,) = programs(process)
        maps = Path(f"/proc/{program}/maps")
        assert not maps.exists() or "libtorch" not in maps.read_text()


async def test_no_program_outlives_a_server_that_was_killed(tmp_path):
    async with (
        served(tmp_path, "builtin:sort") as (process, origin, client),
        connect(client, origin) as socket,
    ):
        await shows(socket, Page(), "─ Prompt ─")
        (program,) = programs(process)
        process.kill()
        await gone(program)


@pytest.mark.slow
async def test_what_only_a_terminal_can_do_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("EDITOR", "true")
    async with served(tmp_path, "builtin:sort", "--prompt", "CAB") as (_, origin, client):
        page = Page()
        async with connect(client, origin) as socket:
            await shows(socket, page, "3 layers", "Next token")
            await types(socket, "\x07")  # ctrl+g
            await shows(socket, page, "the screen cannot make room for an editor here")
            await types(socket, "\x1b")
            await shows(socket, page, "e edit")
            await types(socket, "\x10suspend\r")  # ctrl+p
            await shows(socket, page, "no shell is here")
            await types(socket, "q")
            while (message := await socket.receive(timeout=PATIENCE)).type in (
                aiohttp.WSMsgType.BINARY,
                aiohttp.WSMsgType.TEXT,
            ):
                pass
            assert message.type == aiohttp.WSMsgType.CLOSE
