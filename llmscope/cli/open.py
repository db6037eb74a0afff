"""`llmscope [open] [MODEL]`: the screen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated

import typer

from llmscope.cli import options
from llmscope.cli.errors import reported
from llmscope.cli.loader import Loader
from llmscope.cli.prompt import check_chat
from llmscope.cli.resume import check_resume, resumed
from llmscope.cli.screen import Opening, show
from llmscope.sampler import Sampler


def open_model(
    ctx: typer.Context,
    model: options.Model = None,
    prompt: Annotated[str, typer.Option(help="What the editor holds at first.")] = "",
    context_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A text before the prompt, marked off as its context."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the model that was left last, as it was left."),
    ] = False,
    chat: options.Chat = False,
    system: options.System = None,
    edit: options.Edits = None,
    versus_prompt: options.VersusPrompt = None,
    temperature: options.Temperature = None,
    sample_top_k: options.SampleTopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    seed: options.Seed = None,
    theme: options.ScreenTheme = None,
    color: options.Colours = "auto",
    ascii: options.Ascii = None,  # noqa: A002
    bandwidth: options.Bandwidth = "auto",
    adapter: options.Adapter = None,
    reward: options.Reward = None,
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
    with reported(debug):
        raise typer.Exit(show(asked(ctx)))


def asked(ctx: typer.Context) -> Opening:
    """How the screen is to open, by the parameters of `open_model`, which other commands take too.

    Raises:
        BadParameter: they do not go together.
        ScopeError: one of them cannot be read.
    """
    from llmscope.cli.whatif import check_whatif, read_edits

    given, said = SimpleNamespace(**ctx.params), options.said(ctx)
    if given.resume:
        check_resume(said)
    check_chat(given.chat, given.system)
    sampler = sampler_from(
        {
            "temperature": given.temperature,
            "top_k": given.sample_top_k,
            "top_p": given.top_p,
            "min_p": given.min_p,
            "seed": given.seed,
        }
    )
    tier = options.tier(given.color)
    edits = read_edits(given.edit, given.versus_prompt)
    check_whatif(edits, given.versus_prompt, change=False, lenses=())
    prompt = given.prompt
    if given.context_file is not None:
        prompt = _marked(prompt, given.context_file)
    opening = Opening(
        Loader(
            given.model,
            given.device,
            given.dtype,
            given.threads,
            given.trust_remote_code,
            given.allow_pickle,
            tuple(given.adapter or ()),
            given.unverified,
            given.reward,
        ),
        prompt=prompt,
        special_tokens=not given.no_special_tokens,
        chat=given.chat,
        system=given.system,
        theme=given.theme,
        tier=tier,
        ascii=given.ascii,
        bandwidth=given.bandwidth,
        debug=given.debug,
        edits=edits,
        versus_prompt=given.versus_prompt,
        sampler=sampler,
    )
    return resumed(opening, said) if given.resume else opening


def sampler_from(given: dict[str, float | int | None]) -> Sampler | None:
    """The sampler of some options; None of none. A cut or a seed means nothing without temperature.

    Raises:
        BadParameter: they would change nothing.
        ScopeError: a number is out of its range.
    """
    found = {name: value for name, value in given.items() if value is not None}
    loose = sorted(found.keys() - {"temperature"})
    options.usage(
        not loose or found.get("temperature", 0) > 0,
        "needs a --temperature above 0: the likeliest token is left by any cut",
        "--sample-top-k" if loose == ["top_k"] else f"--{(loose or [''])[0].replace('_', '-')}",
    )
    return Sampler(**found) if found else None  # type: ignore[arg-type]


def _marked(prompt: str, context_file: str) -> str:
    """The editor's text with the context before its mark."""
    from llmscope.cli.prompt import read_prompt
    from llmscope.tui.marker import Marked

    before, _ = read_prompt(prompt, None, context_file, None)
    return Marked(before + prompt, len(before)).written
