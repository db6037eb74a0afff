"""How many connections are open, and for how long one may say nothing.

A connection is a stranger's until a request with the session comes over it. Strangers have a
time limit and a limited number, in all and for each address; where there is no room, the oldest
of them makes way, so that neither idle connections nor a flood of them keep the owner out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STRANGERS = 48
"""Connections without the session, at most."""
EACH = 24
"""Of those, from one address. Browsers behind one tunnel have one address."""
HEAD = 10.0
"""Seconds in which such a connection has to send a request and take the answer."""


class Connections:
    """The connections without the session, the oldest first."""

    def __init__(self) -> None:
        self._strangers: dict[asyncio.BaseTransport, tuple[str, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return len(self._strangers)

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """Count a new connection, and end the oldest ones that there is no room for."""
        named = transport.get_extra_info("peername")
        address = str(named[0]) if isinstance(named, tuple) else ""
        timer = asyncio.get_running_loop().call_later(HEAD, _abort, transport)
        self._strangers[transport] = address, timer
        same = [one for one, (its, _) in self._strangers.items() if its == address]
        for one in same[:-EACH]:
            self._end(one)
        for one in list(self._strangers)[:-STRANGERS]:
            self._end(one)

    def known(self, transport: asyncio.BaseTransport | None) -> None:
        """Let a connection stay: it has shown the session."""
        if transport is not None:
            self.closed(transport)

    def closed(self, transport: asyncio.BaseTransport) -> None:
        """Count a connection no more."""
        _, timer = self._strangers.pop(transport, (None, None))
        if timer is not None:
            timer.cancel()

    def _end(self, transport: asyncio.BaseTransport) -> None:
        self.closed(transport)
        _abort(transport)


class Counted(asyncio.Protocol):
    """Hands all that comes over a connection to another protocol, and has it counted.

    Args:
        make: makes the other protocol.
        connections: where it is counted.
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
        """Count it no more."""
        if self._transport is not None:
            self._connections.closed(self._transport)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand bytes on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand the end on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Hand it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._inner.resume_writing()


def _abort(transport: asyncio.BaseTransport) -> None:
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
    else:
        transport.close()
