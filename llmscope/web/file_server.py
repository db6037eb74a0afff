"""Serve one document, read only, to everybody who has the link: no process and no session for each.

It speaks as much HTTP as that takes: one request a connection, GET and HEAD, an answer from memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from llmscope.web.auth import Auth
from llmscope.web.bind import Listening
from llmscope.web.connections import Connections
from llmscope.web.headers import HEADERS, refusal

METHODS = ("GET", "HEAD")
LONGEST_HEAD = 1 << 14
"""Most bytes of a request line with its headers."""
SENDING = 300.0
"""Seconds within which a viewer must take the document; a slow line takes 6 MB in that time."""
LINGERING = 1.0
"""Seconds for which a client that goes on sending is read after the answer."""
VIEWERS = 256
"""Most connections that may be sent the document at the same time."""
STATUSES = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'"
"""The content security policy of a refusal."""


@dataclass(frozen=True)
class FileRequest:
    """A request: its method, path and token, and the headers that tell where it comes from."""

    method: str
    path: str
    token: str | None
    headers: dict[str, list[str]] = field(default_factory=dict)


class FileServer:
    """A server of one HTML document.

    Args:
        document: the document.
        policy: its content security policy.
        listening: the listening sockets and the allowed host names.

    Attributes:
        link: the address of the document, with the token that anyone may use.
    """

    def __init__(self, document: str, policy: str, listening: Listening) -> None:
        self.gate = Auth(listening.names)
        self.link = f"{listening.origin}/?token={self.gate.token}"
        self._body = document.encode("utf-8")
        self._policy = f"{policy}; frame-ancestors 'none'"
        self._sockets = listening.sockets
        self._connections = Connections()
        self._sending: set[asyncio.Task[None]] = set()
        self._viewers = 0
        self._status = 0
        self._left = asyncio.Event()

    async def until_left(self, notify: Callable[[], None]) -> int:
        """Serve until `leave` is called.

        Args:
            notify: called as soon as the document can be asked for.

        Returns:
            The exit status passed to `leave`.
        """
        servers = []
        try:
            for socket in self._sockets:
                servers.append(
                    await asyncio.start_server(
                        self._answer_connection, sock=socket, limit=LONGEST_HEAD
                    )
                )
            notify()
            await self._left.wait()
        finally:
            for server in servers:
                server.close()
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
        return self._status

    def leave(self, status: int) -> None:
        """Stop serving; must be called in the server's event loop."""
        self._status = status
        self._left.set()

    async def _answer_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request. A connection that sends none in time is ended by `Connections`."""
        task = asyncio.current_task()
        assert task is not None
        self._sending.add(task)
        self._connections.opened(writer.transport)
        writer.transport.set_write_buffer_limits(0)  # so that it waits for all to be sent
        try:
            await self._answer(reader, writer)
            # A connection that is closed with unread bytes, such as a body, is reset, and the
            # answer may be lost.
            async with asyncio.timeout(LINGERING):
                while await reader.read(LONGEST_HEAD):
                    pass
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the viewer has gone or is too slow, or the server ends
        finally:
            self._sending.discard(task)
            self._connections.closed(writer.transport)
            writer.transport.abort()  # what was to be sent has been, or is given up

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            request = parsed(head)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            await self._send(writer, 400, refusal("this is no request that it understands"))
            return
        status, reason = self._judge_request(request)
        if status == 200 and self._viewers >= VIEWERS:
            status, reason = 503, "too many viewers ask at once: reload this page in a moment"
        if status != 200:
            await self._send(writer, status, refusal(reason), head_only=request.method == "HEAD")
            return
        self._connections.known(writer.transport)
        self._viewers += 1
        try:
            async with asyncio.timeout(SENDING):
                await self._send(
                    writer, 200, self._body, self._policy, head_only=request.method == "HEAD"
                )
        finally:
            self._viewers -= 1

    def _judge_request(self, request: FileRequest) -> tuple[int, str]:
        """Return the status of the answer, and the reason for one that is not 200."""
        hosts, origins = (request.headers.get(name, []) for name in ("host", "origin"))
        stranger = self.gate.stranger(hosts, origins, socket=False)
        if stranger:
            return 403, stranger
        if request.method not in METHODS:
            return 405, "this only shows a file"
        if not self.gate.holds(request.token):
            return 403, self.gate.closed(None if request.token is None else "")
        if request.path != "/":
            return 404, "there is one page, at /"
        return 200, ""

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: str | bytes,
        policy: str = POLICY,
        *,
        head_only: bool = False,
    ) -> None:
        data = body.encode("utf-8", "backslashreplace") if isinstance(body, str) else body
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(data)),
            "Connection": "close",
            "Content-Security-Policy": policy,
            **HEADERS,
            **({"Allow": ", ".join(METHODS)} if status == 405 else {}),
        }
        lines = [f"HTTP/1.1 {status} {STATUSES[status]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        if not head_only:
            writer.write(data)
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def parsed(head: bytes) -> FileRequest:
    """Return the request that a request line and its headers make.

    Raises:
        ValueError: they are not those of HTTP/1.
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, version = first.split(" ")
    if version not in ("HTTP/1.0", "HTTP/1.1") or not target.startswith("/"):
        raise ValueError("not a request for a path")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError("not a header")
        headers.setdefault(name.lower(), []).append(value.strip())
    path, _, query = target.partition("?")
    tokens = parse_qs(query, keep_blank_values=True, max_num_fields=10).get("token")
    return FileRequest(method, path, tokens[0] if tokens else None, headers)
