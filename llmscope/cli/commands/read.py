"""`llmscope read`: open a chat or an agent trace in the model's own chat template."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmscope.cli import completion
from llmscope.cli.launch import LaunchOptions, on_page, show
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.groups import ModelOptions, VolumeOptions, group_options
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.transcript import TranscriptOptions
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import tell
from llmscope.cli.output.streams import put
from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress
    from llmscope.models.tokenizer.tokens import Tokens

_SCREEN = (
    *("theme", "color", "ascii", "bandwidth", "device", "dtype", "threads", "memory", "spill"),
    *("backend", "cache_type", "reward", "unverified"),
)
"""Options of the screen, and of the model that it loads: turns need its tokenizer alone."""


@group_options
def read(
    ctx: typer.Context,
    *,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            autocompletion=completion.transcripts,
            help="Chats or agent traces as .jsonl, .json or .parquet: OpenAI's messages, one "
            "message a line, ShareGPT, or the columns of trl; a URL, or - for stdin.",
        ),
    ],
    model: shared.Model = None,
    transcript: TranscriptOptions,
    listed: Annotated[
        bool, typer.Option("--list", help="Print the turns, and do not open the screen.")
    ] = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    theme: shared.ScreenTheme = None,
    color: shared.Colours = "auto",
    ascii: shared.Ascii = None,  # noqa: A002
    bandwidth: shared.Bandwidth = "auto",
    loading: ModelOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Open a chat or an agent trace on the screen, in the model's own chat template.

    The text is the one that the model reads, with roles, tool calls and reasoning in colour; the
    key {turns} lists the turns. What the template leaves out or refuses is told with its line.
    Without a terminal the turns are listed.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        tier = shared.tier(color)
        on_screen = on_page() or (sys.stdout.isatty() and sys.stdin.isatty())
        if listed or as_json or format is not None or not on_screen:
            on_screen = False
            shared.refuse(ctx, _SCREEN, "only for the screen, and the turns are listed")
        conversation, more = transcript.read(file)
        from llmscope.cli.output.progress import progress_line
        from llmscope.corpus.records.transcripts.rendering import render_transcript

        with progress_line() as progress:
            tokens = _tokens(model, loading, progress)
        rendering = render_transcript(conversation, tokens.chat)
        others = more and transcript.line is None
        notes = (
            *rendering.notes,
            *(("the file has other transcripts: --line N",) if others else ()),
        )
        for note in notes:
            tell(note)
        if not on_screen:
            from llmscope.cli.output.turn_table import turn_record, turn_rows, turn_table

            encoded = tokens.encode(rendering.text, special_tokens=conversation.plain)
            rows = turn_rows(conversation, rendering, encoded)
            if as_json:
                from llmscope.export import json_text

                put(json_text(turn_record(conversation, rendering, rows, encoded)))
            else:
                put(turn_table(rows, encoded))
            return
        from llmscope.tui.prompt.editor import too_long

        if reason := too_long(rendering.text):
            raise ScopeError(
                f"{conversation.where}: {reason}", "--turn N with an earlier turn, or --list"
            )
        raise typer.Exit(
            show(
                LaunchOptions(
                    loading.loader(model),
                    prompt=rendering.text,
                    theme=theme,
                    tier=tier,
                    ascii=ascii,
                    bandwidth=bandwidth,
                    debug=debug,
                    turns=() if conversation.plain else rendering.spans,
                    notice="; ".join(notes),
                    workspace="reader",
                )
            )
        )


def _tokens(model: str | None, loading: ModelOptions, progress: Progress | None) -> Tokens:
    if progress is not None:
        progress("reading the tokenizer", 0.0, None)
    from llmscope.models.loading.described import tokenizer_of
    from llmscope.models.sources import Options

    options = Options(loading.trust_remote_code, loading.allow_pickle, progress)
    return tokenizer_of(loading.spec(model), tuple(loading.adapter or ()), options)
