"""`llmscope snapshot`: write the screen's pictures and numbers from a script."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Annotated, Any

import typer

from llmscope.arguments import LARGEST, checked_focus
from llmscope.cli import completion
from llmscope.cli.commands import batch
from llmscope.cli.options import shared
from llmscope.cli.options.keys import Keys, read_keys
from llmscope.cli.options.loading import Loader
from llmscope.cli.options.paper import check_look, make_ready
from llmscope.cli.options.shared import usage
from llmscope.cli.options.validate import (
    check_lenses,
    check_models,
    check_scale,
    check_screen,
    check_translator,
    read_cells,
    read_pair,
)
from llmscope.cli.output.errors import reported
from llmscope.errors import ScopeError
from llmscope.text import NOTE, one_line


def snapshot(
    ctx: typer.Context,
    lens: Annotated[
        list[str],
        typer.Option(
            help="What to look at, or screen. Repeat for several.",
            autocompletion=completion.lenses,
        ),
    ],
    model: shared.Model = None,
    prompt: Annotated[str | None, typer.Option(help="The prompt.")] = None,
    prompt_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the prompt here; - for stdin.")
    ] = None,
    prompts: batch.Prompts = None,
    shard: batch.Shard = None,
    shard_size: batch.ShardSize = 256,
    batch_size: batch.BatchSize = 16,
    batch_tolerance: batch.BatchTolerance = 1e-5,
    engine: batch.Engine = "local",
    workers: batch.Workers = None,
    gpus_per_worker: batch.Gpus = None,
    ids: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Token ids instead of a prompt.")
    ] = None,
    written: Annotated[
        str | None,
        typer.Option(
            metavar="1,2,3", help="Ids of tokens after the prompt, such as those a model wrote."
        ),
    ] = None,
    context_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="A text that comes before the prompt.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of tokens before the query, for the lenses context and stages.",
            show_default="all lines but the last",
        ),
    ] = None,
    chat: shared.Chat = False,
    system: shared.System = None,
    no_special_tokens: shared.NoSpecialTokens = False,
    layer: Annotated[int, typer.Option(help="From 0; negative from the end.")] = -1,
    head: Annotated[int, typer.Option(help="From 0; negative from the end.")] = 0,
    position: Annotated[int, typer.Option(help="From 0; negative from the end.")] = -1,
    neuron: Annotated[int | None, typer.Option(min=0, help="From 0.")] = None,
    step: Annotated[
        int | None, typer.Option(min=0, help="Of the lens walkthrough, from 0.")
    ] = None,
    weight: Annotated[
        int | None,
        typer.Option(min=0, help="With --step: one of the weights that it reads, from 0."),
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            metavar="ROW,COLUMN",
            help="With --step and --mode values: a number of it or of the weight, from 0.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="A token's text with its space, or id:NUMBER."),
    ] = None,
    versus: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="A token that the target is held against."),
    ] = None,
    translator: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Translators of a tuned lens, for the logit lens."),
    ] = None,
    edit: shared.Edits = None,
    versus_prompt: shared.VersusPrompt = None,
    words_a: shared.WordsA = None,
    words_b: shared.WordsB = None,
    change: Annotated[
        bool,
        typer.Option("--change", help="Show edited − unedited, or A − B where nothing is edited."),
    ] = False,
    answer: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What should follow the prompt, for --mode gain."),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="A lens's variant; see `llmscope lenses`.", autocompletion=completion.modes
        ),
    ] = "",
    workspace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of the screen: overview, heads, what-if and so on.",
            autocompletion=completion.workspaces,
        ),
    ] = None,
    keys: Keys = None,
    span: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST,END",
            help="Of a long prompt: only the tokens from one to before another; ends below zero "
            "count from the end, so that -1,0 is the last token.",
        ),
    ] = None,
    pool: Annotated[
        int,
        typer.Option(min=1, help="For attention: show this many tokens as one, by their maximum."),
    ] = 1,
    top_k: Annotated[int, typer.Option(min=1, help="How many tokens or neurons to list.")] = 10,
    temperature: Annotated[float, typer.Option(help="Divides the logits.")] = 1.0,
    sample_top_k: Annotated[int, typer.Option(min=0, help="The sampler's top-k cut; 0: none.")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="The sampler's top-p cut.")] = 1.0,
    min_p: Annotated[float, typer.Option(min=0, max=1, help="The sampler's min-p cut.")] = 0.0,
    format: Annotated[  # noqa: A002
        str | None,
        typer.Option(
            help="json, npz, safetensors, txt, ansi, svg, png or html; pdf with --look paper.",
            show_default="by --out, or else json",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where to write; - for stdout.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="120x40", help="Cells of a picture: width x height.")
    ] = None,
    scale: Annotated[
        float,
        typer.Option(
            help="Enlarge an svg, png or html by this factor; on paper, multiply the "
            "pixels of each side of a png."
        ),
    ] = 1.0,
    look: Annotated[
        str,
        typer.Option(
            help="Of a picture: terminal, or paper: axes and a colour bar, for print, "
            "as svg, pdf or png. There, a cell of --size is 5 x 10 points."
        ),
    ] = "terminal",
    theme: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.themes,
            help="Colours of a picture; see `llmscope themes`. auto: as the terminal is.",
            show_default="dark",
        ),
    ] = None,
    color: shared.Colours = "auto",
    ascii: shared.Ascii = None,  # noqa: A002
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    adapter: shared.Adapter = None,
    reward: shared.Reward = None,
    unverified: shared.Unverified = False,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    threads: shared.Threads = None,
    trust_remote_code: shared.TrustRemoteCode = False,
    allow_pickle: shared.AllowPickle = False,
    debug: shared.Debug = False,
) -> None:
    """Look at one prompt, or at many, through lenses, and write what they show."""
    with reported(debug):
        # Check everything that needs no model first: loading one may take minutes.
        names = tuple(lens)
        check_lenses(names, mode, pool)
        paths = {"--out": out, "--prompt-file": prompt_file, "--context-file": context_file}
        for option, path in paths.items():
            usage(path is None or "\0" not in path, "no path holds a NUL character", option)
        many = batch.check_batch(ctx, prompts, shard, shard_size, batch_size, out)
        usage(answer is None or mode == "gain", "it takes --lens context --mode gain", "--answer")
        usage(answer is None or ids is None, "ids take --target id:NUMBER instead", "--answer")
        check_screen(workspace, keys, names)
        usage(0 < temperature < inf, "a number greater than 0", "--temperature")
        check_translator(translator, allow_pickle)
        cells, place = read_cells(size), read_pair(cell, "ROW,COLUMN, such as 5,0", "--cell")
        part = read_pair(span, "FIRST,END, such as 0,64", "--span")
        ordered = part is None or part[0] < part[1] or part[1] <= 0 <= part[0]
        usage(ordered, "the first token, and one after it", "--span")
        tier = shared.tier(color)
        on_paper = check_look(ctx, look, names, mode)
        from llmscope.batch import PromptJob
        from llmscope.cli.options.appearance import picture_look
        from llmscope.cli.options.command_line import command_line
        from llmscope.cli.options.edit_options import (
            check_whatif,
            check_words,
            other_ids,
            read_edits,
        )
        from llmscope.cli.options.prompt import check_chat, read_ids, read_other, read_prompt
        from llmscope.cli.output.destination import choose_output
        from llmscope.cli.output.progress import progress_line
        from llmscope.cli.output.snapshot_build import SCREEN, SnapshotRequest, compose
        from llmscope.export import PAPER, formats, provenance
        from llmscope.figure import Focus

        edits = read_edits(edit, versus_prompt)
        check_whatif(edits, versus_prompt, change, names)
        check_words((words_a, words_b), names, mode)
        other = read_other(versus_prompt, ids)
        focus = Focus(
            layer=layer,
            head=head,
            position=position,
            neuron=neuron,
            step=step,
            weight=weight,
            cell=place,
            translator=translator,
            context=context,
            mode=mode,
            span=part,
            pool=pool,
            top_k=top_k,
            temperature=temperature,
            sample_top_k=sample_top_k,
            top_p=top_p,
            min_p=min_p,
            change=change,
        )
        try:
            checked_focus(focus, LARGEST)
        except (TypeError, ValueError) as error:  # its text names the field, as the option
            raise typer.BadParameter(str(error)) from None
        load = Loader(
            model,
            device,
            dtype,
            threads,
            trust_remote_code,
            allow_pickle,
            tuple(adapter or ()),
            unverified,
            reward,
        )
        if many is not None:
            check_chat(chat, system, None)
            check_models(model, reward)
            from llmscope.cli.commands.batch_run import BatchRequest, write_batch

            looking = PromptJob(names, focus, edits, not no_special_tokens, chat, system)
            asked_of = BatchRequest(looking, many.size, many.bound, target, versus, versus_prompt)
            with progress_line() as progress:
                write_batch(many, load, asked_of, ctx, progress, _tell)
            return
        usual = "txt" if SCREEN in names else "svg" if on_paper else "json"
        output = choose_output(out, format, usual, force, paper=on_paper)
        script = read_keys(keys, output.format)
        check_scale(scale, output.format, on_paper)
        worn = PAPER if on_paper else picture_look(theme, tier, ascii, output)
        if on_paper:
            make_ready()
        check_chat(chat, system, ids)
        usage(context is None or context_file is None, "one of the two", "--context")
        before, after = read_prompt(prompt, prompt_file, context_file, ids)
        text = typed = before + after if isinstance(after, str) else after
        usage(SCREEN not in names or written is None, "the screen takes text", "--written")
        usage(answer is None or written is None, "one of the two", "--answer / --written")
        more = () if written is None else read_ids(written, "--written")
        usage(SCREEN not in names or isinstance(text, str), "the screen takes text", "--ids")
        check_models(model, reward)
        with progress_line() as progress:
            scope = load(progress)
            origin = None
            if on_paper or formats()[output.format].provenance:
                spec = model or scope.base.spec
                line = command_line(ctx, model=spec, format=output.format)
                origin = provenance(scope, line, progress)
        if chat and isinstance(text, str):
            text = scope.chat.prompt(text, system)
        for name, token in (("target", target), ("versus", versus)):
            if token is not None:
                asked: dict[str, Any] = {name: scope.token(token)}
                focus = replace(focus, **asked)
        if words_a is not None and words_b is not None:
            read = scope.words(words_a), scope.words(words_b)
            focus = replace(focus, words=(read[0].ids, read[1].ids))
            for note in (*read[0].notes, *read[1].notes):
                _tell(note)
        if answer is not None and isinstance(text, str):
            from llmscope.cli.options.answer_tokens import answer_ids

            focus = replace(focus, answer=answer_ids(answer, text, scope.subject.tokens))
        special_tokens = not no_special_tokens and not chat
        if other is not None:
            if chat and isinstance(other, str):
                other = scope.chat.prompt(other, system)
            held = other_ids(scope, other, special_tokens=special_tokens)
            focus = replace(focus, versus_prompt=held)
        if before and after and isinstance(text, str) and isinstance(typed, str):
            from llmscope.record.context.split import tokens_before

            end = _end_of_context(text, typed, len(before))
            spans = scope.encode(text, special_tokens=special_tokens).spans
            focus = replace(focus, context=tokens_before(spans, end))
        lists = None if words_a is None or words_b is None else (words_a, words_b)
        wanted = SnapshotRequest(
            *(text, special_tokens, names, focus, cells, worn, workspace, edits, other, lists),
            written=more,
            script=script,
            scale=scale,
            provenance=origin,
        )
        for notice in scope.subject.notices:
            _tell(notice)
        if script:  # its keys may start a generation
            rules = scope.info().rules
            for rule in rules.applied:
                _tell(f"it writes by its generation_config: {rule}")
            for rule in rules.ignored:
                _tell(f"of its generation_config is not applied: {rule}")
        output.put(compose(scope, wanted, output.format, _tell))


def _end_of_context(text: str, written: str, context: int) -> int:
    """Return where the context ends in a text that contains the prompt, perhaps trimmed.

    Args:
        text: the prompt, in the chat template if there is one.
        written: context and query as they were given.
        context: number of characters of the context.

    Raises:
        ScopeError: the chat template changed more than the spaces around the prompt.
    """
    bare = written.strip()
    at = text.find(bare)
    if at < 0:
        raise ScopeError(
            "the chat template changes the prompt, so that its context cannot be told from it",
            "the same without --chat",
        )
    return at + context - (len(written) - len(written.lstrip()))


def _tell(notice: str) -> None:
    typer.echo(f"note: {one_line(notice, NOTE)}", err=True)
