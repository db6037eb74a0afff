"""Arguments and options shared by several commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llmscope.cli import completion
from llmscope.cli.output.notices import volume
from llmscope.support.arguments import MOST_THREADS
from llmscope.support.dtypes import dtype_name

if TYPE_CHECKING:
    from llmscope.draw import Tier


def _threads(value: int | None) -> int | None:
    """Return the number of threads; raise BadParameter if it is more than torch survives."""
    wanted = f"{MOST_THREADS} or fewer on this machine"
    usage(value is None or value <= MOST_THREADS, wanted, "--threads")
    return value


WHICH = "Which model to open."
"""The help of MODEL; `OpenByDefault` puts the forms of all sources in its place."""
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help=WHICH,
        show_default="builtin:town",
        autocompletion=completion.models,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:N, mps, or spread: over GPUs, memory and disk. "
        "Auto spreads what does not fit on the GPU."
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        callback=dtype_name,
        help="auto, float32 (or fp32, float), bfloat16 (bf16) or float16 (fp16, half).",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        autocompletion=completion.backends,
        help="What runs the model: transformers, or llama.cpp for a GGUF file as it is. Auto: "
        "llama.cpp where memory has no room for the dequantised weights.",
    ),
]
CacheType = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        autocompletion=completion.cache_types,
        help="With --backend llama.cpp: the type of its KV cache: f16, f32, q8_0 or q4_0.",
        show_default="f16",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        metavar="REVISION",
        help="MODEL's branch, tag or commit of the hub, as @REVISION in its name; of a package, "
        "its version.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        callback=_threads,
        help="Threads on a CPU.",
        show_default="by size of the model",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Most memory for what is kept of the tokens of long prompts, beside keys and values.",
        show_default="1.5GB",
    ),
]
Spill = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Write what is beyond --memory to a temporary file there, not compute it again.",
    ),
]
NoSpecialTokens = Annotated[
    bool, typer.Option("--no-special-tokens", help="Leave out the tokenizer's own BOS and such.")
]
Chat = Annotated[
    bool, typer.Option("--chat", help="Put the prompt into the model's chat template.")
]
System = Annotated[
    str | None, typer.Option(metavar="TEXT", help="With --chat: the system message before it.")
]
Edits = Annotated[
    list[str] | None,
    typer.Option(
        "--edit",
        metavar="EDIT",
        help='Change the pass: "zero head 5.3", "scale mlp 7 0.5", "patch stream 9 @12 from B"; '
        "see `llmscope edits`. Repeat for several, in their order.",
    ),
]
VersusPrompt = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="Prompt B, whole: what an edit patches from and lenses compare with."
    ),
]
WordsA = Annotated[
    str | None,
    typer.Option(
        metavar="WORDS", help="For --lens contrast --mode lens: words that A may be about."
    ),
]
WordsB = Annotated[str | None, typer.Option(metavar="WORDS", help="And words of B.")]
Translator = Annotated[
    str | None,
    typer.Option(
        metavar="LENS",
        autocompletion=completion.translators,
        help="A learned lens to read through, Jacobian or tuned: a file, a folder or "
        "org/name:path; `jacobian` or `tuned` for the one that is known for the model.",
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FOLDER|ORG/NAME:PATH",
        autocompletion=completion.dictionaries,
        help="A sparse dictionary of features (an autoencoder or transcoder): a folder of "
        "SAELens or Gemma Scope, one with several, or org/name:path. Repeat for several.",
        show_default="those that ship with the model",
    ),
]
Direction = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        autocompletion=completion.directions,
        help="A direction that `llmscope fit direction` fitted: the map has a view of its score.",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="For what the model writes: divides the logits; 0 takes the likeliest token.",
        show_default="0",
    ),
]
SampleTopK = Annotated[
    int | None,
    typer.Option(
        min=0, help="Keep this many of the likeliest tokens; 0 keeps all.", show_default="0"
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Keep the fewest likeliest tokens whose probabilities reach this sum.",
        show_default="1",
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Keep tokens of at least this share of the likeliest one's probability.",
        show_default="0",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="Seed of the random numbers that draw the tokens.", show_default="0"),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Load pickled weights, which can run any code.")
]
Adapter = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ADAPTER",
        autocompletion=completion.models,
        help="A PEFT adapter for MODEL, or a checkpoint that was trained from it: a folder or a "
        "hub id, switched on. Repeat for several.",
    ),
]
Reward = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="A reward model with MODEL's vocabulary: a folder or a hub id, for --lens stages "
        "--mode score.",
    ),
]
Unverified = Annotated[
    bool, typer.Option("--unverified", help="Show what failed its check all the same, marked.")
]
Colours = Annotated[
    str,
    typer.Option(
        "--color",
        metavar="auto|truecolor|256|16|none",
        help="How many colours to use; auto asks NO_COLOR, COLORTERM and TERM.",
    ),
]
Ascii = Annotated[
    bool | None,
    typer.Option("--ascii/--no-ascii", help="Draw with ASCII alone.", show_default="by the locale"),
]
ScreenTheme = Annotated[
    str | None,
    typer.Option(
        "--theme",
        metavar="NAME",
        autocompletion=completion.themes,
        help="Colours; see `llmscope themes`. auto: dark or light, as the terminal is.",
        show_default="the one chosen last, or auto",
    ),
]
Bandwidth = Annotated[
    Literal["auto", "high", "low", "textual"],
    typer.Option(
        help="What to send the terminal. Low: fewer colours, figures once you pause. Textual: "
        "each frame as Textual draws it, not only what changed."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _set_quiet(value: bool) -> bool:
    """Set how much the command tells, before it runs."""
    usage(not (value and volume.verbose), "--quiet or --verbose", "--quiet")
    volume.quiet = value
    return value


def _set_verbose(value: bool) -> bool:
    """Set how much the command tells, before it runs."""
    usage(not (value and volume.quiet), "--quiet or --verbose", "--verbose")
    volume.verbose = value
    return value


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", callback=_set_quiet, help="Print no notes and no progress, only errors."
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_set_verbose,
        help="Print what is loaded and written too, and how long each step took.",
    ),
]


def tier(color: str) -> Tier | None:
    """Return the tier that `--color` names; None for auto.

    Raises:
        BadParameter: it is not a tier.
    """
    from llmscope.draw.render_options import TIERS

    usage(color in ("auto", *TIERS), f"one of auto, {', '.join(TIERS)}", "--color")
    return next((name for name in TIERS if name == color), None)


def options_said(ctx: typer.Context) -> set[str]:
    """Return the parameters given on the command line, without those from settings."""
    return {
        name
        for name in ctx.params
        if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def usage(condition: bool, message: str, option: str) -> None:
    """Raise BadParameter (exit code 2) unless the condition holds."""
    if not condition:
        raise typer.BadParameter(message, param_hint=option)


def refuse(ctx: typer.Context, unread: Collection[str], why: str) -> None:
    """Raise BadParameter, with the reason, if the command line gives a parameter that is unread."""
    unread_given = sorted(options_said(ctx) & set(unread))
    flags = {str(parameter.name): parameter.opts[0] for parameter in ctx.command.params}
    first = flags[unread_given[0]] if unread_given else ""
    usage(not unread_given, why, first if first.startswith("-") else first.upper())


def allow_only(ctx: typer.Context, allowed: Collection[str], why: str) -> None:
    """Raise BadParameter, with the reason, if the command line gives a parameter not allowed."""
    refuse(ctx, options_said(ctx) - set(allowed), why)


def and_those_of(
    other: Callable[..., None],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds all parameters of another command, passed as `**name`."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        theirs = dict(inspect.signature(other, eval_str=True).parameters)
        own_parameters = dict(inspect.signature(command, eval_str=True).parameters)
        merged = (own_parameters | theirs).values()
        keywords = [
            parameter.replace(kind=parameter.KEYWORD_ONLY)
            for parameter in merged
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        wrapped: Any = command
        wrapped.__signature__ = inspect.Signature(keywords)
        return command

    return give
