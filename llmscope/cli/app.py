"""The Typer app with all commands, which opens the screen if no command is named."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llmscope.cli.command_table import COMMANDS
from llmscope.cli.options.panels import PanelCommand
from llmscope.cli.options.shared import WHICH
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import volume
from llmscope.errors import read_in
from llmscope.support.distributions import need_torch
from llmscope.version import __version__

_SET = ("open", "serve", "snapshot", "read", "replay", "watch", "bake", "mcp", "doctor")
"""Commands whose options take defaults from the settings."""
_NEED_TORCH = ("open", "snapshot", "read", "bake", "mcp", "compare", "fit", "examples")
"""Commands that compute, whatever their arguments."""
_HELP = {"--help", "-h"}
_OWN = {*_HELP, "--man", "--version", "--install-completion", "--show-completion"}


@cache
def command_named(name: str) -> Any:
    """Import and return a command of `COMMANDS`, or a group of commands."""
    module = import_module(f"llmscope.cli.commands.{name}")
    if name == "snapshot":
        return module.snapshot_command()  # its options are declared by lenses
    holder = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    holder.callback()(_no_options)  # makes it a group, also if it has one command
    # `open` is a name of Python.
    command = module.open_model if name == "open" else getattr(module, name)
    if isinstance(command, typer.Typer):
        holder.add_typer(command, name=name)
    else:
        holder.command(name, cls=PanelCommand)(command)
    group: Any = typer.main.get_command(holder)
    return group.commands[name]


def _no_options() -> None:
    """Take no options."""


class OpenByDefault(TyperGroup):
    """`llmscope gpt2` means `llmscope open gpt2`: the first word is a model unless it is a command.

    An optional argument of the group would swallow the names of the commands. A command is imported
    when it is called or asked for help.
    """

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command that the arguments name; hints spell options for a shell."""
        with read_in("shell"):
            return super().main(*args, **settings)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; None if there is no such one."""
        return command_named(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each command does."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `open` where no command is named."""
        volume.quiet = volume.verbose = False  # of a run before, if its arguments were wrong
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)  # a shell completes the first word
        if not args or (args[0] not in COMMANDS and args[0].partition("=")[0] not in _OWN):
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

        The sources of models are told only where they are needed, since other packages may have
        some.
        """
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and _HELP.intersection(rest):
            _name_sources(command)
        return name, command, rest

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the commands, and what may follow `open`, since `open` can be omitted."""
        opening = command_named("open")
        inner = opening.make_context("open", [], parent=ctx, resilient_parsing=True)
        model = next(parameter for parameter in opening.params if parameter.name == "model")
        # Typer's own way imports every command. An option begins as no command does.
        options = super().shell_complete(ctx, incomplete) if incomplete[:1] == "-" else []
        named = [name for name in COMMANDS if name.startswith(incomplete)]
        return [
            *(SimpleNamespace(value=name, type="plain", help=COMMANDS[name]) for name in named),
            *options,
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


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmscope {__version__}")
        raise typer.Exit


def _name_sources(command: Any) -> None:
    """Put what models are called into the help of a command, and of those in a group."""
    from llmscope.models.spec import forms

    for inner in getattr(command, "commands", {}).values():
        _name_sources(inner)
    for parameter in command.params:
        if getattr(parameter, "help", None) == WHICH:
            parameter.help = f"{forms()}."


def _man(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        from llmscope.cli.man import man_page
        from llmscope.cli.output.streams import put

        group: Any = ctx.command
        for name in COMMANDS:
            _name_sources(command_named(name))
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
