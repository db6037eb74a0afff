"""Show a report on the screen: a page a lens, without a model."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.figure import Figure, Focus
from llmscope.models.info import ModelInfo
from llmscope.report.figures import lens_figures, level_text, strongest
from llmscope.report.summary import Report, ReportRequest, report
from llmscope.support.text import display_text, one_line
from llmscope.tui.actions.user_keymap import Keymap, read_keymap
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.modes.read_only import Replay
from llmscope.tui.modes.replay.engine import ReplayEngine
from llmscope.tui.modes.replay.pane_map import PaneFigure, split_into_pages
from llmscope.tui.modes.replay.reader import Recorded
from llmscope.tui.run import stay
from llmscope.tui.state.workspaces import Workspace
from llmscope.tui.terminal.bandwidth import HIGH, Bandwidth
from llmscope.tui.user_state import UserState

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.tui.host import Host

PER_PAGE, PAGES = 4, 9
"""Figures of a page at most, and pages, which have a key each."""
REFUSED = "this is a report of a batch: there is no model for"
REPORT_HELP = """\
This is a report of a batch: a page holds the means of one lens over all prompts, with intervals \
from whole prompts drawn with replacement, since rows of one prompt are not independent. In a map \
of effects, * marks cells that differ from 0 after the correction for all cells. The cursor walks \
over layers and heads. {provenance} tells about the batch. `llmscope report FOLDER` makes the same \
and more: other columns to group by, comparisons, and pictures for print."""


@dataclass(frozen=True, kw_only=True)
class ReportMode(Replay):
    """A report shown on the screen."""

    subject: str = "A report"
    help: str = REPORT_HELP
    refused: str = REFUSED
    hints: str = "report"

    def clauses(self, host: Host) -> list[str]:
        """Return the mean under the cursor."""
        described = getattr(host.grid.pane, "described", None)
        text = described() if callable(described) else ""
        return [text] if text else []


def run(
    place: str,
    *,
    look: RenderOptions,
    bandwidth: Bandwidth,
    debug: bool = False,
    typed: str = "",
) -> int:
    """Run the app on the report of a folder until the user quits.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that ended the program.

    Raises:
        ScopeError: the folder cannot be read, or the app failed.
    """
    result = report(place, ReportRequest())
    gc.enable()
    app = report_app(result, look=look, bandwidth=bandwidth, keymap=read_keymap())
    return stay(app, lambda: None, debug=debug, typed=typed)


def report_app(
    result: Report,
    *,
    look: RenderOptions | None = None,
    bandwidth: Bandwidth = HIGH,
    keymap: Keymap | None = None,
) -> LlmscopeApp:
    """Return the app, ready to run."""
    panes, pages = _pages(result)
    recorded = _engine_source(result, [pane.figure for pane in panes])

    def make(look: RenderOptions) -> Any:
        from llmscope.tui.modes.report.panes import panes_of

        return panes_of(panes, look)

    mode = ReportMode(
        about={},
        command=None,
        banner=_banner(result),
        facts=_facts(result),
        workspaces=pages,
        panes=make,
    )
    return LlmscopeApp(
        partial(ReplayEngine, recorded, panes),
        spec=recorded.info.spec,
        prompt=recorded.text,
        look=look,
        focus=recorded.focus,
        bandwidth=bandwidth,
        user=UserState(
            keymap=keymap or Keymap(), source=ModelSource(recorded.info.spec), mode=mode
        ),
    )


def _pages(result: Report) -> tuple[list[PaneFigure], tuple[Workspace, ...]]:
    """Return the panes, and the pages that show them: one or more for each lens."""
    panes: list[PaneFigure] = []
    pages: list[Workspace] = []
    for lens in result.lenses:
        figures = [_drawable(figure) for figure in lens_figures(lens, result.how)]
        if not figures:  # it was refused for all prompts
            continue
        first = len(panes)
        panes += [
            PaneFigure(f"report-{first + at}", "", pane_figure, Focus())
            for at, pane_figure in enumerate(figures)
        ]
        for part, page_panes in enumerate(split_into_pages(panes[first:], PER_PAGE), 1):
            again = f" ({part})" if part > 1 else ""
            spine = next(
                (pane_figure for pane_figure in page_panes if pane_figure.figure.kind == "heatmap"),
                page_panes[0],
            )
            keys = [pane_figure.key for pane_figure in page_panes if pane_figure is not spine]
            pages.append(
                Workspace(
                    name=f"report-{len(pages) + 1}",
                    title=f"{one_line(lens.lens, 40)}{again}",
                    spine=spine.key,
                    details=tuple(keys),
                    least=spine.key,
                )
            )
    pages = pages[:PAGES]
    listed = {key for page in pages for key in page.panes}
    return [pane for pane in panes if pane.key in listed], tuple(pages)


def _drawable(figure: Figure) -> Figure:
    """Return a figure whose position axis is no prompt's, so that the cursor does not move it."""
    axes = tuple(
        replace(axis, name="position of the token") if axis.name == "position" else axis
        for axis in figure.axes
    )
    return replace(figure, axes=axes)


def _engine_source(result: Report, figures: list[Figure]) -> Recorded:
    """Return what the engine of a replay answers from: a report has no prompt of its own."""
    layers, heads = (_most(figures, name) + 1 for name in ("layer", "head"))
    name = result.model or "a batch"
    info = ModelInfo(
        name,
        name,
        "",
        layers=max(layers, 1),
        heads=max(heads, 1),
        width=0,
        neurons=0,
        vocabulary=1,
        context=None,
        parameters=0,
        dtype="",
        device="",
    )
    return Recorded(
        path=Path(result.folder),
        about={},
        info=info,
        text=_summary(result),
        tokens=(),
        focus=strongest(figures).resolve(layers=info.layers, heads=info.heads, positions=1),
        figures=tuple(figures),
    )


def _most(figures: list[Figure], name: str) -> int:
    """Return the largest layer or head of all axes; −1 without any."""
    labels = [
        label
        for figure in figures
        for axis in figure.axes
        if axis.name == name
        for label in axis.labels
    ]
    return max((int(label) for label in labels if label.isdecimal()), default=-1)


def _summary(result: Report) -> str:
    """Return what stands in place of a prompt."""
    words = [f"{result.prompts:,} prompts"]
    if result.failed:
        words.append(f"{result.failed:,} failed")
    if not result.complete:
        words.append("not finished")
    words.append(level_text(result.how))
    return f"Report of {result.folder}: {', '.join(words)}."


def _banner(result: Report) -> tuple[tuple[str, int], ...]:
    name = result.folder.rstrip("/").rpartition("/")[2]
    return (
        (f"{result.prompts:,} prompts", 7),
        ("report", 0),
        (name if len(name) <= 40 else f"{name[:39]}…", 2),
    )


def _facts(result: Report) -> tuple[tuple[str, str], ...]:
    """Return what is known of the batch, as (name, value) rows."""
    how = result.how
    rows = [
        ("folder", result.folder),
        ("model", result.model),
        ("prompts", f"{result.prompts:,}"),
        ("failed", f"{result.failed:,}"),
        ("most frequent error", result.error),
        ("intervals", f"{level_text(how)}, {how.resamples:,} resamples, seed {how.seed}"),
    ]
    for lens in result.lenses:
        counts = ", ".join(f"{count:,} {status}" for status, count in lens.statuses.items())
        rows.append((f"lens {lens.lens}", counts or f"{lens.prompts:,} prompts"))
        rows.append((f"refused by {lens.lens}", lens.reason))
    return tuple((display_text(name), one_line(value)) for name, value in rows if value)
