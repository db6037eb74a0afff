"""`llmscope serve [MODEL]`: show the screen in a browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli.commands.open import asked, open_model
from llmscope.cli.options import shared
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put
from llmscope.distributions import need_torch
from llmscope.errors import ScopeError
from llmscope.text import display_text

if TYPE_CHECKING:
    from llmscope.web.bind import Listening

_OWN = ("host", "port", "max_pages")
_LOOK = ("theme", "color", "ascii", "bandwidth", "debug")
"""Options of the screen that shows what was recorded, too."""
_SNAPSHOTS = (".json", ".npz", ".safetensors")


@shared.and_those_of(open_model)
def serve(
    ctx: typer.Context,
    host: Annotated[
        str,
        typer.Option(help="Where to listen. Anything but this machine alone is told in a warning."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")
    ] = 8000,
    max_pages: Annotated[
        int,
        typer.Option(
            min=1,
            max=1000,
            help="Pages that may be open at the same time; each takes some 300 MB and the model.",
        ),
    ] = 4,
    **opening: Any,
) -> None:
    """Show the screen on a web page, on this machine alone; the link that it prints opens once.

    In place of MODEL it takes the file of a snapshot or the folder of a run, and shows what
    `llmscope replay` and `llmscope watch` show of it, without the model and torch.

    Each page that is open has a program of its own, which ends when the page is closed. From
    another machine: ssh -L 8000:127.0.0.1:8000 HOST, and the same link there.
    """
    with reported(opening["debug"]):
        shared.usage(
            opening["context_file"] != "-", "a page has no stdin: name a file", "--context-file"
        )
        first = asked(ctx)  # report errors here, not on each page
        command = shows(first.load.model)
        if first.theme not in (None, "auto"):
            from llmscope.draw import load_theme

            load_theme(first.theme)
        if command == "open":
            need_torch("the screen of a model")
        else:
            _check_recorded(ctx, command, str(first.load.model))
        raise typer.Exit(_serve(host, port, words(ctx, command), first.load.model, max_pages))


def shows(named: str | None) -> str:
    """Return the command that shows what was named: `open` for a model, `replay` or `watch`."""
    if named is None:
        return "open"
    from llmscope.runs.format import INFO
    from llmscope.runs.shipped import PREFIX, shipped_runs

    if os.path.isfile(os.path.join(named, INFO)):
        return "watch"
    if named.startswith(PREFIX) and named.removeprefix(PREFIX) in shipped_runs():
        return "watch"
    if named.lower().endswith(_SNAPSHOTS) and os.path.isfile(named):
        return "replay"
    return "open"


def _check_recorded(ctx: typer.Context, command: str, named: str) -> None:
    """Read what was recorded once, so that errors are reported here and not on each page.

    Raises:
        BadParameter: an option is of a model.
        ScopeError: it cannot be read.
    """
    others = sorted(shared.said(ctx) - {*_OWN, *_LOOK, "model"})
    first = f"--{(others or [''])[0].replace('_', '-')}"
    shared.usage(not others, "only for a model, and this was recorded", first)
    if command == "replay":
        from llmscope.replay.reader import recorded

        recorded(Path(named))
    else:
        from llmscope.runs.reader import RunReader
        from llmscope.runs.shipped import run_folder

        RunReader(run_folder(named))


def words(ctx: typer.Context, command: str = "open") -> list[str]:
    """Return the command that opens the same screen, with the options given to `serve`."""
    said, model = [], []
    for parameter in ctx.command.params:
        name, value = str(parameter.name), ctx.params.get(str(parameter.name))
        if name in _OWN or name not in shared.said(ctx):
            continue
        if parameter.param_type_name == "argument":
            model = ["--", str(value)]
        elif isinstance(value, bool):
            said.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            each = value if isinstance(value, list | tuple) else [value]
            said += [f"{parameter.opts[0]}={one}" for one in each]
    # -P: do not import modules from the working folder.
    return [sys.executable, "-P", "-m", "llmscope", command, *said, *model]


def _serve(host: str, port: int, command: list[str], model: str | None, max_pages: int) -> int:
    """Serve until a signal arrives, and return the exit code.

    Raises:
        ScopeError: a package is missing, or the host and port cannot be listened on.
    """
    import asyncio

    from llmscope.cli.launch import PAGE_DRIVER
    from llmscope.models.spec import DEFAULT
    from llmscope.tui.terminal.output_guard import leaving_on_signals
    from llmscope.web.bind import listen

    try:
        from llmscope.web.server import PageServer
    except ModuleNotFoundError as error:
        raise ScopeError(
            f"serve needs the package textual-serve ({display_text(str(error))})",
            "pip install '.[serve]' in the checkout",
        ) from error
    listening = listen(host, port)
    title = f"llmscope {display_text(model or DEFAULT, whitespace=True)}"
    server = PageServer(command, PAGE_DRIVER, listening, title=title, pages=max_pages)

    async def until_left() -> int:
        with leaving_on_signals(server.leave):
            return await server.until_left(lambda: _tell(server.link, listening))

    return asyncio.run(until_left())


def _tell(link: str, listening: Listening) -> None:
    """Print the link to stdout, and notes about it to stderr."""
    at = listening.port
    if not listening.private:
        typer.echo(
            "warning: other machines can reach this: what is sent is not encrypted, and whoever "
            "has the link runs a program here as you",
            err=True,
        )
    put(f"{link}\n")
    sys.stdout.flush()
    typer.echo("the link opens one browser, once; ctrl+c ends it", err=True)
    if os.environ.get("SSH_CONNECTION") and listening.private:
        typer.echo(
            f"where you sit: ssh -L {at}:127.0.0.1:{at} to this host, then the link", err=True
        )
