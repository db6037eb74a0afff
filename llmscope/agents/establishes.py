"""What a lens establishes, in one line for the answer of a tool, and what the verdicts mean."""

from __future__ import annotations

from llmscope.lenses import Lens

VERDICTS = {
    "verified": "the identity that the lens relies on holds on this model, within rounding",
    "partial": "it holds for some layers, tokens or readings only; the reason says which",
    "unverified": "it failed its check, and is shown because unverified figures were asked for",
    "refused": "it failed its check or the model has no such part: there are no numbers",
}
"""What each verdict means."""


def establishes(chosen: Lens) -> str:
    """Return what a lens establishes and what not; its question if it declares neither."""
    sentences = [chosen.establishes or f"an answer to: {chosen.question}"]
    sentences += (
        [f"It does not establish {chosen.not_established}"] if chosen.not_established else []
    )
    return " ".join(sentences)
