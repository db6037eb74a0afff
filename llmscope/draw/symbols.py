"""ASCII replacements for the symbols in llmscope's own texts and formulas."""

from __future__ import annotations

from llmscope.draw.cells import plain_text
from llmscope.support.text import VISIBLE, VISIBLE_ASCII, mark_quoted

SIGNS = {
    "×": "x",
    "·": "*",
    "−": "-",
    "–": "-",
    "±": "+-",
    "√": "sqrt ",
    "≈": "~=",
    "←": "<-",
    "→": "->",
    "‖": "|",
    "Σ": "sum",
    "Φ": "Phi",
    "α": "a",
    "β": "beta",
    "γ": "gamma",
    "π": "pi",
    "σ": "sigma",
    "ω": "w",
    "ℓ": "l",
    "ᵀ": "^T",
    "ᵢ": "_i",
    "₁": "1",
    "₂": "2",
    "₊": "+",
    "²": "^2",
    "³": "^3",
    "′": "'",
    "…": "...",
    "‹": "<",
    "›": ">",
}
"""Each symbol and its ASCII replacement."""
_TABLE = str.maketrans(SIGNS)


def own_text(text: str, ascii: bool) -> str:  # noqa: A002
    """Return a text of llmscope on one line; `ascii` replaces known symbols, escapes others."""
    return plain_text(text.translate(_TABLE) if ascii else text, ascii)


_IN_ASCII = str.maketrans(SIGNS | {VISIBLE[char]: VISIBLE_ASCII[char] for char in VISIBLE})


def quoting_text(text: str, ascii: bool) -> str:  # noqa: A002
    """Return a text that quotes tokens, their white space visible, control characters escaped."""
    marked = mark_quoted(text)
    # It may hold the visible forms of white space already; in ASCII mode these are replaced too.
    return plain_text(marked.translate(_IN_ASCII) if ascii else marked, ascii)
