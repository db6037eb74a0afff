"""Authentication: accept requests for this host, from this server's page, with its session.

Even a server that listens only on this machine can be reached by any web page that the user opens:
the page's requests come from the user's browser, and with DNS rebinding (a foreign name that
resolves to 127.0.0.1) they look same-origin. Neither has the session, and both send headers with
their host and origin.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Sequence

from llmscope.support.text import display_text

LONGEST_QUOTE = 200
"""Maximum number of characters quoted of an untrusted name."""


CANDIDATES = 16
"""Maximum number of issued sessions that no request has used yet."""


class Auth:
    """The check of requests: a token in the link, which admits one browser, and its session.

    The token is used up when a request with an issued session arrives, which shows that the
    browser got the response. So a lost response does no harm, and if several browsers got a
    session, the first to use it is admitted.

    Args:
        hosts: allowed values of the Host header, with the port unless it is HTTP's default.

    Attributes:
        hosts: the same, in lower case.
        token: the token of the link.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        self.hosts = frozenset(host.lower() for host in hosts)
        self.token = secrets.token_urlsafe(32)
        self._given: list[str] = []
        self._session = ""

    def stranger(self, hosts: Sequence[str], origins: Sequence[str], *, socket: bool) -> str:
        """Return why a request is not from this server's page; empty if it is.

        Args:
            hosts: the values of the request's Host header.
            origins: the values of its Origin header.
            socket: whether the request opens the websocket. Browsers always send the origin of
                such a request, but allow it from pages of other sites.
        """
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            named = ", ".join(map(_quote, hosts)) or "none"
            return f"this is {' or '.join(sorted(self.hosts))}, and the browser asked for {named}"
        if not origins and not socket:
            return ""
        if len(origins) != 1 or origins[0].lower() != f"http://{hosts[0].lower()}":
            named = ", ".join(map(_quote, origins)) or "of which nothing is known"
            return f"another page asks: {named}"
        return ""

    def knows(self, session: str | None) -> bool:
        """Return whether the cookie holds the session that the link issued."""
        if self._session:
            return _same(session, self._session)
        self._session = next(
            (known_session for known_session in self._given if _same(session, known_session)), ""
        )
        return bool(self._session)

    def holds(self, token: str | None) -> bool:
        """Return whether a token is the link's."""
        return _same(token, self.token)

    def open(self, token: str | None) -> str | None:
        """Issue a session for the link's token; None if the token is wrong or used up."""
        if self._session or not _same(token, self.token):
            return None
        session = secrets.token_urlsafe(32)
        self._given = [*self._given[1 - CANDIDATES :], session]
        return session

    def closed(self, token: str | None) -> str:
        """Return why a request without the session is refused."""
        if token is None:
            return "this page opens with the link that llmscope serve has printed"
        if _same(token, self.token):
            return (
                "this link has opened a browser already; start llmscope serve again for a new one"
            )
        return "this link is not the one that llmscope serve has printed"


def _same(token: str | None, wanted: str) -> bool:
    return token is not None and hmac.compare_digest(
        token.encode("utf-8", "surrogatepass"), wanted.encode()
    )


def _quote(text: str) -> str:
    return display_text(text[:LONGEST_QUOTE], whitespace=True)
