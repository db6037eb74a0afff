"""The signs of formulas, in ASCII where there is nothing else."""

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
"""Each sign of a formula, and how it is written in ASCII."""
_TABLE = str.maketrans(SIGNS)


def formula_text(text: str, ascii: bool) -> str:  # noqa: A002
    """A text of ours with its formulas, on one line."""
    return plain_text(text.translate(_TABLE) if ascii else text, ascii)
