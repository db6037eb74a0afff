"""`llmscope [open] [MODEL]`: the screen."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Literal

import typer

from llmscope.cli import options
from llmscope.cli.errors import reported
from llmscope.cli.prompt import check_chat
from llmscope.errors import ScopeError


def open_model(
    model: options.Model = None,
    prompt: Annotated[str, typer.Option(help="What the editor holds at first.")] = "",
    chat: options.Chat = False,
    system: options.System = None,
    theme: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Colours; see `llmscope themes`. auto: dark or light, as the terminal is.",
            show_default="the one chosen last, or auto",
        ),
    ] = None,
    color: options.Colours = "auto",
    ascii: options.Ascii = None,  # noqa: A002
    bandwidth: Annotated[
        Literal["auto", "high", "low"],
        typer.Option(help="What to send the terminal. Low: fewer colours, figures once you pause."),
    ] = "auto",
    adapter: options.Adapter = None,
    unverified: options.Unverified = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    no_special_tokens: options.NoSpecialTokens = False,
    trust_remote_code: options.TrustRemoteCode = False,
    allow_pickle: options.AllowPickle = False,
    debug: options.Debug = False,
) -> None:
    """Open the microscope on a model, and watch it while you type."""
    check_chat(chat, system)
    tier = options.tier(color)
    with reported(debug):
        for stream, name in ((sys.stdout, "stdout"), (sys.stdin, "stdin")):
            if not stream.isatty():
                raise ScopeError(
                    f"{name} is no terminal", "llmscope snapshot MODEL --prompt TEXT --lens NAME"
                )
        if os.environ.get("TERM", "").lower() == "dumb":
            # It moves no cursor: the screen would run by as garbage, in colours or without.
            raise ScopeError(
                "TERM is dumb: this terminal cannot show a screen",
                "llmscope snapshot MODEL --prompt TEXT --lens screen",
            )
        from llmscope.cli.appearance import screen_look
        from llmscope.models.spec import DEFAULT
        from llmscope.tui.bandwidth import bandwidth as spending

        spent = spending(bandwidth, os.environ)
        if spent.frames:  # Textual reads it when it is imported
            os.environ.setdefault("TEXTUAL_FPS", str(spent.frames))
        look, typed = screen_look(theme, tier, ascii)
        from llmscope.tui.run import run

        load = options.Loader(
            model,
            device,
            dtype,
            threads,
            trust_remote_code,
            allow_pickle,
            tuple(adapter or ()),
            unverified,
        )
        code = run(
            load,
            spec=model or DEFAULT,
            prompt=prompt,
            typed=typed,
            special_tokens=not no_special_tokens,
            look=look,
            chat=chat,
            system=system,
            bandwidth=spent,
            debug=debug,
        )
        raise typer.Exit(code)
