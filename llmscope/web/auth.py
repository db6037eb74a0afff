"""Who may come in: a request for one of our names, from our own page, by whoever had the link.

A server on this machine alone can still be reached by every web page that a person opens: the
browser connects for it, and a name that suddenly means 127.0.0.1 makes that page look like ours.
Neither knows the session, and both say where they come from.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Sequence

from llmscope.text import display_text

LONGEST = 200
"""Characters of a foreign name that are quoted."""


CANDIDATES = 16
"""Sessions that were given and have not come back, at most."""


class Auth:
    """Decides about requests. It holds a link's token, which opens one browser, and the session.

    The token is spent when the session that it gave comes back: then the browser has the answer.
    An answer that was lost on its way costs nothing, and of several browsers that were answered
    the first that comes back is the one.

    Args:
        hosts: what requests may name as their host, with the port where it is not HTTP's own.

    Attributes:
        hosts: the same, in lower case.
        token: what the link holds.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        self.hosts = frozenset(host.lower() for host in hosts)
        self.token = secrets.token_urlsafe(32)
        self._given: list[str] = []
        self._session = ""

    def stranger(self, hosts: Sequence[str], origins: Sequence[str], *, socket: bool) -> str:
        """Why a request comes from somewhere else than a page of ours; empty if it does not.

        Args:
            hosts: the values of its header Host.
            origins: those of Origin.
            socket: whether it asks for the connection to the program. Browsers always say the
                origin of that, but do not hold pages of others back from it.
        """
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            named = ", ".join(map(_quoted, hosts)) or "none"
            return f"this is {' or '.join(sorted(self.hosts))}, and the browser asked for {named}"
        if not origins and not socket:
            return ""
        if len(origins) != 1 or origins[0].lower() != f"http://{hosts[0].lower()}":
            named = ", ".join(map(_quoted, origins)) or "of which nothing is known"
            return f"another page asks: {named}"
        return ""

    def knows(self, session: str | None) -> bool:
        """Whether the cookie is the one that the link gave."""
        if self._session:
            return _same(session, self._session)
        self._session = next((one for one in self._given if _same(session, one)), "")
        return bool(self._session)

    def open(self, token: str | None) -> str | None:
        """A session for the token of the link, until one has come back; None: it opens nothing."""
        if self._session or not _same(token, self.token):
            return None
        session = secrets.token_urlsafe(32)
        self._given = [*self._given[1 - CANDIDATES :], session]
        return session

    def closed(self, token: str | None) -> str:
        """Why a request without the session is refused."""
        if token is None:
            return "this page opens with the link that llmscope serve has printed"
        if _same(token, self.token):
            return (
                "this link has opened a browser already; start llmscope serve again for a new one"
            )
        return "this link is not the one that llmscope serve has printed"


def _same(given: str | None, wanted: str) -> bool:
    return given is not None and hmac.compare_digest(
        given.encode("utf-8", "surrogatepass"), wanted.encode()
    )


def _quoted(text: str) -> str:
    return display_text(text[:LONGEST], whitespace=True)
