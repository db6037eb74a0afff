"""The server of the Model Context Protocol: offers the tools on stdin and stdout."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Event
from typing import Any

import anyio
from anyio import from_thread, to_thread
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp.types import Tool as Listed

from llmscope.agents.answer import clip_text
from llmscope.agents.session import AgentCall, AgentSession
from llmscope.agents.tools import TOOLS, run
from llmscope.errors import LONGEST, Error, read_in
from llmscope.support.sandbox import give_up_when
from llmscope.support.text import one_line, typed_error_line
from llmscope.version import __version__

INSTRUCTIONS = (
    "llmscope looks inside a language model. open a model, then look through lenses; edit the pass "
    "and compare to test a cause; many_prompts before a general claim. Every answer tells its "
    "verdict and what it establishes: repeat both with the number. explain topic=lenses lists the "
    "lenses."
)
READS = frozenset({"look", "compare", "generate", "explain"})
"""Tools that change neither the model nor the edits; they may write new files."""


def serve(session: AgentSession) -> None:
    """Serve until the client closes stdin. Nothing but the protocol is written to stdout."""
    anyio.run(_serve, session)


def server_of(session: AgentSession) -> Server[Any]:
    """Return a server with the tools, over a session. Calls of tools wait for one another."""
    alone = anyio.Lock()

    async def list_tools(
        _: ServerRequestContext[Any, Any], __: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[_describe_tool(name) for name in TOOLS])

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> CallToolResult:
        async with alone, _watch_cancellation() as given_up:
            text, failed = await to_thread.run_sync(
                _answer, session, params.name, params.arguments, _call(context, given_up.is_set)
            )
        # If the client gave the call up, the checkpoint in here ends it without an answer.
        await anyio.lowlevel.checkpoint()
        return CallToolResult(content=[TextContent(type="text", text=text)], is_error=failed)

    return Server(
        "llmscope",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _serve(session: AgentSession) -> None:
    server = server_of(session)
    async with stdio_server() as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


def _describe_tool(name: str) -> Listed:
    tool = TOOLS[name]
    return Listed(
        name=tool.name,
        description=tool.about,
        input_schema=tool.schema(),
        annotations=ToolAnnotations(
            read_only_hint=name in READS,
            destructive_hint=False,
            open_world_hint=name in ("open", "compare"),
        ),
    )


@asynccontextmanager
async def _watch_cancellation() -> AsyncIterator[Event]:
    """Give an event that is set once the client gives the call up.

    Any thread may read it, and the tool's thread is waited for only after that. It stays unset
    where the call ends by itself: what the call left behind, such as what loads an adapter when it
    is first used, may ask it later.
    """
    given_up, ended = Event(), False

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if not ended:
                given_up.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        yield given_up
        ended = True
        tasks.cancel_scope.cancel()


def _call(context: ServerRequestContext[Any, Any], cancelled: Callable[[], bool]) -> AgentCall:
    """Return the call that a tool's thread sees.

    Args:
        context: the request, to which it reports how far it is.
        cancelled: returns whether the client gave it up.
    """
    steps = 0

    def report(words: str) -> None:
        nonlocal steps
        steps += 1  # reports must increase, and the tool may run several passes
        from_thread.run(context.session.report_progress, steps, None, words)

    return AgentCall(cancelled, _unless_cancelled(cancelled, report))


def _unless_cancelled(
    cancelled: Callable[[], bool], report: Callable[[str], None]
) -> Callable[[str], None]:
    def told(words: str) -> None:
        if not cancelled():
            report(words)

    return told


def _answer(
    session: AgentSession, name: str, arguments: dict[str, Any] | None, call: AgentCall
) -> tuple[str, bool]:
    """Return the answer of a tool and whether it is an error: one line, and what to try."""
    give_up_when(call.cancelled)
    try:
        with read_in("tool"):
            return run(session, name, arguments, call), False
    except Error as error:
        return clip_text(one_line(error.line, LONGEST)), True
    except Exception as error:  # no failure of a library may end the server
        if call.cancelled():
            return "given up", True  # no client waits for it
        message = str(error) if isinstance(error, ValueError | TypeError) and str(error) else ""
        return clip_text(one_line(message or typed_error_line(error), LONGEST)), True
