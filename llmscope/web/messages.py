"""Convert the messages of a page for its process."""

from __future__ import annotations


class Typed:
    """A decoder of text typed or pasted on a page, in pieces.

    A page counts in UTF-16, so a piece may end in the middle of a surrogate pair, which the next
    piece completes; a lone surrogate is replaced, as browsers and terminals do.
    """

    def __init__(self) -> None:
        self._half = ""

    def bytes_of(self, text: str) -> bytes:
        """Return a piece in UTF-8, preceded by the surrogate left over from the previous one."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return whole.encode()
