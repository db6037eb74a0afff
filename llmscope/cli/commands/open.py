"""`llmscope [open] [MODEL]`: open the screen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated

import typer

from llmscope.cli.launch import LaunchOptions, on_page, show
from llmscope.cli.options import shared
from llmscope.cli.options.groups import ModelOptions, gather, group_options
from llmscope.cli.options.prompt import check_chat
from llmscope.cli.options.resume import (
    check_resume,
    is_state,
    open_state,
    resume_session,
    unless_named,
)
from llmscope.cli.options.versus import VersusModelOptions
from llmscope.cli.output.errors import reported
from llmscope.models.sampler import Sampler

if TYPE_CHECKING:
    from llmscope.jobs.compare.prompt_file import PromptFile


@group_options
def open_model(
    ctx: typer.Context,
    *,
    model: shared.Model = None,
    prompt: Annotated[str, typer.Option(help="What the editor holds at first.")] = "",
    context_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A text before the prompt, marked off as its context."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="List the tokens of these prompts and chats where two models part most, or the "
            "most surprising ones of one model: .jsonl, .csv, .tsv, .parquet or .txt.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the model that was left last, as it was left."),
    ] = False,
    chat: shared.Chat = False,
    system: shared.System = None,
    edit: shared.Edits = None,
    versus_prompt: shared.VersusPrompt = None,
    second: VersusModelOptions,
    translator: shared.Translator = None,
    features: shared.Features = None,
    direction: shared.Direction = None,
    temperature: shared.Temperature = None,
    sample_top_k: shared.SampleTopK = None,
    top_p: shared.TopP = None,
    min_p: shared.MinP = None,
    seed: shared.Seed = None,
    theme: shared.ScreenTheme = None,
    color: shared.Colours = "auto",
    ascii: shared.Ascii = None,  # noqa: A002
    bandwidth: shared.Bandwidth = "auto",
    no_special_tokens: shared.NoSpecialTokens = False,
    loading: ModelOptions,
    debug: shared.Debug = False,
) -> None:
    """Open the microscope on a model, and watch it while you type.

    A model is opened as it was left: prompts, edits, cursor and views. Without one it is the model
    left last. A state that was saved on the screen, FILE.json, opens with all that it holds.
    """
    with reported(debug):
        options = launch_options(ctx)
        options_said = shared.options_said(ctx)
        if is_state(model):
            options = open_state(options, model or "", options_said)
        elif not (resume or on_page()):
            options = unless_named(options, options_said, model)
        raise typer.Exit(show(options))


def launch_options(ctx: typer.Context) -> LaunchOptions:
    """Return the launch options from the parameters of `open_model`, which `serve` shares.

    Raises:
        BadParameter: the parameters do not go together.
        ScopeError: a parameter cannot be read.
    """
    from llmscope.cli.options.edit_options import check_whatif, read_edits

    values, options_said = SimpleNamespace(**ctx.params), shared.options_said(ctx)
    if values.resume:
        check_resume(options_said)
    check_chat(values.chat, values.system)
    sampler = sampler_from(
        {
            "temperature": values.temperature,
            "top_k": values.sample_top_k,
            "top_p": values.top_p,
            "min_p": values.min_p,
            "seed": values.seed,
        }
    )
    tier = shared.tier(values.color)
    edits = read_edits(values.edit, values.versus_prompt)
    check_whatif(edits, values.versus_prompt, change=False, lenses=())
    prompt = values.prompt
    if values.context_file is not None:
        prompt = _mark_context(prompt, values.context_file)
    opening = LaunchOptions(
        gather(VersusModelOptions, ctx.params).onto(
            gather(ModelOptions, ctx.params).loader(
                values.model,
                translator=values.translator,
                features=tuple(values.features or ()),
                direction=values.direction,
            )
        ),
        prompt=prompt,
        special_tokens=not values.no_special_tokens,
        chat=values.chat,
        system=values.system,
        theme=values.theme,
        tier=tier,
        ascii=values.ascii,
        bandwidth=values.bandwidth,
        debug=values.debug,
        edits=edits,
        versus_prompt=values.versus_prompt,
        sampler=sampler,
        prompts=None if values.prompts is None else _prompts(values),
        workspace="" if values.prompts is None else "prompts",
    )
    return resume_session(opening, options_said) if values.resume else opening


def _prompts(values: SimpleNamespace) -> PromptFile:
    """Return the file of prompts of `--prompts`, which is read once a model is loaded.

    Raises:
        BadParameter: the second model is a file of streams, which are those of one text.
        ScopeError: the file cannot be read.
    """
    from llmscope.jobs.compare.prompt_file import PromptFile

    versus = values.versus_model or ""
    shared.usage(
        not versus.endswith(".safetensors"),
        "--versus-model has the streams of one text, and no model that could read others",
        "--prompts",
    )
    return PromptFile(
        values.prompts,
        chat=values.chat,
        system=values.system,
        special_tokens=not values.no_special_tokens,
    )


def sampler_from(values: dict[str, float | int | None]) -> Sampler | None:
    """Return a sampler with the given options; None if all are None.

    A cut (top-k, top-p, min-p) or a seed has no effect without a temperature.

    Raises:
        BadParameter: an option would have no effect.
        ScopeError: a number is out of its range.
    """
    settings = {name: value for name, value in values.items() if value is not None}
    loose = sorted(settings.keys() - {"temperature"})
    shared.usage(
        not loose or settings.get("temperature", 0) > 0,
        "needs a --temperature above 0: the likeliest token is left by any cut",
        "--sample-top-k" if loose == ["top_k"] else f"--{(loose or [''])[0].replace('_', '-')}",
    )
    return Sampler(**settings) if settings else None  # type: ignore[arg-type]


def _mark_context(prompt: str, context_file: str) -> str:
    """Return the editor's text: the context, its mark, and the prompt."""
    from llmscope.cli.options.prompt import read_prompt
    from llmscope.tui.state.context_marker import Marked

    before, _ = read_prompt(prompt, None, context_file, None)
    return Marked(before + prompt, len(before)).written
