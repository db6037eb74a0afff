"""The command line that a command was called with, from its options as they were read."""

from __future__ import annotations

import shlex

import typer

from llmscope.tui.features.copy.repro_command import flag

_WHERE = {"out", "force", "debug"}
"""They say where the output goes and what is told on the way: the same bytes come without them."""


def command_line(ctx: typer.Context, **settled: str | None) -> str:
    """Program, command and every value that is not its option's default, for a shell.

    It is rebuilt from values rather than taken from `sys.argv`: so it names what a setting or an
    environment variable chose as well, whatever called the program is left out, and two spellings
    of the same command give the same line.

    Args:
        settled: values to name whatever the options say: what a default was found to be.
    """
    words = ["llmscope", ctx.info_name or ""]
    for option in sorted(ctx.command.params, key=lambda one: one.param_type_name != "argument"):
        name = option.name or ""
        value = settled.get(name, ctx.params.get(name))
        unsaid = value is None or value == option.default or value in ((), [])
        if name in _WHERE or (unsaid and name not in settled):
            continue
        if option.param_type_name == "argument":
            words.append(str(value))
        elif value is False:
            words += option.secondary_opts[:1]
        else:
            words += flag(option.opts[0].lstrip("-").replace("-", "_"), value)
    return shlex.join(words)
