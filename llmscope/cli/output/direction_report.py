"""What `llmscope fit direction` prints: each layer beside its controls, and the doses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.cli.output.table import table
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.learned.lenses.directions import Directions, Dose, Interval


def report(
    directions: Directions, written: Sequence[tuple[Path, tuple[int, ...]]], *, has_rule: bool
) -> str:
    """Return the report on directions that were written.

    Args:
        directions: the directions.
        written: each file, with the layers that its format has no place for.
        has_rule: whether doses were to be measured.
    """
    from llmscope.learned.lenses.directions import METHOD_NAMES

    lines = []
    for path, left in written:
        omitted = f"; llama.cpp has no place for layer {left[0]}" if left else ""
        lines.append(f"wrote {display_text(str(path))}{omitted}")
    sets = directions.sets
    lines.append(
        f"{METHOD_NAMES[directions.method]} at position {directions.position}; trained on "
        f"{sets.train_texts} texts of {sets.train_groups} groups, measured on {sets.test_texts} of "
        f"{sets.test_groups}"
    )
    lines.append(f"{'!' if sets.leak else '✓'} the test set {sets.leak}")
    text = "\n".join(lines) + "\n\n" + _layers(directions)
    if directions.dose is not None:
        text += "\n" + _doses(directions.dose)
    elif has_rule:
        text += "\nno doses: there is no later probe to measure them by; --measure TOKEN TOKEN\n"
    verdict = directions.verdict(directions.best)
    reason = f": {verdict.reason}" if verdict.reason else ""
    return f"{text}\nbest layer {directions.best}, cross-validated · {verdict.status}{reason}\n"


def record(
    directions: Directions, written: Sequence[tuple[Path, tuple[int, ...]]]
) -> dict[str, Any]:
    """Return the same report as JSON types.

    Args:
        directions: the directions.
        written: each file, with the layers that its format has no place for.
    """
    from llmscope.figure import plain
    from llmscope.learned.lenses.direction_file import direction_header
    from llmscope.version import __version__

    verdict = directions.verdict(directions.best)
    about: dict[str, Any] = plain(
        {
            **direction_header(directions),
            "llmscope": __version__,
            "files": [{"path": str(path), "without_layers": left} for path, left in written],
            "verdict": {"status": verdict.status, "reason": verdict.reason},
        }
    )
    return about


def _layers(directions: Directions) -> str:
    """Return a row for each layer: held-out figures, the controls, and what is wrong."""
    others = next(iter(directions.probes.values())).figures.cosines
    head = (
        *("after layer", "accuracy", "AUC", "95 %", "shuffled AUC", "range", "random AUC"),
        *("range", "Brier", "ECE", *(f"cos {name}" for name in others), ""),
    )
    rows = []
    for layer, probe in directions.probes.items():
        figures = probe.figures
        shuffled, random = figures.shuffled.auc, figures.random.auc
        note = "no better than its controls" if _beaten(directions, layer) else ""
        rows.append(
            (
                f"{layer}{' ◂' if layer == directions.best else '  '}",
                f"{figures.held_out.accuracy.value:.1%}",
                f"{figures.held_out.auc.value:.3f}",
                _interval(figures.held_out.auc, ".2f"),
                f"{shuffled.mean:.2f}",
                f"{shuffled.low:.2f}–{shuffled.high:.2f}",
                f"{random.mean:.2f}",
                f"{random.low:.2f}–{random.high:.2f}",
                f"{figures.calibration.brier:.3f}",
                f"{figures.calibration.ece:.3f}",
                *(f"{figures.cosines[name]:.2f}" for name in others),
                note,
            )
        )
    return table((head, *rows), frozenset(range(len(head) - 1)))


def _beaten(directions: Directions, layer: int) -> bool:
    return bool(directions.doubt(layer)) and not directions.sets.leak


def _interval(estimate: Interval, form: str) -> str:
    return (
        ""
        if estimate.low is None or estimate.high is None
        else f"{estimate.low:{form}}–{estimate.high:{form}}"
    )


def _doses(dose: Dose) -> str:
    """Return a row for each dose, beside random directions, and what follows."""
    rows = [("dose", "change", "95 %", "random directions")]
    for at, strength in enumerate(dose.strengths):
        change, random = dose.change[at], dose.random[at]
        rows.append(
            (
                f"{strength:+g}" if strength else "0",
                f"{change.value:+.3f}",
                _interval(change, "+.2f").replace("–", " to "),
                f"{random.low:+.3f} to {random.high:+.3f}",
            )
        )
    return (
        f"added after layer {dose.layer} in {dose.prompts} held-out prompts; change of "
        f"{dose.measure}\n{table(rows, frozenset(range(4)))}"
        f"for a dose of 1: {dose.slope}, random directions "
        f"{min(dose.random_slopes):.3f} to {max(dose.random_slopes):.3f}: {dose}\n"
    )
