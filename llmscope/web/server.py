"""The web server: textual-serve with authentication, and a page without external resources."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp_jinja2
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError
from textual_serve.server import Server, to_int

from llmscope.support.text import display_text
from llmscope.support.text import error_line as told_of
from llmscope.web.auth import Auth
from llmscope.web.bind import Listening
from llmscope.web.connections import Connections, Counted
from llmscope.web.headers import HEADERS, refusal
from llmscope.web.messages import Typed
from llmscope.web.process import PageProcess

PAGES = 4
"""Default maximum of open pages; each has its own process, of some 300 MB plus its model."""
FULL = (
    "{count} pages are open, and no more are allowed: close one and reload this page, or start "
    "llmscope serve with a larger --max-pages"
)
LONGEST_ERROR = 300
"""Maximum number of characters of an error line."""
UNHEARD_OF = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)
"""Exceptions that an invalid message, never sent by this server's page, may raise."""
HERE = Path(__file__).parent
# The terminal of the page creates inline style elements; everything else comes from files.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data:; connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# A SameSite=Strict cookie is withheld from a request that another site's link caused.
AGAIN = '<p>If you have just opened the link, <a href="/">go on</a>.</p>'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageServer(Server):
    """A server that shows a program on web pages, with a process for each open page.

    Args:
        words: the command line of that process.
        driver: its Textual driver.
        listening: the listening sockets and the allowed host names.
        title: of the page.
        pages: the maximum number of open pages.
    """

    def __init__(
        self,
        words: Sequence[str],
        driver: str,
        listening: Listening,
        *,
        title: str,
        pages: int = PAGES,
    ) -> None:
        super().__init__(
            title,
            host=listening.host,
            port=listening.port,
            title=title,
            templates_path=HERE / "templates",
        )
        self.gate = Auth(listening.names)
        self.link = f"{listening.origin}/?token={self.gate.token}"
        self.programs: set[PageProcess] = set()
        self._words, self._driver, self._sockets = tuple(words), driver, listening.sockets
        # Cookies are shared between ports of a host, so the name contains the port.
        self._cookie = f"llmscope-{listening.port}"
        self._status = 0
        self._left = asyncio.Event()
        self._pages = pages
        self._connections = Connections()

    async def until_left(self, notify: Callable[[], None]) -> int:
        """Serve until `leave` is called; then end the processes.

        Args:
            notify: called as soon as pages can be opened.

        Returns:
            The exit status passed to `leave`.
        """
        runner = web.AppRunner(
            await self._make_app(),
            access_log=None,
            shutdown_timeout=1.0,
            logger=_logger(),
            lingering_time=1.0,
        )
        await runner.setup()
        handler = runner.server
        assert handler is not None
        loop, listeners = asyncio.get_running_loop(), []
        try:
            for socket in self._sockets:
                make = partial(Counted, handler, self._connections)
                listeners.append(await loop.create_server(make, sock=socket))
            notify()
            await self._left.wait()
        finally:
            for each in listeners:
                each.close()
            await runner.cleanup()
        return self._status

    def leave(self, status: int) -> None:
        """Stop serving; must be called in the server's event loop."""
        self._status = status
        self._left.set()

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(self._protect)
        app.router.add_static("/page", HERE / "static")
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Print nothing, because the caller that started the server prints its address."""

    async def on_shutdown(self, app: web.Application) -> None:
        """End the processes; their pages close with them."""
        await asyncio.gather(*(program.stop() for program in self.programs))

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse all requests except from this server's page in the browser with the session."""
        route = request.match_info.route.name
        reason = self.gate.stranger(
            request.headers.getall("Host", []),
            request.headers.getall("Origin", []),
            socket=route == "websocket",
        )
        if reason:
            return _refusal(reason)
        token = request.query.get("token") if route == "index" else None
        if self.gate.knows(request.cookies.get(self._cookie)):
            self._connections.known(request.transport)
            return await handler(request) if token is None else _to_the_page(request)
        session = self.gate.open(token) if request.method == "GET" else None
        if session is None:
            return _refusal(self.gate.closed(token), AGAIN)
        response = _to_the_page(request)
        response.set_cookie(self._cookie, session, httponly=True, samesite="Strict")
        return response

    async def _protect(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the security headers to each response."""
        named = request.headers.get("Host", "").lower()
        host = named if named in self.gate.hosts else "none.invalid"
        response.headers.update(HEADERS)
        response.headers["Content-Security-Policy"] = POLICY.format(host=host)

    @aiohttp_jinja2.template("app_index.html")
    async def handle_index(self, request: web.Request) -> dict[str, Any]:
        """Return the values for the page template; the websocket is on the host of the request."""
        return {
            "title": self.title,
            "font_size": min(max(to_int(request.query.get("fontsize", ""), 16), 6), 64),
            "socket": f"ws://{request.host}{request.app.router['websocket'].url_for()}",
        }

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Run a process as long as its page is open."""
        socket = web.WebSocketResponse(heartbeat=15, timeout=2.0)
        await socket.prepare(request)
        if sum(not program.ends for program in self.programs) >= self._pages:
            await socket.send_bytes(f"\r\n  {FULL.format(count=self._pages)}.\r\n".encode())
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return socket
        program = PageProcess(
            self._words,
            self._driver,
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=socket.close,
            downloads=self.download_manager,
        )
        self.programs.add(program)
        try:
            size = (to_int(request.query.get(name, ""), 80) for name in ("width", "height"))
            await program.start(*size)
            await self._process_messages(socket, program)
        except UNHEARD_OF:
            await socket.close(code=WSCloseCode.PROTOCOL_ERROR)  # not sent by this server's page
        except ConnectionError:
            pass  # the page has gone
        except OSError as error:
            reason = display_text(error.strerror or str(error))
            print(f"error: no program for a page: {reason}", file=sys.stderr)  # noqa: T201
            await socket.close(code=WSCloseCode.INTERNAL_ERROR)
        finally:
            await program.stop()
            self.programs.discard(program)
        return socket

    async def _process_messages(self, websocket: web.WebSocketResponse, app_service: Any) -> None:
        """Forward the messages of the page to the process."""
        typed = Typed()
        async for message in websocket:
            if message.type != WSMsgType.TEXT:
                continue
            envelope = message.json()
            if not isinstance(envelope, list):
                raise TypeError
            kind, *payload = envelope
            if kind == "stdin":
                if data := typed.bytes_of(payload[0]):  # nothing while half of a pair is awaited
                    await app_service.send_bytes(data)
            elif kind == "resize":
                await app_service.set_terminal_size(payload[0]["width"], payload[0]["height"])
            elif kind == "ping":
                await websocket.send_json(["pong", payload[0]])
            elif kind == "blur":
                await app_service.blur()
            elif kind == "focus":
                await app_service.focus()


class _OneLine(logging.Handler):
    """A log handler that prints internal errors as one line to stderr and ignores bad requests."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the error, unless a bad request or a lost connection caused it."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | ConnectionError | web.HTTPException):
            return
        message = told_of(error) if isinstance(error, Exception) else record.getMessage()
        print(f"error: a request failed: {message[:LONGEST_ERROR]}", file=sys.stderr)  # noqa: T201


def _logger() -> logging.Logger:
    """Return the logger for aiohttp."""
    logger = logging.getLogger("llmscope.web")
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    logger.handlers = [_OneLine()]
    return logger


def _to_the_page(request: web.Request) -> web.Response:
    """Redirect to the same address without the token, to keep it out of history and referrers."""
    where = str(request.rel_url.without_query_params("token"))
    return web.Response(status=303, headers={"Location": where})


def _refusal(reason: str, more: str = "") -> web.Response:
    text = refusal(reason, more)
    answer = web.Response(status=403, text=text, content_type="text/html")
    answer.force_close()
    return answer
