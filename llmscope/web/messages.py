"""What a page sends its program, made fit for it."""

from __future__ import annotations

REPLACEMENT = "\ufffd"


class Typed:
    """Text that is typed or pasted on a page, in pieces.

    A page counts in UTF-16, so a piece may end with half a character whose other half begins the
    next one; a half without the other is replaced, as browsers and terminals do.
    """

    def __init__(self) -> None:
        self._half = ""

    def bytes_of(self, text: str) -> bytes:
        """Return a piece in UTF-8, with the half that was left before."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return whole.encode()
