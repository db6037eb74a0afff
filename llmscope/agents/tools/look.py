"""The tool `look`: apply a lens to a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from llmscope.agents.answer import fit_answer, line
from llmscope.agents.establishes import establishes
from llmscope.agents.figure_table import PLACES, Order, figure_table
from llmscope.agents.parameters import Parameter, Tool
from llmscope.agents.tools.shared import (
    CHAT,
    LENS_PARAMETERS,
    PROMPT,
    VERSUS_PROMPT,
    lens_options,
    passes_prompt_b,
    state_lines,
    verdict_line,
)

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession
    from llmscope.figure import Focus

ORDERS = ("auto", "largest", "place")
ROWS_BY_MAGNITUDE = 20
"""Rows of an answer that is sorted by magnitude, if no number is given."""
REMARK = 220
"""Maximum characters of a remark below a figure."""


def look(session: AgentSession, arguments: Mapping[str, Any], call: AgentCall) -> str:
    """Return the table of a lens's figure, with its verdict and what it establishes."""
    from llmscope.lenses import lens

    chosen = lens(arguments["lens"])
    scope = session.scope(call)
    options = lens_options(arguments, chosen, allow_pickle=session.options.allow_pickle)
    text = session.text(arguments)
    if arguments.get("change"):
        options["change"] = True
    other = arguments.get("versus_prompt", session.versus_prompt if chosen.versus else None)
    recording = session.record(text, call, versus_prompt=arguments.get("versus_prompt"))
    if other is not None and passes_prompt_b(session, chosen, arguments):
        options["versus_prompt"] = session.rendered(other, call)
    focus = scope.focus_of(chosen, recording.prompt, options)
    figure = session.figure(chosen, recording, focus, call)
    focus = scope.resolve(chosen, recording, focus)
    session.keep(figure, recording, focus, session.rendered(text, call))
    mode = f" · mode {focus.mode}" if focus.mode else ""
    head = [
        line(f"{chosen.name}{mode} · {figure.title}", 200),
        *state_lines(recording),
        verdict_line(figure.verdict),
        f"establishes: {establishes(chosen)}",
    ]
    if figure.verdict.status == "refused":
        return fit_answer(head, file=_file(session) if arguments.get("file") else None)
    table = figure_table(
        figure,
        chosen,
        focus,
        _places(arguments, focus),
        cast("Order", arguments.get("order", "auto")),
    )
    if len(table.rows) < table.every:
        rest = f"{len(table.rows):,} of {table.every:,} rows, {table.order}"
    else:
        rest = f"{len(table.rows):,} rows, {table.order}"
    saved = f"file: {_file(session)()}" if arguments.get("file") else ""
    head += [table.same, saved, f"unit: {figure.unit} · {rest}", table.header]
    rows = table.rows[arguments.get("skip", 0) :]
    limit = arguments.get("rows", ROWS_BY_MAGNITUDE if table.sorted else len(rows))
    remarks = [line(str(remark), REMARK) for remark in figure.extra.get("caption", ())]
    return fit_answer(
        head, rows[:limit], remarks, file=_file(session), left=max(0, len(rows) - limit)
    )


def _places(arguments: Mapping[str, Any], focus: Focus) -> dict[str, int]:
    """Return the places that rows must have: those that the call names, counted from 0."""
    more = arguments.get("options", {})
    named = [name for name in PLACES if name in arguments or name in more]
    return {name: place for name in named if (place := getattr(focus, name, None)) is not None}


def _file(session: AgentSession) -> Any:
    """Return what writes the latest figure as a snapshot, once, and returns its path."""
    files: list[str] = []

    def write() -> str:
        if not files:
            from llmscope.agents.tools.export import content_of

            name = session.folder.free("look", ".json")
            path = session.folder.put(name, content_of(session, "json", provenance=False))
            files.append(session.folder.shown(path))
        return files[0]

    return write


LOOK = Tool(
    "look",
    "Apply a lens to a prompt, with the edits in force: a table with its unit, the verdict (how "
    "far the numbers are verified on this model) and what the lens establishes. Lenses: "
    "next-token, tokens, logit-lens, attention, attribution, ablation, patching, saliency, heads, "
    "neurons, residual, contrast and others; explain topic=lenses lists all. If layer, head or "
    "position is given, only rows of that place are shown.",
    (
        Parameter("lens", "text", "The name of the lens.", required=True),
        PROMPT,
        CHAT,
        *LENS_PARAMETERS,
        VERSUS_PROMPT,
        Parameter(
            "change",
            "switch",
            "Edited minus unedited; without edits, this prompt minus versus_prompt.",
        ),
        Parameter(
            "order", "text", "largest: by magnitude; place: as in the figure.", choices=ORDERS
        ),
        Parameter("rows", "integer", "Maximum number of rows.", least=1, most=1000),
        Parameter("skip", "integer", "Leave out this many first rows.", least=0),
        Parameter("file", "switch", "Write the whole figure to a JSON file as well."),
    ),
    look,
)
