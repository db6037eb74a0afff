"""Sanitizing of foreign text before a terminal shows it, on screen or from a file.

Terminals disagree about the width of some characters. Some add up the widths of single characters,
some give one width to each grapheme cluster, and their tables differ. In a grid one extra cell
moves everything after it, so text there is drawn in a form that has the same width in all
terminals: every grapheme cluster is one character of undisputed width, followed only by marks of
width zero. Other clusters are escaped. Exports and messages keep them. East Asian "ambiguous"
characters count as one cell, as in every terminal with default settings: the frames and bars that
llmscope draws are of that kind too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from functools import lru_cache

VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
VISIBLE_ASCII = {" ": "_", "\n": "\\n", "\t": "\\t", "\r": "\\r"}

DOTTED_CIRCLE = "\u25cc"
"""The base for a combining mark without one, as Unicode itself shows marks."""

# Letters that are drawn as nothing or as a blank: fillers of Hangul and Khmer, the grapheme
# joiner, the empty Braille pattern.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")

# Vowels that some terminals count as a letter and others as part of the letter before, each with
# the same vowel as a mark and a letter, whose width is undisputed.
_VOWELS = {"\u0e33": "\u0e4d\u0e32", "\u0eb3": "\u0ecd\u0eb2"}

# Viramas that join no consonants: those of Thai and Lao.
_NO_LINKERS = frozenset("\u0e3a\u0eba")

# First and last characters of ranges whose width differs between terminals.
_DISPUTED = (
    (0x0D4E, 0x0D4E),  # a Malayalam letter that belongs to the next one, as some below
    (0x1CF5, 0x1CF6),  # Vedic signs that belong to the next letter
    (0x2630, 0x2637),  # trigrams, digrams and hexagrams: wide since Unicode 16
    (0x268A, 0x268F),
    (0x3248, 0x324F),  # numbers in black circles: wide in the C library, narrow elsewhere
    (0x4DC0, 0x4DFF),
    (0xFF9E, 0xFF9F),  # halfwidth sound marks: one cell, or part of the letter before
    (0x111C2, 0x111C3),
    (0x113D1, 0x113D1),
    (0x1171E, 0x1171E),  # became a mark of width zero
    (0x1193F, 0x1193F),
    (0x11941, 0x11941),
    (0x11A3A, 0x11A3A),
    (0x11A84, 0x11A89),
    (0x11D46, 0x11D46),
    (0x11F02, 0x11F02),
    (0x1D300, 0x1D376),
    (0x1F1E6, 0x1F1FF),  # halves of flags
    (0x1F3FB, 0x1F3FF),  # skin tones
)


def display_text(
    text: str,
    *,
    whitespace: bool = False,
    ascii: bool = False,  # noqa: A002
    cells: bool | None = None,
) -> str:
    r"""Escape foreign text so that it cannot move the cursor, or hide or reorder characters.

    Control characters (ESC, C0, C1), format characters (bidi, zero-width), blanks other than the
    space, private use, surrogates and unassigned code points become `\x1b`-like escapes. A
    combining mark without a base is drawn on a dotted circle. The result may still hold square
    brackets: it is text, never markup.

    Args:
        text: the text to escape.
        whitespace: show spaces, line ends and tabs as `·`, `↵`, `⇥`, as inside a token.
        ascii: escape all characters outside of ASCII.
        cells: draw clusters whose width differs between terminals (flags, spacing vowel signs,
            conjuncts) in a form of fixed width, for text with other text to its right. None: as
            `whitespace`.
    """
    in_cells = whitespace if cells is None else cells
    visible = (VISIBLE_ASCII if ascii else VISIBLE) if whitespace else {}
    if text.isascii() and text.isprintable():
        return text.replace(" ", visible[" "]) if visible else text
    shown_forms = forms(text, in_cells)
    for index, char in enumerate(text):
        if char in visible:
            shown_forms[index] = visible[char]
        elif ascii and not char.isascii():
            shown_forms[index] = _escape(char)
    return "".join(shown_forms)


def display_line(text: object, *, cells: bool = False) -> str:
    """Escape foreign text as `display_text` does, and put it on one line.

    Args:
        text: the text, or a path.
        cells: draw clusters whose width differs between terminals in a form of fixed width.
    """
    return display_text(str(text), cells=cells).replace("\n", " ")


def mark_quoted(text: str) -> str:
    """Show the space that a token quoted in a text begins with: `‹·Paris›` for `‹ Paris›`."""
    return text.replace("‹ ", f"‹{VISIBLE[' ']}")


def forms(text: str, cells: bool) -> list[str]:
    """Return each character of a text, or the form that replaces it; white space is kept."""
    forms_shown: list[str] = []
    followed = _virama_indices(text) if cells else frozenset()
    carrier = ""  # the character before, if it is a visible base for a mark
    for index, char in enumerate(text):
        form = _form(char, carrier, index in followed, cells)
        carrier = char if char != " " and form in (char, DOTTED_CIRCLE + char) else ""
        if form == _VOWELS.get(char):
            carrier = form[-1]
        forms_shown.append(form)
    return forms_shown


def _form(char: str, carrier: str, followed: bool, cells: bool) -> str:
    if char == "\n" or (char.isascii() and char.isprintable()):
        return char
    if _is_hidden(char) or (cells and _is_disputed(char)):
        return _escape(char)
    if unicodedata.category(char) in ("Mn", "Me"):
        if cells and followed:
            # One cluster of two consonants, which some terminals give one cell. A dotted circle
            # between them would not separate them everywhere.
            return _escape(char)
        return char if carrier else DOTTED_CIRCLE + char
    if unicodedata.category(char) == "Mc":
        return char if carrier else _escape(char)
    if cells and char in _VOWELS:
        return _VOWELS[char] if carrier else _escape(char)
    if cells and not _syllable(carrier, char):
        return _escape(char)
    return char


@lru_cache(maxsize=4096)
def _is_hidden(char: str) -> bool:
    category = unicodedata.category(char)
    return (
        category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
        or char in _BLANK
        or "VARIATION SELECTOR" in unicodedata.name(char, "")
    )


@lru_cache(maxsize=4096)
def _is_disputed(char: str) -> bool:
    # Spacing vowel signs: no cell, one cell or part of the cell before.
    if unicodedata.category(char) == "Mc":
        return True
    return any(first <= ord(char) <= last for first, last in _DISPUTED)


def _links(char: str) -> bool:
    """Return whether a character is a virama, which may join two consonants into one cluster."""
    return unicodedata.combining(char) == 9 and char not in _NO_LINKERS


def _virama_indices(text: str) -> frozenset[int]:
    """Return the indices of viramas that are followed by a letter, with only marks between."""
    indices: list[int] = []
    joinable = False  # whether a letter comes after the marks that follow
    for index in range(len(text) - 1, -1, -1):
        char = text[index]
        if char.isascii():
            joinable = False
        elif unicodedata.category(char) not in ("Mn", "Me"):
            joinable = True
        elif joinable and _links(char):
            indices.append(index)
    return frozenset(indices)


def _syllable(before: str, char: str) -> bool:
    """Return whether a Hangul letter has its undisputed width after the one before.

    Vowels and final consonants have width zero after the letter that they belong to. A leading
    consonant and the letter that continues it are one cluster, but each of them is wide.
    """
    part, previous = _hangul(char), _hangul(before) if before else ""
    if part == "V":
        return previous in ("L", "V", "LV")
    if part == "T":
        return previous in ("V", "T", "LV", "LVT")
    return not (part and previous == "L")


def _hangul(char: str) -> str:
    """Return the syllable part of a Hangul letter: leading, vowel, trailing, or several."""
    code = ord(char)
    if 0xAC00 <= code <= 0xD7A3:
        return "LVT" if (code - 0xAC00) % 28 else "LV"
    if 0x1100 <= code <= 0x115F or 0xA960 <= code <= 0xA97C:
        return "L"
    if 0x1160 <= code <= 0x11A7 or 0xD7B0 <= code <= 0xD7C6:
        return "V"
    return "T" if 0x11A8 <= code <= 0x11FF or 0xD7CB <= code <= 0xD7FB else ""


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# Control characters except line ends and tabs, bidi controls, line and paragraph separators, and
# tags, which are invisible.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


def controls(text: str) -> bool:
    """Return whether a text holds characters that control a terminal, or hide or reorder text."""
    return _CONTROLS.search(text) is not None


def without_controls(text: str) -> str:
    r"""Replace characters that control a terminal, or hide or reorder text, by `\x1b`-like escapes.

    Unlike `display_text`, keep line ends, tabs, and joiners that belong to a letter or emoji.
    """
    return _CONTROLS.sub(lambda match: _escape(match[0]), text)


LINE = 400
"""Maximum characters of an error line."""
NOTE = 1000
"""Maximum characters of a note, which may list some words."""


def one_line(text: str, longest: int = LINE) -> str:
    """Return foreign text as one safe line of bounded length; … replaces omitted text.

    Args:
        text: the text.
        longest: maximum characters of the line.
    """
    window = 8 * longest
    if len(text) > 2 * window:  # the rest cannot show up in the line
        text = f"{text[:window]}…{text[-window:]}"
    line = display_text(" ".join(text.split()))
    if len(line) <= longest:
        return line
    end = longest // 4  # the cause of an error is often at the end
    return f"{line[: longest - end - 1]}…{line[len(line) - end :]}"


def error_line(error: BaseException) -> str:
    """Return the message of an exception as one safe line of bounded length, never empty."""
    try:
        message = str(error).strip()
    except Exception:  # the `__str__` of a foreign exception may raise
        message = ""
    lines = [line for line in message[:100_000].splitlines() if line.strip()]
    line = next((text_line for text_line in lines if not _POINTS.search(text_line)), "")
    # The text alone is not clear: it is a missing key, or an attribute that None lacks.
    if not line or not isinstance(error, Exception) or isinstance(error, _RIDDLES):
        line = f"{type(error).__name__} {line}".rstrip()
    return one_line(line)


def typed_error_line(error: BaseException) -> str:
    """Return the name and the message of an exception as one safe line of bounded length."""
    message = error_line(error)
    name = type(error).__name__
    return message if message.startswith(name) else one_line(f"{name}: {message}")


# Lines that refer to more text, which is not shown.
_POINTS = re.compile(r"(?i)^traceback|look at the above|see (the )?(above|below)|report above")
_RIDDLES = (LookupError, AttributeError, TypeError)


def shared_length(first: Sequence[object], other: Sequence[object]) -> int:
    """Return the length of the common prefix of two texts, or of two tuples."""
    shared, end = 0, min(len(first), len(other))
    while shared < end:  # bisection: slices are compared at memory speed
        middle = (shared + end + 1) // 2
        if first[shared:middle] == other[shared:middle]:
            shared = middle
        else:
            end = middle - 1
    return shared


def quoted_token(text: str) -> str:
    """Return a token in quotation marks, with visible white space."""
    return f"‹{display_text(text, whitespace=True)}›"


def quoted_text(text: str) -> str:
    """Return foreign text in quotes, escaped, with visible white space."""
    return repr(display_text(text, whitespace=True))


def nearest(written: str, known: Collection[str]) -> str:
    """Return the known name most like a written one, in any case; empty if no name is similar."""
    from difflib import get_close_matches  # late: only errors need it

    cases = (written.lower(), written.upper())
    return next((near[0] for case in cases if (near := get_close_matches(case, known, 1, 0.5))), "")
