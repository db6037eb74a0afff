"""Limits on the number and idle time of connections that are not authenticated.

A connection is a stranger until it sends a request with the session. Strangers have a time limit,
and their number is limited in total and per address; above a limit the oldest is closed, so that
neither idle connections nor a flood of them lock the user out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STRANGERS = 48
"""Maximum number of connections without the session."""
EACH = 24
"""Maximum number of those per address. Browsers behind the same tunnel share an address."""
HEAD = 10.0
"""Seconds within which such a connection must send a request and receive the response."""


class Connections:
    """The connections without the session, the oldest first."""

    def __init__(self) -> None:
        self._strangers: dict[asyncio.BaseTransport, tuple[str, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return len(self._strangers)

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """Count a new connection, and close the oldest ones above the limits."""
        named = transport.get_extra_info("peername")
        address = str(named[0]) if isinstance(named, tuple) else ""
        timer = asyncio.get_running_loop().call_later(HEAD, _abort, transport)
        self._strangers[transport] = address, timer
        same = [connection for connection, (its, _) in self._strangers.items() if its == address]
        for connection_here in same[:-EACH]:
            self._end(connection_here)
        for connection_here in list(self._strangers)[:-STRANGERS]:
            self._end(connection_here)

    def known(self, transport: asyncio.BaseTransport | None) -> None:
        """Stop counting a connection, because it has sent the session."""
        if transport is not None:
            self.closed(transport)

    def closed(self, transport: asyncio.BaseTransport) -> None:
        """Stop counting a connection."""
        _, timer = self._strangers.pop(transport, (None, None))
        if timer is not None:
            timer.cancel()

    def _end(self, transport: asyncio.BaseTransport) -> None:
        self.closed(transport)
        _abort(transport)


class Counted(asyncio.Protocol):
    """A protocol that forwards everything to another protocol and counts the connection.

    Args:
        make: creates the other protocol.
        connections: counts the connection.
    """

    def __init__(self, make: Callable[[], asyncio.Protocol], connections: Connections) -> None:
        self._inner, self._connections = make(), connections
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self._transport = transport
        self._inner.connection_made(transport)
        self._connections.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        if self._transport is not None:
            self._connections.closed(self._transport)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Forward the bytes."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Forward the end of the stream."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Forward the call."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Forward the call."""
        self._inner.resume_writing()


def _abort(transport: asyncio.BaseTransport) -> None:
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
    else:
        transport.close()
