"""One server for all tests of this folder: a process of its own, and a real client of the SDK."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from llmscope.agents.answer import LIMIT

PATIENCE = 60.0


@dataclass
class Answered:
    """An answer of a tool."""

    text: str
    failed: bool

    @property
    def lines(self):
        return self.text.split("\n")

    def line(self, start):
        """The rest of the line that begins with `start`."""
        (found,) = [one for one in self.lines if one.startswith(start)]
        return found[len(start) :].strip()

    @property
    def rows(self):
        """The rows of its table, as dicts by column without its unit."""
        at = next(i for i, one in enumerate(self.lines) if "\t" in one)
        names = [name.partition(" [")[0] for name in self.lines[at].split("\t")]
        cells = [one.split("\t") for one in self.lines[at + 1 :] if "\t" in one]
        return [dict(zip(names, row, strict=True)) for row in cells]


@dataclass
class Agent:
    """The client, called from a test without async."""

    portal: BlockingPortal
    client: Client
    folder: Path
    work: Path
    progress: list[str] = field(default_factory=list)

    def try_(self, tool: str, patience: float = PATIENCE, **given: Any) -> Answered:
        """Call a tool; the answer may be an error. Its size is held against the limit."""

        async def told(_: float, __: float | None, message: str | None) -> None:
            self.progress.append(message or "")

        async def call() -> Any:
            return await self.client.call_tool(
                tool, given, read_timeout_seconds=patience, progress_callback=told
            )

        result = self.portal.call(call)
        (content,) = result.content
        assert len(content.text.encode()) <= LIMIT
        assert not any(ord(char) < 32 and char not in "\n\t" for char in content.text)
        return Answered(content.text, bool(result.is_error))

    def call(self, tool: str, **given: Any) -> Answered:
        """Call a tool that has to answer."""
        found = self.try_(tool, **given)
        assert not found.failed, found.text
        return found

    def refused(self, tool: str, **given: Any) -> str:
        """The one line of an error."""
        found = self.try_(tool, **given)
        assert found.failed, found.text
        assert "\n" not in found.text
        return found.text


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    """The server, with no model open and a folder for its files.

    Tests that use it are of the group `agents`: a server takes five seconds to start.
    """
    work = tmp_path_factory.mktemp("work")
    log = (work / "log").open("w")
    server = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "llmscope", "mcp", "--out", "files"],
        env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        cwd=work,
    )
    with start_blocking_portal() as portal, log:
        connection = portal.wrap_async_context_manager(Client(stdio_client(server, errlog=log)))
        with connection as client:
            yield Agent(portal, client, work / "files", work)


@pytest.fixture
def town(agent):
    """The server with builtin:town, without edits and with no adapter."""
    if "open: builtin:town\n" not in agent.try_("open").text:
        agent.call("open", model="builtin:town")
    agent.call("edit", edits=[])
    agent.call("open", adapter="base")
    return agent
