"""`llmscope snapshot`: write the screen's pictures and numbers from a script."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli import completion
from llmscope.cli.commands import batch
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.groups import ModelOptions, VolumeOptions, grouped
from llmscope.cli.options.keys import read_keys
from llmscope.cli.options.loading import StreamsFile
from llmscope.cli.options.panels import PanelCommand
from llmscope.cli.options.paper import PaperOptions, check_look
from llmscope.cli.options.picture import PictureOptions
from llmscope.cli.options.prompt import (
    PromptOptions,
    check_chat,
    check_transcript,
    read_ids,
    read_other,
    read_prompt,
)
from llmscope.cli.options.report_format import with_json
from llmscope.cli.options.shared import usage
from llmscope.cli.options.transcript import TranscriptOptions
from llmscope.cli.options.validate import (
    check_lenses,
    check_models,
    check_picture_options,
    check_scale,
    check_screen,
    read_cells,
)
from llmscope.cli.options.versus import VersusModelOptions
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import tell

if TYPE_CHECKING:
    from llmscope.cli.output.destination import Output
    from llmscope.cli.output.snapshot_build import Rendering
    from llmscope.draw import RenderOptions
    from llmscope.export import Paper
    from llmscope.figure import Focus
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope


def snapshot(
    ctx: typer.Context,
    *,
    lens: Annotated[
        list[str],
        typer.Option(
            help="What to look at, or screen. Repeat for several; LENS:MODE is one in a mode.",
            autocompletion=completion.lenses,
        ),
    ],
    model: shared.Model = None,
    texts: PromptOptions,
    part: TranscriptOptions,
    edit: shared.Edits = None,
    change: Annotated[
        bool,
        typer.Option("--change", help="Show edited − unedited, or A − B where nothing is edited."),
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            help="A lens's variant; see `llmscope lenses`.", autocompletion=completion.modes
        ),
    ] = "",
    many: batch.BatchOptions,
    picture: PictureOptions,
    paper: PaperOptions,
    second: VersusModelOptions,
    loading: ModelOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
    **declared: Any,
) -> None:
    """Look at one prompt, or at many, through lenses, and write what they show."""
    with reported(debug):
        # Check everything that needs no model first: loading one may take minutes.
        lenses = check_lenses(tuple(lens), mode)
        names = tuple(name for name, _ in lenses)
        outs = picture.out or []
        paths = [
            *(("--out", out) for out in outs),
            *(("--prompt-file", texts.prompt_file), ("--context-file", texts.context_file)),
            ("--transcript", texts.transcript),
        ]
        for option, path in paths:
            usage(path is None or "\0" not in path, "no path holds a NUL character", option)
        prompts = batch.check_batch(ctx, many, outs)
        _check_answer(texts, lenses)
        check_transcript(texts, part)
        check_screen(picture.workspace, picture.keys, names)
        from llmscope.cli.options.edit_options import check_whatif, check_words, read_edits
        from llmscope.cli.options.lens_options import check_options, read_focus

        edits = read_edits(edit, texts.versus_prompt, many=prompts is not None)
        of_edits = [
            *(("translator",) if any(edit.uses_lens for edit in edits) else ()),
            *(("features",) if any(edit.uses_features for edit in edits) else ()),
        ]
        check_options(declared, lenses, loading.allow_pickle, of_edits, tables=prompts is not None)
        read_cells(picture.size)
        focus = read_focus(declared, mode, change)
        tier = shared.tier(picture.color)
        on_paper = check_look(ctx, picture.look, lenses)
        style = paper.style(on_paper, picture.size, tier)
        load = second.onto(
            loading.loader(
                model,
                translator=declared["translator"],
                features=tuple(declared["features"] or ()),
            )
        )
        two_models = load.versus is not None and not isinstance(load.versus, StreamsFile)
        check_whatif(
            *(edits, texts.versus_prompt, change, names),
            two_models=two_models,
            many=prompts is not None,
        )
        check_words((texts.words_a, texts.words_b), lenses)
        other = read_other(texts.versus_prompt, texts.ids)
        if prompts is not None:
            check_chat(texts.chat, texts.system, None)
            check_models(model, loading.reward)
            from llmscope.cli.commands.batch_run import BatchRequest, write_batch
            from llmscope.cli.options.lens_options import every_of, token_texts
            from llmscope.cli.output.progress import EVERY, progress_line
            from llmscope.jobs.snapshots import PromptJob

            special = not texts.no_special_tokens
            every = every_of(declared)
            usage(len(set(names)) == len(names), "one table a lens: each once", "--lens")
            modes = tuple(pair for pair, entry in zip(lenses, lens, strict=True) if ":" in entry)
            job = PromptJob(names, focus, edits, special, texts.chat, texts.system, every, modes)
            request = BatchRequest(
                *(job, prompts.size, prompts.bound, token_texts(declared), texts.versus_prompt)
            )
            with progress_line(every=EVERY) as progress:
                write_batch(prompts, load, request, ctx, progress)
            return
        from llmscope.cli.options.appearance import picture_look
        from llmscope.cli.options.lens_options import (
            check_screen_options,
            every_of,
            token_texts,
            with_tokens,
        )
        from llmscope.cli.output.destination import choose_outputs, put_all
        from llmscope.cli.output.progress import EVERY, StepsLine, noted, progress_line
        from llmscope.cli.output.snapshot_build import OVERVIEW, SCREEN, SnapshotRequest, compose
        from llmscope.export import PAPER, PAPER_FORMATS, formats

        named = with_json(declared["json"], declared["format"])
        usual = "txt" if SCREEN in names else "svg" if on_paper else "json"
        outputs = choose_outputs(outs, named, usual, picture.force, paper=on_paper)
        cells = read_cells(picture.size, outputs)
        scripts = [read_keys(picture.keys, output.format) for output in outputs]
        if SCREEN in names:
            numbers = any(formats()[output.format].holds == "numbers" for output in outputs)
            check_screen_options(declared, mode, OVERVIEW if numbers else ())
        written = [output.format for output in outputs]
        check_scale(picture.scale, written, on_paper)
        check_picture_options(shared.said(ctx), written)
        every = every_of(declared)
        for one in every:
            usage(SCREEN not in names, f"the screen is of one {one}", f"--{one}")
        looks: list[RenderOptions | Paper] = [
            PAPER
            if on_paper and output.format in PAPER_FORMATS
            else picture_look(picture.theme, tier, picture.ascii, output)
            for output in outputs
        ]
        if on_paper:
            from llmscope.export import prepare_matplotlib
            from llmscope.models.files.cache import cache_folder

            prepare_matplotlib(cache_folder())
        check_chat(texts.chat, texts.system, texts.ids)
        if isinstance(load.versus, StreamsFile) and texts.empty:
            texts = replace(texts, ids=",".join(map(str, load.versus.read().ids)))
        both = focus.context is not None and texts.context_file is not None
        usage(not both, "give --context or --context-file, not both", "--context")
        conversation = None if texts.transcript is None else part.read(texts.transcript)[0]
        if conversation is not None:
            texts = replace(
                texts,
                prompt="".join(turn.content for turn in conversation.turns),
                no_special_tokens=texts.no_special_tokens or not conversation.plain,
            )
        before, after = read_prompt(texts.prompt, texts.prompt_file, texts.context_file, texts.ids)
        typed = before + after if isinstance(after, str) else after
        answer = _written(texts, SCREEN in names)
        usage(
            SCREEN not in names or isinstance(typed, str),
            "--lens screen needs a text: --prompt",
            "--ids",
        )
        check_models(model, loading.reward)
        with progress_line() as progress:
            scope = load(progress)
            forms = _forms(ctx, load.model, scope, outputs, looks, progress)
        text = typed
        if conversation is not None:
            from llmscope.corpus.records.transcripts.rendering import rendered

            rendering = rendered(conversation, scope.chat)
            text = rendering.text
            for note in rendering.notes:
                tell(note)
        if texts.chat and isinstance(text, str):
            text = scope.chat.prompt(text, texts.system)
        if texts.chat and isinstance(other, str):
            other = scope.chat.prompt(other, texts.system)
        focus = with_tokens(focus, token_texts(declared), scope)
        focus = _with_texts(focus, texts, text, other, scope)
        if before and after and isinstance(text, str) and isinstance(typed, str):
            from llmscope.record.context.split import end_of_context, tokens_before

            end = end_of_context(text, typed, len(before))
            spans = scope.encode(text, special_tokens=texts.special_tokens).spans
            focus = replace(focus, context=tokens_before(spans, end))
        wanted = SnapshotRequest(
            *(text, texts.special_tokens, tuple(lens), focus, cells, picture.workspace, edits),
            other=other,
            words=texts.words,
            written=answer,
            script=scripts[0],
            scale=picture.scale,
            every=every,
            style=style,
        )
        for notice in scope.loaded_model.notices:
            tell(notice)
        if scripts[0]:  # its keys may start a generation
            rules = scope.info().rules
            for rule in rules.applied:
                tell(f"it generates by its generation_config: {rule}")
            for rule in rules.ignored:
                tell(f"of its generation_config is not applied: {rule}")
        with progress_line(every=EVERY) as progress:
            report = StepsLine(progress)
            contents = compose(scope, wanted, forms, noted(progress), report)
        put_all(list(zip(outputs, contents, strict=True)))


def _forms(
    ctx: typer.Context,
    model: str | None,
    scope: Scope,
    outputs: Sequence[Output],
    looks: Sequence[RenderOptions | Paper],
    progress: Progress | None,
) -> list[Rendering]:
    """Return the form of each output, with the command line that writes it alone."""
    from llmscope.cli.options.command_line import command_line
    from llmscope.cli.options.paper import TERMINAL
    from llmscope.cli.output.snapshot_build import Rendering
    from llmscope.export import PAPER, formats, provenance_of

    origin: dict[str, Any] | None = None
    renderings = []
    for output, look in zip(outputs, looks, strict=True):
        known_format = formats().get(output.format)
        if look != PAPER and known_format is not None and not known_format.provenance:
            renderings.append(Rendering(output.format, look))
            continue
        if origin is None:  # once: it reads all weights
            origin = provenance_of(scope.origin(), None, progress)
        settled: dict[str, str | None] = {
            "model": model or scope.base.spec,
            "format": output.format,
        }
        if look != PAPER and ctx.params["look"] == PAPER:
            settled |= {"look": TERMINAL, "cmap": None, "font": None, "width": None}
        if ctx.params["scale"] != 1 and known_format is not None and not known_format.scales:
            settled["scale"] = "1"
        line = command_line(ctx, **settled)
        renderings.append(Rendering(output.format, look, {**origin, "command": line}))
    return renderings


@cache
def snapshot_command() -> Any:
    """Return the command, with the options that all lenses declare and the known formats.

    It is built when it is first asked for, since that imports all lenses.
    """
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command("snapshot", cls=PanelCommand)(grouped(snapshot, _declared(), after="mode"))
    return typer.main.get_command(app)


def _declared() -> Iterator[inspect.Parameter]:
    """Yield the options that are registered elsewhere: those of lenses, and the formats."""
    from llmscope.cli.options.lens_options import parameters
    from llmscope.export import formats

    yield from parameters()
    yield inspect.Parameter(
        *("json", inspect.Parameter.KEYWORD_ONLY), default=False, annotation=report_format.Json
    )
    listed = ", ".join(formats())
    form = typer.Option(
        metavar="FORMAT",
        help=f"One of {listed}; pdf with --look paper.",
        autocompletion=completion.formats,
        show_default="by --out, or else json",
    )
    yield inspect.Parameter(
        *("format", inspect.Parameter.KEYWORD_ONLY),
        default=None,
        annotation=Annotated[str | None, form],
    )


def _check_answer(texts: PromptOptions, lenses: Sequence[tuple[str, str]]) -> None:
    """Raise BadParameter unless the options about the answer go together."""
    has_answer = texts.answer is not None
    fits = any(mode == "gain" or name in ("reasoning", "passages") for name, mode in lenses)
    usage(
        not has_answer or fits,
        "it takes --lens context --mode gain, reasoning or passages",
        "--answer",
    )
    usage(
        not has_answer or texts.ids is None,
        "with --ids, give --target id:NUMBER instead",
        "--answer",
    )


def _written(texts: PromptOptions, screen: bool) -> tuple[int, ...]:
    """Return the ids of the tokens after the prompt; empty without any."""
    usage(not screen or texts.written is None, "it does not go with --lens screen", "--written")
    both = texts.answer is not None and texts.written is not None
    usage(not both, "give only one of them", "--answer / --written")
    return () if texts.written is None else read_ids(texts.written, "--written")


def _with_texts(
    focus: Focus,
    texts: PromptOptions,
    text: str | tuple[int, ...],
    other: str | tuple[int, ...] | None,
    scope: Scope,
) -> Focus:
    """Return the focus with the word lists, the answer and prompt B, as the model's tokens.

    Args:
        focus: the focus.
        texts: the texts that were given.
        text: the prompt, in the chat template if there is one.
        other: prompt B, in the chat template too; None without one.
        scope: the model.
    """
    if texts.words is not None:
        lists = scope.words(texts.words[0]), scope.words(texts.words[1])
        focus = replace(focus, words=(lists[0].ids, lists[1].ids))
        for note in (*lists[0].notes, *lists[1].notes):
            tell(note)
    if texts.answer is not None and isinstance(text, str):
        from llmscope.cli.options.answer_tokens import answer_ids

        focus = replace(focus, answer=answer_ids(texts.answer, text, scope.loaded_model.tokens))
    if other is not None:
        from llmscope.cli.options.edit_options import other_ids

        ids = other_ids(scope, other, special_tokens=texts.special_tokens)
        focus = replace(focus, versus_prompt=ids)
    return focus
