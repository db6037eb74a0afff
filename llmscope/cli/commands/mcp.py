"""`llmscope mcp [MODEL]`: offer the tools to an agent, over the Model Context Protocol."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmscope.cli.options import shared
from llmscope.cli.options.groups import ModelOptions, VolumeOptions, group_options
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put
from llmscope.errors import ScopeError
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.agents.session import LoadOptions


@group_options
def mcp(
    ctx: typer.Context,
    *,
    model: shared.Model = None,
    out: Annotated[
        str | None,
        typer.Option(
            *("--out", "-o"),
            metavar="FOLDER",
            help="Where tools write files, and nowhere else.",
            show_default="a new temporary folder",
        ),
    ] = None,
    skill: Annotated[
        bool,
        typer.Option("--skill", help="Print a skill file for agents (Markdown) and end."),
    ] = False,
    loading: ModelOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Offer llmscope to an agent: eight tools over MCP, on stdin and stdout.

    An MCP client starts this command; it ends when the client closes stdin. MODEL is loaded by the
    first call that needs it, and stays loaded; the tool `open` loads another one. Remote code and
    pickled weights are refused unless the options allow them here: no tool can.
    """
    with reported(debug):
        if skill:
            alone = "--skill prints a file and ends: nothing is loaded or written"
            shared.allow_only(ctx, ("skill", "debug"), alone)
            from importlib.resources import files

            put((files("llmscope.agents") / "skill.md").read_text("utf-8"))
            return
        from llmscope.cli.options.validate import check_models

        check_models(model, loading.reward)
        _serve(_options(model, loading), out)


def _options(model: str | None, loading: ModelOptions) -> LoadOptions:
    from llmscope.agents.session import LoadOptions

    return LoadOptions(
        loading.spec(model),
        device=loading.device,
        dtype=loading.dtype,
        backend=loading.backend,
        cache_type=loading.cache_type,
        threads=loading.threads,
        memory=loading.memory,
        spill=loading.spill,
        adapters=tuple(loading.adapter or ()),
        reward=loading.reward,
        unverified=loading.unverified,
        trust_remote_code=loading.trust_remote_code,
        allow_pickle=loading.allow_pickle,
    )


def _serve(options: LoadOptions, out: str | None) -> None:
    """Serve until the client leaves.

    Raises:
        ScopeError: the SDK is missing, or the folder cannot be made.
    """
    try:
        from llmscope.agents.server import serve
    except ImportError as error:  # also an SDK of another major version
        raise ScopeError(
            f"mcp needs the package mcp ({display_text(str(error))})",
            "pip install '.[mcp]' in the checkout",
        ) from error
    from llmscope.agents.files import OutputFolder
    from llmscope.agents.session import AgentSession

    folder = OutputFolder(_folder(out))
    typer.echo(f"llmscope mcp: files go to {folder.shown(folder.path)}", err=True)
    ended = _end_quickly()
    try:
        serve(AgentSession(options, folder))
    finally:
        if out is None:
            with suppress(OSError):  # files were written
                folder.path.rmdir()
    ended.append(True)


def _end_quickly() -> list[bool]:
    """Let the process end without taking down torch, which takes seconds; clients kill after two.

    Returns:
        A list; once it holds something, the process ends after all other functions of `atexit`,
        since those registered later are called first.
    """
    ended: list[bool] = []

    def end() -> None:
        if ended:
            sys.stderr.flush()
            os._exit(0)

    atexit.register(end)
    return ended


def _folder(out: str | None) -> Path:
    """Return the folder for files: the one given, made if missing, or a new temporary one."""
    try:
        if out is None:
            return Path(tempfile.mkdtemp(prefix="llmscope-mcp-"))
        path = Path(os.path.expanduser(out))
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = display_text(getattr(error, "strerror", None) or str(error))
        raise ScopeError(f"cannot make the folder for files: {reason}", "another --out") from error
    return path
