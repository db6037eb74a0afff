"""The headers of every answer, and the page of a refusal."""

from __future__ import annotations

from html import escape

HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_REFUSED = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>llmscope: refused</title></head>
<body><p>Refused: {reason}.</p>{more}</body></html>
"""


def refusal(reason: str, more: str = "") -> str:
    """Return the page of a refusal.

    Args:
        reason: as text, without a full stop.
        more: markup below it.
    """
    return _REFUSED.format(reason=escape(reason), more=more)
