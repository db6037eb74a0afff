"""The Typer app with all commands, which opens the screen if no command is named."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llmscope.cli.commands.bake import bake
from llmscope.cli.commands.cache import cache
from llmscope.cli.commands.compare import compare
from llmscope.cli.commands.config import config
from llmscope.cli.commands.diff import diff
from llmscope.cli.commands.doctor import doctor
from llmscope.cli.commands.edits import edits
from llmscope.cli.commands.examples import examples
from llmscope.cli.commands.fit import fit
from llmscope.cli.commands.lenses import lenses
from llmscope.cli.commands.mcp import mcp
from llmscope.cli.commands.models import models
from llmscope.cli.commands.open import open_model
from llmscope.cli.commands.read import read
from llmscope.cli.commands.replay import replay
from llmscope.cli.commands.report import report
from llmscope.cli.commands.serve import serve
from llmscope.cli.commands.snapshot import snapshot, snapshot_command
from llmscope.cli.commands.themes import themes
from llmscope.cli.commands.watch import watch
from llmscope.cli.options.groups import grouped
from llmscope.cli.options.panels import PanelCommand
from llmscope.cli.options.shared import WHICH
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import volume
from llmscope.distributions import need_torch
from llmscope.version import __version__

_SET = ("open", "serve", "snapshot", "read", "replay", "watch", "bake", "mcp", "doctor")
"""Commands whose options take defaults from the settings."""
_NEED_TORCH = ("open", "snapshot", "read", "bake", "mcp", "compare", "fit", "examples")
"""Commands that compute, whatever their arguments."""
_HELP = {"--help", "-h"}
_OWN = {*_HELP, "--man", "--version", "--install-completion", "--show-completion"}


class OpenByDefault(TyperGroup):
    """`llmscope gpt2` means `llmscope open gpt2`: the first word is a model unless it is a command.

    An optional argument of the group would swallow the names of the commands.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `open` where no command is named."""
        volume.quiet = volume.verbose = False  # of a run before, if its arguments were wrong
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)  # a shell completes the first word
        if not args or (args[0] not in self.commands and args[0].partition("=")[0] not in _OWN):
            args = ["open", *args]
        helping = ctx.resilient_parsing or bool(_HELP.intersection(args))
        if not helping and args[0] in _NEED_TORCH:
            with reported(debug="--debug" in args):
                need_torch(f"llmscope {args[0]}")
        if not helping and args[0] in _SET:
            with reported(debug="--debug" in args):
                from llmscope.config import effective

                ctx.default_map = dict.fromkeys(_SET, effective())
                # Without a model argument, doctor checks only the machine, so ignore that setting.
                ctx.default_map["doctor"] = {**effective(), "model": None}
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the words name.

        The options of lenses and the sources of models are added only where they are needed, since
        other packages may have some.
        """
        if args and args[0] == "snapshot":
            self.commands["snapshot"] = snapshot_command()
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and _HELP.intersection(rest):
            _name_sources(command)
        return name, command, rest

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the commands, and what may follow `open`, since `open` can be omitted."""
        opening = self.commands["open"]
        inner = opening.make_context("open", [], parent=ctx, resilient_parsing=True)
        model = next(one for one in opening.params if one.name == "model")
        return [
            *super().shell_complete(ctx, incomplete),
            *opening.shell_complete(inner, incomplete),
            *model.shell_complete(inner, incomplete),
        ]


app = typer.Typer(
    cls=OpenByDefault,
    context_settings={"help_option_names": ["-h", "--help"]},
    # Messages may quote foreign text, which must never be read as markup.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A live microscope for language models. `llmscope [MODEL]` opens it on a model: a hub id "
    "such as gpt2, a folder, a GGUF file, pypi:NAME or builtin:NAME (the default).",
    epilog="llmscope open --help tells the options of the screen. `llmscope open X` opens a model "
    "whose name is also a command's.",
)
app.command("open", cls=PanelCommand)(open_model)
app.command("serve", cls=PanelCommand)(serve)
app.command("snapshot", cls=PanelCommand)(grouped(snapshot))
app.command("read", cls=PanelCommand)(read)
app.command("replay", cls=PanelCommand)(replay)
app.command("report", cls=PanelCommand)(report)
app.command("watch", cls=PanelCommand)(watch)
app.command("diff", cls=PanelCommand)(diff)
app.command("compare", cls=PanelCommand)(compare)
app.command("lenses", cls=PanelCommand)(lenses)
app.command("edits", cls=PanelCommand)(edits)
app.command("bake", cls=PanelCommand)(bake)
app.add_typer(fit, name="fit")
app.command("examples", cls=PanelCommand)(examples)
app.command("models", cls=PanelCommand)(models)
app.add_typer(cache, name="cache")
app.command("mcp", cls=PanelCommand)(mcp)
app.command("themes", cls=PanelCommand)(themes)
app.command("config", cls=PanelCommand)(config)
app.command("doctor", cls=PanelCommand)(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmscope {__version__}")
        raise typer.Exit


def _name_sources(command: Any) -> None:
    """Put what models are called into the help of a command, and of those in a group."""
    from llmscope.models.spec import forms

    for inner in getattr(command, "commands", {}).values():
        _name_sources(inner)
    for one in command.params:
        if getattr(one, "help", None) == WHICH:
            one.help = f"{forms()}."


def _man(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        from llmscope.cli.man import man_page
        from llmscope.cli.output.streams import put

        group: Any = ctx.command
        group.commands["snapshot"] = snapshot_command()  # with the options of all lenses
        _name_sources(group)
        put(man_page(group, ctx))
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
    man: Annotated[
        bool,
        typer.Option(
            "--man", callback=_man, is_eager=True, help="Print the man page: `| man -l -` shows it."
        ),
    ] = False,
) -> None:
    """Options that belong to no command."""
