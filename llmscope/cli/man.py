"""The man page, made from the commands: `llmscope --man`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmscope.cli.options.panels import by_panel
from llmscope.cli.output.exit_codes import EXIT_CODES
from llmscope.config import FOLDERS, PREFIX, SETTINGS
from llmscope.version import __version__

_FOLDERS = {
    "CONFIG": "folder of config.toml and of your own themes",
    "CACHE": "folder of what can be made or fetched again",
    "STATE": "folder of saved prompts, sessions and recent models",
}


def man_page(group: Any, ctx: Any) -> str:
    """Return the page in roff, for man(1).

    Args:
        group: the command with all others.
        ctx: its context.
    """
    commands = {}
    for name, command in _commands(group, ctx):
        commands[name] = [*_command(name, command, ctx)]
    lines = [
        f'.TH LLMSCOPE 1 "" "llmscope {_text(__version__)}" "User Commands"',
        ".SH NAME",
        r"llmscope \- a live microscope for language models, in a terminal",
        ".SH SYNOPSIS",
        r".B llmscope",
        r"[\fIMODEL\fR] [\fIOPTIONS\fR]",
        ".br",
        r".B llmscope",
        r"\fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        *_paragraphs(group.help or ""),
        *_paragraphs(group.epilog or ""),
        ".SH COMMANDS",
        *(line for part in commands.values() for line in part),
        ".SH EXIT STATUS",
        *(line for code, when in EXIT_CODES for line in (".TP", f".B {code}", _line(when))),
        ".SH ENVIRONMENT",
        *_environment(),
        ".SH FILES",
        ".TP",
        ".B config.toml",
        _line("settings; llmscope config prints its path, all settings and where each comes from"),
    ]
    return "\n".join(lines) + "\n"


def _commands(group: Any, ctx: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the commands with their names; of a group, those in it."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if hasattr(command, "list_commands"):
            yield from _commands(command, ctx, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _command(name: str, command: Any, ctx: Any) -> Iterator[str]:
    """Yield the lines about a command."""
    own_context = type(ctx)(command, info_name=name, parent=ctx)
    params = command.get_params(own_context)
    arguments = [parameter for parameter in params if parameter.param_type_name == "argument"]
    pieces = " ".join(["llmscope", name, *command.collect_usage_pieces(own_context)])
    yield f".SS {_quote_argument(pieces)}"
    yield from _paragraphs(command.help or "")
    for argument in arguments:
        yield from _entry(argument, own_context)
    for panel, options in by_panel(
        [parameter for parameter in params if parameter not in arguments]
    ).items():
        yield ".PP"
        yield f".I {_quote_argument(f'{panel} options' if panel else 'Options')}"
        for option in options:
            yield from _entry(option, own_context)


def _entry(param: Any, ctx: Any) -> Iterator[str]:
    """Yield the lines about an argument or an option."""
    record = param.get_help_record(ctx)
    if record is not None:
        yield from (".TP", f".B {_quote_argument(record[0])}", _line(record[1]))


def _environment() -> Iterator[str]:
    about: Mapping[str, str] = {
        **{
            setting.variable: f"{setting.about}; as the setting {setting.name}"
            for setting in SETTINGS
        },
        **{f"{PREFIX}{name}": _FOLDERS[name] for name in FOLDERS},
        "NO_COLOR": "if it is not empty, nothing is drawn in colours unless --color says so",
    }
    for name, words in about.items():
        yield from (".TP", f".B {name}", _line(words))


def _paragraphs(text: str) -> Iterator[str]:
    for part in text.strip().split("\n\n"):
        yield ".PP"
        yield _line(" ".join(part.split()))


def _line(text: str) -> str:
    """Return a line of text, which is no request whatever it begins with."""
    escaped = _text(" ".join(text.split()))
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _quote_argument(text: str) -> str:
    """Return a text as one argument of a request."""
    return '"' + _text(text).replace('"', r"\(dq") + '"'


def _text(text: str) -> str:
    """Escape what roff would read, and keep dashes of options as they are typed."""
    return re.sub(r"(?<!\w)-(?=[\w-])|(?<=-)-", r"\\-", text.replace("\\", r"\e"))
