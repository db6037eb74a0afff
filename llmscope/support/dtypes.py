"""The names of the dtypes that a model can compute in."""

from __future__ import annotations

DTYPES = ("float32", "bfloat16", "float16")
"""The dtypes, by the names that are stored and shown."""
ALIASES = {
    "fp32": "float32",
    "float": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
}
"""Other names that are taken wherever a dtype is."""
WAYS = f"auto, {', '.join(DTYPES)}"
"""What a dtype may be, for help and errors."""


def dtype_name(text: str) -> str:
    """Return the usual name of a dtype; a text that names none is returned as it is."""
    return ALIASES.get(text.lower(), text)
