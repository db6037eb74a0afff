"""`llmscope lenses`: list the lenses, or describe one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmscope.cli import completion
from llmscope.cli.options import shared
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put
from llmscope.text import display_text

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
    debug: shared.Debug = False,
) -> None:
    """List the lenses: the question each answers, and its modes. Of one, also its table."""
    with reported(debug):
        from llmscope.lenses import lens as find
        from llmscope.lenses import names

        if schema:
            from llmscope.export import json_text, snapshot_schema

            usage(lens is None, "leave LENS out: the schema covers all lenses", "--schema")
            put(json_text(snapshot_schema()))
            return
        if lens is not None:
            wrong = f"no lens {display_text(lens)!r}; there are {', '.join(names())}"
            usage(lens in names(), wrong, "LENS")
            put(_described(find(lens)))
            return
        width = max(map(len, names()))
        for name in names():
            found = find(name)
            modes = f"  (--mode {' | '.join(found.modes)})" if found.modes else ""
            put(f"{name:{width}}  {found.question}{modes}\n")


def _described(lens: Lens) -> str:
    """Return what a lens says of itself, its modes and options, and the columns of its table."""
    import textwrap

    from llmscope.lenses import command_options

    parts = [f"{lens.name}: {lens.question}"]
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

    modes: dict[tuple[str, str, str, str], list[str]] = {}
    for columns, of in lens.table_groups().items():
        for one in columns:
            told = f"{one.help}, {one.unit}" if one.unit and one.unit != one.name else one.help
            modes.setdefault((one.name, one.role, one.type, told), []).extend(of)
    room = max(len(name) for name, *_ in modes) + 2
    rows = []
    ordered = sorted(modes.items(), key=lambda one: one[0][1] == STATUS)
    for (name, role, kind, about), having in ordered:
        without = [one for one in lens.modes if one not in having]
        told = about
        if without:
            fewer = len(without) < len(having)
            told += f" ({'not ' if fewer else ''}{', '.join(without if fewer else having)})"
        head = f"{name:{room}}{role:8}{kind:9}"
        rows.append(textwrap.fill(head + told, WIDTH, subsequent_indent=" " * len(head)))
    title = "Its table in a batch (snapshot --prompts FILE --out FOLDER), a row a cell:"
    return "\n".join([title, *rows])
