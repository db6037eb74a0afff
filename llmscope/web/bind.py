"""The addresses a server listens on, and the host names it accepts."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from llmscope.errors import ScopeError, option
from llmscope.support.text import quoted_text

LOOPBACK = "127.0.0.1"
WAITING = 128
"""The listen backlog: connections waiting to be accepted."""


@dataclass(frozen=True)
class Listening:
    """Listening sockets.

    Attributes:
        host: the name or address as the user wrote it.
        port: of all sockets.
        addresses: of the sockets.
        sockets: the sockets; the receiver of this object must close them.
    """

    host: str
    port: int
    addresses: tuple[IPv4Address | IPv6Address, ...]
    sockets: tuple[socket.socket, ...]

    @property
    def private(self) -> bool:
        """Return whether only programs on this machine can connect."""
        return all(map(_loops, self.addresses))

    @property
    def names(self) -> frozenset[str]:
        """Return the allowed Host headers: the host, its addresses, and names of this machine.

        If the server listens on all addresses, these include every current address of the machine
        and its host name. A foreign name that resolves to this machine (DNS rebinding) is not
        included.
        """
        hosts = {_host_in_url(host) for host in (self.host, *map(str, self.addresses))}
        hosts |= {LOOPBACK, "localhost"}
        for version in {address.version for address in self.addresses if address.is_unspecified}:
            hosts |= {
                _host_in_url(host) for host in (*_own_addresses(version), socket.gethostname())
            }
        names = {f"{host}:{self.port}" for host in hosts}
        return frozenset(names | hosts if self.port == 80 else names)

    @property
    def origin(self) -> str:
        """Return the origin of the link, with the loopback address for an unspecified one."""
        everywhere = any(address.is_unspecified for address in self.addresses)
        host = LOOPBACK if everywhere else _host_in_url(self.host)
        return f"http://{host}:{self.port}"


def listen(host: str, port: int) -> Listening:
    """Listen on each address of a host.

    Args:
        host: a name or an address.
        port: the port; 0 for any free one.

    Raises:
        ScopeError: the host is unknown or not of this machine, or the port is unavailable.
    """
    try:
        addresses_found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        addresses_found = []
    if not host or not addresses_found:
        raise ScopeError(f"there is no host {quoted_text(host)}", option("host", LOOPBACK))
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, where in dict.fromkeys(addresses_found):
            address = (where[0], port, *where[2:])
            listener = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(listener)
            if os.name == "posix":  # on Windows it would allow taking another program's port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(WAITING)
            port = listener.getsockname()[1]
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise _failure(error, host, port) from error
    addresses = [ip_address(listener.getsockname()[0].partition("%")[0]) for listener in sockets]
    return Listening(host, port, tuple(addresses), tuple(sockets))


def _failure(error: OSError, host: str, port: int) -> ScopeError:
    if error.errno == errno.EADDRINUSE:
        return ScopeError(
            f"port {port} is taken", option("port", port + 1 if port < 65535 else 8000)
        )
    if error.errno == errno.EACCES:
        return ScopeError(f"this user may not listen on port {port}", option("port", 8000))
    host_shown = quoted_text(host)
    if error.errno == errno.EADDRNOTAVAIL:
        return ScopeError(f"{host_shown} is no address of this machine", option("host", LOOPBACK))
    reason = error.strerror or "it failed"
    return ScopeError(
        f"cannot listen on {host_shown}, port {port}: {reason}", f"another {option('port')}"
    )


def _own_addresses(version: int) -> list[str]:
    """Return the addresses of this machine's interfaces, of IPv4 or IPv6."""
    import psutil

    family = socket.AF_INET if version == 4 else socket.AF_INET6
    each = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    return [address.address.partition("%")[0] for address in each if address.family == family]


def _loops(address: IPv4Address | IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _host_in_url(host: str) -> str:
    """Return a host as written in a URL."""
    return f"[{host}]" if ":" in host else host.lower()
