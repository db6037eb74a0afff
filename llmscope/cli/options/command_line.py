"""The command line of a command, rebuilt from its parsed options."""

from __future__ import annotations

import shlex

import typer

from llmscope.tui.features.copy.repro_command import flag

_WHERE = {"out", "force", "debug", "quiet", "verbose", "json"}
"""Options for where the output goes and what is reported: they do not change the output's bytes."""
_IN_MODEL = {"revision"}
"""Options that callers put into the name of the model."""


def command_line(ctx: typer.Context, **settled: str | None) -> str:
    """Return a shell line of program, command and every option that differs from its default.

    The line is rebuilt from values rather than taken from `sys.argv`. So it includes values from a
    setting or an environment variable, leaves out how the program was called, and is the same for
    two spellings of the same command.

    Args:
        ctx: the command's context.
        settled: values that replace those of the options and are always included, such as what a
            default was resolved to; None leaves the option out.
    """
    words = ["llmscope", ctx.info_name or ""]
    for option in sorted(
        ctx.command.params, key=lambda parameter: parameter.param_type_name != "argument"
    ):
        name = option.name or ""
        value = settled.get(name, ctx.params.get(name))
        unsaid = value is None or value == option.default or value in ((), [])
        left_out = name in _WHERE | _IN_MODEL or (name in settled and value is None)
        if left_out or (unsaid and name not in settled):
            continue
        if option.param_type_name == "argument":
            words.append(str(value))
        elif value is False:
            words += option.secondary_opts[:1]
        else:
            words += flag(option.opts[0].lstrip("-").replace("-", "_"), value)
    return shlex.join(words)
