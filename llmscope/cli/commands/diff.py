"""`llmscope diff`: report where two snapshots differ, for users and for CI."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli import completion
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.layer_ids import LayerIds, read_layer_ids
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import FAILED, reported
from llmscope.cli.output.streams import put

if TYPE_CHECKING:
    from llmscope.cli.output.destination import Output
    from llmscope.export.diff import Diff, FigureDiff
    from llmscope.figure import Figure

_TROUBLE = 2
"""Exit code if no comparison was possible, as in Unix `diff`; 1 means that the two differ."""
_LONGEST = 60
"""Maximum characters of a label in the table."""


def diff(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A snapshot (json, npz or safetensors), or a file of vLLM's hidden states.",
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, of any of these.")],
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far two numbers may be apart and still agree.")
    ] = 1e-5,
    layers: LayerIds = None,
    json: report_format.Json = False,
    format: Annotated[  # noqa: A002
        str | None,
        typer.Option(metavar="table|json", help="What to print on stdout.", show_default="table"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Draw B less A there: a picture, in the format of its suffix.",
        ),
    ] = None,
    theme: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.themes,
            help="Colours of the picture; see `llmscope themes`.",
            show_default="dark",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    debug: shared.Debug = False,
) -> None:
    """Say where two snapshots differ, or two files of hidden states of one text.

    Exit code 0: nowhere beyond the tolerance; 1: somewhere; 2: they cannot be compared. Needs
    neither the model nor torch. What stands beside the numbers, such as versions, is told where
    it differs, and is no difference by itself.
    """
    with reported(debug, _TROUBLE):
        as_json = wants_json(json, format, "table")
        usage(math.isfinite(tolerance), "a number", "--tolerance")
        ids = read_layer_ids(layers)
        picture = None if out is None else _picture(out, force)
        usage(theme is None or picture is not None, "it is of the picture: --out", "--theme")
        difference, figures, tokens = _compare_files(Path(a), Path(b), ids, tolerance)
        if picture is not None:
            picture.put(_render_differences(figures, tokens, picture, theme))
        put(
            _json(difference, a, b, tolerance)
            if as_json
            else _difference_report(difference, tolerance)
        )
        if not difference.same:
            raise typer.Exit(FAILED)


def _picture(out: str, force: bool) -> Output:
    from llmscope.cli.output.destination import choose_output
    from llmscope.export import format_of, pictures

    usage(out != "-", "a file: stdout has the table", "--out")
    drawn = pictures()
    usage(format_of(Path(out)) in drawn, f"a picture's suffix: one of {', '.join(drawn)}", "--out")
    return choose_output(out, None, "svg", force)


def _compare_files(
    a: Path, b: Path, layers: Sequence[int] | None, tolerance: float
) -> tuple[Diff, Callable[[], list[Figure]], Figure | None]:
    """Return the comparison of two files, what makes the figures to draw, and that of the tokens.

    Raises:
        ScopeError: a file cannot be read, or the two cannot be compared.
    """
    from llmscope.export.diff import diff as compare
    from llmscope.export.diff import match_figures
    from llmscope.export.diff_figures import differences, drawable
    from llmscope.export.read import read
    from llmscope.models.hidden_states import is_hidden_states, read_hidden_states

    hidden = [is_hidden_states(path) for path in (a, b)]
    if not any(hidden):
        usage(layers is None, "a file of vLLM's hidden states, A or B", "--layer-ids")
        ours, theirs = read(a), read(b)
        return (
            compare(ours, theirs, tolerance),
            lambda: differences(match_figures(ours, theirs)),
            drawable(theirs),
        )
    from llmscope.export.hidden_states_diff import diff_states, diff_with_snapshot

    if all(hidden):
        difference, figure = diff_states(
            read_hidden_states(a, layers), read_hidden_states(b, layers), tolerance
        )
        return difference, lambda: [figure], None
    states, snapshot = (b, a) if hidden[1] else (a, b)
    difference, pair = diff_with_snapshot(
        read_hidden_states(states, layers), read(snapshot), tolerance, swapped=hidden[1]
    )
    return difference, lambda: differences([pair]), None


def _render_differences(
    figures: Callable[[], list[Figure]],
    tokens: Figure | None,
    output: Output,
    theme: str | None,
) -> str | bytes:
    """Render the difference figures below each other."""
    from llmscope.cli.options.appearance import picture_look
    from llmscope.errors import ScopeError
    from llmscope.export import AUTO, render

    look = picture_look(theme, None, None, output)
    try:
        return render(figures(), output.format, size=AUTO, look=look, tokens=tokens)
    except ScopeError:
        raise
    except Exception as error:  # a figure read from a file may lack anything that drawing needs
        raise ScopeError(
            "the difference cannot be drawn: a figure is incomplete",
            "the same without --out",
        ) from error


def _json(difference: Diff, a: str, b: str, tolerance: float) -> str:
    from llmscope.export import json_text

    record: dict[str, Any] = {
        "schema": 1,
        "a": a,
        "b": b,
        "tolerance": tolerance,
        "same": difference.same,
        "faults": list(difference.faults),
        "figures": [
            {
                "lens": figure.lens,
                "title": figure.title,
                "same": not figure.faults,
                "largest": figure.largest,
                "where": [
                    dict(zip(("axis", "place", "label"), at, strict=True)) for at in figure.where
                ],
                "faults": list(figure.faults),
            }
            for figure in difference.figures
        ],
        "notes": list(difference.notes),
    }
    return json_text(record)


def _difference_report(difference: Diff, tolerance: float) -> str:
    from llmscope.cli.output.table import table
    from llmscope.support.text import display_text

    def inset(lines: Iterable[str]) -> str:
        return "".join(f"  {display_text(line)}\n" for line in lines)

    rows = [("lens", "largest", "where", "")]
    for figure_diff in difference.figures:
        largest = "" if figure_diff.largest is None else f"{figure_diff.largest:.3g}"
        where = _where(figure_diff) if figure_diff.largest else ""
        rows.append((figure_diff.lens, largest, where, "differs" if figure_diff.faults else "same"))
    first, *lines = table(rows, right=frozenset({1})).splitlines()
    text = f"{first}\n"
    for line, figure_diff in zip(lines, difference.figures, strict=True):
        text += f"{line}\n{inset(figure_diff.faults)}"
    if difference.faults:
        text += f"the prompt\n{inset(difference.faults)}"
    if difference.notes:
        text += f"\ntold differently, which is no difference by itself\n{inset(difference.notes)}"
    if difference.same:
        return f"{text}\nthe same within {tolerance:g}\n"
    differ = sum(bool(figure.faults) for figure in difference.figures)
    return f"{text}\n{differ} of {len(difference.figures)} figures differ\n"


def _where(figure: FigureDiff) -> str:
    """Return the place of the largest difference by axis, as in `layer 2, position 4 " cat"`."""
    return ", ".join(
        f"{_cut(axis)} {place}" if label == str(place) else f'{_cut(axis)} {place} "{_cut(label)}"'
        for axis, place, label in figure.where
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
