"""The signs that our own words and formulas are written with, in ASCII where there is no other."""

from __future__ import annotations

from llmscope.draw.cells import plain_text

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
"""Each sign, and how it is written in ASCII."""
_TABLE = str.maketrans(SIGNS)


def own_text(text: str, ascii: bool) -> str:  # noqa: A002
    """A text of ours, on one line: its signs have look-alikes, foreign text is told by its code."""
    return plain_text(text.translate(_TABLE) if ascii else text, ascii)
