"""The one sanitiser: foreign text on its way to a screen or a file that a terminal shows."""

from __future__ import annotations

import unicodedata

VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
VISIBLE_ASCII = {" ": "_", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def display_text(text: str, *, whitespace: bool = False, ascii: bool = False) -> str:  # noqa: A002
    r"""Foreign text made harmless: nothing in it can move a cursor, hide or reorder characters.

    Control characters (ESC, C0, C1), format characters (bidi, zero-width), private use,
    surrogates and unassigned code points become `\x1b`-like escapes; so does a combining mark
    with nothing to combine with.
    What comes back may still hold square brackets: it is text, never markup.

    Args:
        whitespace: show spaces, line ends and tabs as `·`, `↵`, `⇥`, as inside a token.
        ascii: leave nothing outside of ASCII.
    """
    visible = (VISIBLE_ASCII if ascii else VISIBLE) if whitespace else {}
    shown: list[str] = []
    for index, char in enumerate(text):
        if char in visible:
            shown.append(visible[char])
        elif (char == "\n" and not whitespace) or (char.isascii() and char.isprintable()):
            shown.append(char)
        elif ascii or _hidden(char) or (index == 0 and unicodedata.combining(char)):
            shown.append(_escape(char))
        else:
            shown.append(char)
    return "".join(shown)


def _hidden(char: str) -> bool:
    category = unicodedata.category(char)
    return category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} or (
        category == "Zs" or "VARIATION SELECTOR" in unicodedata.name(char, "")
    )


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
