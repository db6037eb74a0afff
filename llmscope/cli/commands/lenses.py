"""`llmscope lenses`: list the lenses, or describe one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli import completion
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.lenses import Lens

WIDTH = 79
"""Columns of the text."""
STATUS = "status"
"""The role of the column that comes last."""


def lenses(
    lens: Annotated[
        str | None,
        typer.Argument(
            metavar="LENS",
            help="Describe this one: how to read it, its modes and options.",
            autocompletion=completion.lenses,
        ),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema of a JSON snapshot instead."),
    ] = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    debug: shared.Debug = False,
) -> None:
    """List the lenses: the question each answers, and its modes. Of one, also its table.

    A lens of another package is followed by its name and version, and a list at the end tells what
    else such packages add.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        from llmscope.lenses import lens as find
        from llmscope.lenses import names
        from llmscope.lenses.base import suggested

        if schema:
            from llmscope.export import json_text, snapshot_schema

            usage(lens is None, "leave LENS out: the schema covers all lenses", "--schema")
            put(json_text(snapshot_schema()))
            return
        if lens is not None:
            like = suggested(lens, names())
            wrong = f"no lens {display_text(lens)!r}{like}; there are {', '.join(names())}"
            usage(lens in names(), wrong, "LENS")
        chosen = [find(name) for name in (names() if lens is None else (lens,))]
        if as_json:
            from llmscope.export import json_text
            from llmscope.figure import plain

            put(json_text(plain(_record(chosen))))
        elif lens is not None:
            put(_describe_lens(chosen[0]))
        else:
            put(_lens_table(chosen))


def _lens_table(lenses: list[Lens]) -> str:
    """Return a line for each lens, and what other packages add besides lenses."""
    from llmscope.cli.output.table import table
    from llmscope.plugins import registered

    width = max(len(lens.name) for lens in lenses)
    text = ""
    for lens in lenses:
        modes = f"  (--mode {' | '.join(lens.modes)})" if lens.modes else ""
        package = "" if lens.package is None else f"  [{lens.package}]"
        text += f"{lens.name:{width}}  {display_text(lens.question)}{modes}{package}\n"
    rows = [
        (plugin.kind, plugin.name, str(plugin.package))
        for plugin in registered()
        if plugin.kind != "lens"
    ]
    return text + (f"\nother packages also add\n{table(rows)}" if rows else "")


def _record(lenses: list[Lens]) -> dict[str, Any]:
    """Return what is known of lenses, and what other packages register, for JSON."""
    from llmscope.plugins import INTERFACE, registered
    from llmscope.version import __version__

    return {
        "schema": 1,
        "llmscope": __version__,
        "interface": INTERFACE,
        "lenses": [
            {
                "name": lens.name,
                "question": lens.question,
                "help": lens.help,
                "modes": lens.modes,
                "options": [
                    {
                        "name": option.name,
                        "flag": option.flag,
                        "kind": option.kind,
                        "default": option.default,
                        "help": option.help,
                    }
                    for option in lens.options
                ],
                "tables": [
                    {
                        "modes": [mode for mode in modes if mode],
                        "columns": [
                            {
                                key: getattr(column, key)
                                for key in ("name", "role", "type", "unit", "help")
                            }
                            for column in columns
                        ],
                    }
                    for columns, modes in lens.table_groups().items()
                ],
                "package": None if lens.package is None else lens.package.to_dict(),
            }
            for lens in lenses
        ],
        "plugins": [
            {"kind": plugin.kind, "name": plugin.name, "package": plugin.package.to_dict()}
            for plugin in registered()
        ],
    }


def _describe_lens(lens: Lens) -> str:
    """Return what a lens says of itself, its modes and options, and the columns of its table."""
    import textwrap

    from llmscope.lenses import command_options

    parts = [f"{lens.name}: {lens.question}"]
    if lens.package is not None:
        parts.append(f"from {lens.package}")
    for paragraph in lens.explanation.split("\n\n"):
        lines = paragraph.splitlines()
        parts.append("\n".join(textwrap.fill(line, WIDTH) for line in lines))
    if lens.modes:
        listed = f"--mode {' | '.join(lens.modes)}"
        shown = [textwrap.fill(listed, WIDTH, subsequent_indent=" " * len("--mode "))]
        width = max(map(len, lens.modes)) + 2
        for mode in lens.modes:
            if mode in lens.shows:
                head = f"  {mode:{width}}"
                row = head + lens.shows[mode]
                shown.append(textwrap.fill(row, WIDTH, subsequent_indent=" " * len(head)))
        parts.append("\n".join(shown))
    having = [option for option in command_options() if option in lens.options]
    heads = [f"{option.flag} {option.metavar or option.kind.upper()}" for option in having]
    room = max(map(len, heads), default=0) + 2
    rows = [
        textwrap.fill(f"{head:{room}}{option.help}", WIDTH, subsequent_indent=" " * room)
        for head, option in zip(heads, having, strict=True)
    ]
    parts += ["\n".join(rows)] if rows else []
    return "\n\n".join([*parts, _columns(lens)]) + "\n"


def _columns(lens: Lens) -> str:
    """Return the columns of its table in a batch, with their modes where not all have them."""
    import textwrap

    modes_of_row: dict[tuple[str, str, str, str], list[str]] = {}
    for columns, group_modes in lens.table_groups().items():
        for column in columns:
            about_text = (
                f"{column.help}, {column.unit}"
                if column.unit and column.unit != column.name
                else column.help
            )
            row = (column.name, column.role, column.type, about_text)
            modes_of_row.setdefault(row, []).extend(group_modes)
    room = max(len(name) for name, *_ in modes_of_row) + 2
    rows = []
    ordered = sorted(modes_of_row.items(), key=lambda item: item[0][1] == STATUS)
    for (name, role, kind, about), in_modes in ordered:
        missing = [mode for mode in lens.modes if mode not in in_modes]
        line = about
        if missing:
            names_missing = len(missing) < len(in_modes)
            listed = ", ".join(missing if names_missing else in_modes)
            line += f" ({'not ' if names_missing else ''}{listed})"
        head = f"{name:{room}}{role:8}{kind:9}"
        rows.append(textwrap.fill(head + line, WIDTH, subsequent_indent=" " * len(head)))
    title = "Its table in a batch (snapshot --prompts FILE --out FOLDER), a row a cell:"
    return "\n".join([title, *rows])
