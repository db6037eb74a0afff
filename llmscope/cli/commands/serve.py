"""`llmscope serve [MODEL]`: show the screen in a browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli.commands.open import launch_options, open_model
from llmscope.cli.options import shared
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put
from llmscope.errors import ScopeError
from llmscope.support.distributions import need_torch
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.cli.launch import LaunchOptions
    from llmscope.web.bind import Listening

_OWN = ("host", "port", "max_pages")
_LOOK = ("theme", "color", "ascii", "bandwidth", "debug")
"""Options of the screen that shows a run, too."""
_PAGE = ("model", "host", "port", "theme", "color", "ascii", "debug")
"""Options of the page that shows a file."""
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

    In place of MODEL it takes the folder of a run, and shows what `llmscope watch` shows of it; or
    the file of a snapshot, and shows its figures on the page that `llmscope snapshot --format html`
    writes: read only, to as many viewers as have the link. Both need neither the model nor torch.

    Each page of the screen has a program of its own, which ends when the page is closed; that of a
    file has none. From another machine: ssh -L 8000:127.0.0.1:8000 HOST, and the same link there.
    """
    with reported(opening["debug"]):
        shared.usage(
            opening["context_file"] != "-", "a page has no stdin: name a file", "--context-file"
        )
        command = shows(opening["model"])
        if command != "open":
            shared.allow_only(
                ctx, ("model", *_OWN, *_LOOK), "only for a model, and this was recorded"
            )
        if command == "page":
            shared.allow_only(
                ctx, _PAGE, "only for a screen, and a file is shown on a page without one"
            )
        first = launch_options(ctx)  # report errors here, not on each page
        if first.theme not in (None, "auto"):
            from llmscope.draw import load_theme

            load_theme(first.theme)
        if command == "page":
            raise typer.Exit(_serve_file(host, port, Path(str(first.load.model)), first))
        if command == "open":
            need_torch("the screen of a model")
        else:
            from llmscope.runs.reader import RunReader
            from llmscope.runs.shipped import run_folder

            RunReader(run_folder(str(first.load.model)))  # report errors here, too
        raise typer.Exit(_serve(host, port, words(ctx, command), first.load.model, max_pages))


def shows(named: str | None) -> str:
    """Return what shows what was named: the command `open` or `watch`, or `page` for a file."""
    if named is None:
        return "open"
    from llmscope.runs.format import INFO
    from llmscope.runs.shipped import PREFIX, shipped_runs

    if os.path.isfile(os.path.join(named, INFO)):
        return "watch"
    if named.startswith(PREFIX) and named.removeprefix(PREFIX) in shipped_runs():
        return "watch"
    if named.lower().endswith(_SNAPSHOTS) and os.path.isfile(named):
        return "page"
    return "open"


def words(ctx: typer.Context, command: str = "open") -> list[str]:
    """Return the command that opens the same screen, with the options given to `serve`."""
    options_said, model = [], []
    for parameter in ctx.command.params:
        name, value = str(parameter.name), ctx.params.get(str(parameter.name))
        if name in _OWN or name not in shared.options_said(ctx):
            continue
        if parameter.param_type_name == "argument":
            model = ["--", str(value)]
        elif isinstance(value, bool):
            options_said.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            each = value if isinstance(value, list | tuple) else [value]
            options_said += [f"{parameter.opts[0]}={value}" for value in each]
    # -P: do not import modules from the working folder.
    return [sys.executable, "-P", "-m", "llmscope", command, *options_said, *model]


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


def _serve_file(host: str, port: int, path: Path, opening: LaunchOptions) -> int:
    """Serve the page of a file until a signal arrives, and return the exit code.

    Raises:
        ScopeError: the file cannot be shown, or the host and port cannot be listened on.
    """
    import asyncio

    from llmscope.cli.output.file_page import file_page
    from llmscope.export.page.document import policy_of
    from llmscope.tui.terminal.output_guard import leaving_on_signals
    from llmscope.web.bind import listen
    from llmscope.web.file_server import FileServer

    page = file_page(path, opening.theme, opening.tier, opening.ascii)
    listening = listen(host, port)
    server = FileServer(page, policy_of(page), listening)
    file_name = display_text(path.name, whitespace=True)

    async def until_left() -> int:
        with leaving_on_signals(server.leave):
            return await server.until_left(lambda: _tell(server.link, listening, file_name))

    return asyncio.run(until_left())


def _tell(link: str, listening: Listening, file: str | None = None) -> None:
    """Print the link to stdout, and notes about it to stderr.

    Args:
        link: the link.
        listening: what is listened on.
        file: the name of the file that is shown; None for a screen.
    """
    at = listening.port
    if not listening.private:
        does = "runs a program here as you" if file is None else f"sees {file}"
        typer.echo(
            "warning: other machines can reach this: what is sent is not encrypted, and whoever "
            f"has the link {does}",
            err=True,
        )
    put(f"{link}\n")
    sys.stdout.flush()
    if file is None:
        typer.echo("the link opens one browser, once; ctrl+c ends it", err=True)
    else:
        typer.echo(
            f"the link can be opened by anyone who has it; it only shows {file}; ctrl+c ends it",
            err=True,
        )
    if os.environ.get("SSH_CONNECTION") and listening.private:
        typer.echo(
            f"where you sit: ssh -L {at}:127.0.0.1:{at} to this host, then the link", err=True
        )
