"""Titles of panes: shortened to the width of the pane, from the least important part on."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

SAVED = "saved"
"""Title remark, in place of a verdict, for a figure of an earlier session."""
OUT_OF_DATE = "out of date"
"""Title remark, in place of a verdict, for a figure that no newer one replaces for now."""
VERDICT_MARKS = {
    "verified": "✓",
    "partial": "~",
    "unverified": "!",
    "refused": "✗",
    SAVED: SAVED,
    OUT_OF_DATE: "old",
}
"""Symbols for the verdicts, for titles too narrow for the word."""
MARGIN = 2
"""Cells of a title reserved for the mark of a stale figure."""
JOINT = " · "
TOKEN = 6
"""Cells that a quoted token keeps in a narrow title."""
_SHORTER = tuple(
    (re.compile(pattern), shorter)
    for pattern, shorter in (
        # What explains a measure goes before the measure itself.
        (r"(Heads · [\w ]+): .*", r"\1"),
        (r", mean of \d+ heads", ""),
        (r"[━─]+ (?=\d+/\d+)", ""),
        (r"what it promotes and suppresses", "promotes"),
        (r"(Feature \d+) along the prompt", r"\1"),
        (r"Variance unexplained", "FVU"),
        (r"KL with the reconstruction spliced in", "KL spliced in"),
        (r"stream (after|before|within) layer (\d+)", r"\1 L\2"),
        (r"Features taken away", "Without"),
        (r"New features at", "New at"),
        (r"gradient × activation", "grad × act"),
        (r"Features by token", "By token"),
        (r"no first and special tokens", "without sinks"),
        (r"weighted by values", "by values"),
        (r"strongest neurons", "neurons"),
        (r" of the logit lens after each layer", " of the logit lens"),
        (r"probability of", "p of"),
        (r"set to their mean", "to mean"),
        (r"set to zero", "to zero"),
        (r"\blayer (\d+) head (\d+)", r"head \1.\2"),
        (r"[Nn]euron (\d+) of layer (\d+)", r"Neuron \2.\1"),
        (r"\blayers (\d+) to (\d+)", r"L\1–\2"),
        (r"\blayer (\d+)", r"L\1"),
        (r"Attribution", "Attrib."),
        (r"gradient × input", "grad × input"),
        (r"integrated gradients", "int. gradients"),
        (r"log p of", "log p"),
        (r"Attention", "Attn"),
        (r"Ablation", "Ablate"),
        (r"Next token", "Next"),
        (r"Attrib\. · logit of", "Attrib. of"),
    )
)
_QUOTED = re.compile(r"‹([^›]*)›")


def fitting_title(heading: str, status: str, width: int) -> tuple[str, str]:
    """Fit a heading and its verdict into `width` cells, and return both.

    First the verdict's word becomes its symbol, then explanations go, long words and quoted
    tokens get shorter; only where all of that is not enough, the last parts are dropped.
    """
    room = width - MARGIN
    word, mark = f"{JOINT}{status}", f" {VERDICT_MARKS[status]}"
    if cell_len(heading + word) <= room:
        return heading, word
    room -= cell_len(mark)
    for pattern, shorter in _SHORTER:
        if cell_len(heading) <= room:
            return heading, mark
        heading = pattern.sub(shorter, heading)
    if cell_len(heading) > room:
        heading = _QUOTED.sub(_cut, heading)
    while cell_len(heading) > room and JOINT in heading:
        heading = heading.rpartition(JOINT)[0]
    return heading, mark


def _cut(quoted: re.Match[str]) -> str:
    text = quoted[1]
    return quoted[0] if cell_len(text) <= TOKEN else f"‹{set_cell_size(text, TOKEN - 1).rstrip()}…›"
