"""`llmscope snapshot`: write the screen's pictures and numbers from a script."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from llmscope.cli import completion
from llmscope.cli.commands import batch
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.groups import ModelOptions, VolumeOptions, group_options
from llmscope.cli.options.keys import read_keys
from llmscope.cli.options.loading import StreamsFile
from llmscope.cli.options.panels import PanelCommand
from llmscope.cli.options.paper import PaperOptions, check_look
from llmscope.cli.options.picture import PictureOptions
from llmscope.cli.options.prompt import PromptOptions, check_chat, check_texts
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
    from llmscope.cli.options.loading import Loader
    from llmscope.cli.output.destination import Output
    from llmscope.cli.output.snapshot_build import Rendering
    from llmscope.draw import RenderOptions
    from llmscope.edits import Edit
    from llmscope.export import Paper, PaperStyle, Size
    from llmscope.figure import Focus
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope
    from llmscope.tui.key_script import Press


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
        batched = batch.check_batch(ctx, many, picture.out or [])
        for out in picture.out or []:
            usage("\0" not in out, "no path holds a NUL character", "--out")
        check_texts(texts, part, lenses)
        check_screen(picture.workspace, picture.keys, tuple(name for name, _ in lenses))
        from llmscope.cli.options.edit_options import check_whatif, read_edits
        from llmscope.cli.options.lens_options import check_options, every_of, read_focus

        names = tuple(name for name, _ in lenses)
        edits = read_edits(edit, texts.versus_prompt, many=batched is not None)
        of_edits = [
            *(("translator",) if any(edit.uses_lens for edit in edits) else ()),
            *(("features",) if any(edit.uses_features for edit in edits) else ()),
        ]
        pickle = loading.allow_pickle
        check_options(declared, lenses, pickle, of_edits, tables=batched is not None)
        focus = read_focus(declared, mode, change)
        loader = loading.loader(
            model,
            translator=declared["translator"],
            features=tuple(declared["features"] or ()),
        )
        load = second.onto(loader)
        check_whatif(
            *(edits, texts.versus_prompt, change, names),
            two_models=load.versus is not None and not isinstance(load.versus, StreamsFile),
            many=batched is not None,
        )
        look = _Look(tuple(lens), lenses, focus, edits, every_of(declared), load)
        if batched is not None:
            _write_tables(ctx, look, texts, batched)
        else:
            _write_pictures(ctx, look, texts, part, picture, paper)


@dataclass(frozen=True)
class _Look:
    """What a snapshot looks at, checked as far as possible without a model.

    Attributes:
        entries: the lenses as given.
        lenses: their names, each with its mode.
        focus: where to look, not yet in the model's tokens.
        edits: edits to the pass, in order.
        every: which of `layer` and `head` take all their values in turn.
        load: loads the model.
    """

    entries: tuple[str, ...]
    lenses: tuple[tuple[str, str], ...]
    focus: Focus
    edits: tuple[Edit, ...]
    every: tuple[str, ...]
    load: Loader

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the lenses."""
        return tuple(name for name, _ in self.lenses)


def _write_tables(
    ctx: typer.Context, look: _Look, texts: PromptOptions, batched: batch.Batch
) -> None:
    """Run many prompts through the lenses, into a folder of tables."""
    check_chat(texts.chat, texts.system, None)
    check_models(look.load.model, look.load.reward)
    from llmscope.cli.commands.batch_run import BatchRequest, write_batch
    from llmscope.cli.options.lens_options import token_texts
    from llmscope.cli.output.progress import EVERY, progress_line
    from llmscope.jobs.snapshots import PromptJob

    usage(len(set(look.names)) == len(look.names), "one table a lens: each once", "--lens")
    pairs = zip(look.lenses, look.entries, strict=True)
    job = PromptJob(
        *(look.names, look.focus, look.edits),
        special_tokens=not texts.no_special_tokens,
        chat=texts.chat,
        system=texts.system,
        every=look.every,
        modes=tuple(pair for pair, entry in pairs if ":" in entry),
    )
    request = BatchRequest(
        *(job, batched.size, batched.bound, token_texts(ctx.params), texts.versus_prompt)
    )
    with progress_line(every=EVERY) as progress:
        write_batch(batched, look.load, request, ctx, progress)


def _write_pictures(
    ctx: typer.Context,
    look: _Look,
    texts: PromptOptions,
    part: TranscriptOptions,
    picture: PictureOptions,
    paper: PaperOptions,
) -> None:
    """Look at one prompt, and write a picture or a file of numbers for each output."""
    from llmscope.cli.options.given_prompt import GivenPrompt
    from llmscope.cli.options.lens_options import token_texts, with_tokens
    from llmscope.cli.output.destination import put_all
    from llmscope.cli.output.progress import EVERY, StepsLine, noted, progress_line
    from llmscope.cli.output.snapshot_build import SCREEN, SnapshotRequest, compose

    forms = _OutputForms.read(ctx, look, picture, paper)
    for name in look.every:
        usage(SCREEN not in look.names, f"the screen is of one {name}", f"--{name}")
    both = look.focus.context is not None and texts.context_file is not None
    usage(not both, "give --context or --context-file, not both", "--context")
    streams = look.load.versus if isinstance(look.load.versus, StreamsFile) else None
    given = GivenPrompt.read(texts, part, streams)
    if SCREEN in look.names:
        usage(texts.written is None, "it does not go with --lens screen", "--written")
        usage(isinstance(given.typed, str), "--lens screen needs a text: --prompt", "--ids")
    check_models(look.load.model, look.load.reward)
    with progress_line() as progress:
        scope = look.load(progress)
        renderings = forms.renderings(ctx, look.load.model or scope.base.spec, scope, progress)
    prompt = given.for_model(scope, with_tokens(look.focus, token_texts(ctx.params), scope))
    request = SnapshotRequest(
        *(prompt.text, given.special_tokens, look.entries, prompt.focus, forms.cells),
        *(picture.workspace, look.edits),
        other=prompt.other,
        words=texts.words,
        written=given.written,
        script=forms.script,
        scale=picture.scale,
        every=look.every,
        style=forms.style,
    )
    for notice in scope.loaded_model.notices:
        tell(notice)
    if forms.script:  # its keys may start a generation
        rules = scope.info().rules
        for rule in rules.applied:
            tell(f"it generates by its generation_config: {rule}")
        for rule in rules.ignored:
            tell(f"of its generation_config is not applied: {rule}")
    with progress_line(every=EVERY) as progress:
        contents = compose(scope, request, renderings, noted(progress), StepsLine(progress))
    put_all(list(zip(forms.outputs, contents, strict=True)))


@dataclass(frozen=True)
class _OutputForms:
    """Where a snapshot goes, and in which form.

    Attributes:
        outputs: the files, or stdout.
        looks: the look of each.
        cells: the size of a figure or of the screen.
        script: keys to press on the screen.
        style: colours, font and width on paper.
    """

    outputs: Sequence[Output]
    looks: Sequence[RenderOptions | Paper]
    cells: Size
    script: tuple[Press, ...]
    style: PaperStyle

    @classmethod
    def read(
        cls, ctx: typer.Context, look: _Look, picture: PictureOptions, paper: PaperOptions
    ) -> Self:
        """Return the outputs that options ask for.

        Raises:
            BadParameter: an option does not go with the format, the lenses or another option.
            ScopeError: a theme does not exist, or a file is there already.
        """
        from llmscope.cli.options.appearance import picture_look
        from llmscope.cli.options.lens_options import check_screen_options
        from llmscope.cli.output.destination import choose_outputs
        from llmscope.cli.output.snapshot_build import OVERVIEW, SCREEN
        from llmscope.export import PAPER, PAPER_FORMATS, formats

        tier = shared.tier(picture.color)
        on_paper = check_look(ctx, picture.look, look.lenses)
        style = paper.style(on_paper, picture.size, tier)
        named = with_json(ctx.params["json"], ctx.params["format"])
        usual = "txt" if SCREEN in look.names else "svg" if on_paper else "json"
        outputs = choose_outputs(picture.out or [], named, usual, picture.force, paper=on_paper)
        cells = read_cells(picture.size, outputs)
        written = [output.format for output in outputs]
        scripts = [read_keys(picture.keys, name) for name in written]
        if SCREEN in look.names:
            numbers = any(formats()[name].holds == "numbers" for name in written)
            check_screen_options(ctx.params, ctx.params["mode"], OVERVIEW if numbers else ())
        check_scale(picture.scale, written, on_paper)
        check_picture_options(shared.options_said(ctx), written)
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
        return cls(outputs, looks, cells, scripts[0], style)

    def renderings(
        self, ctx: typer.Context, spec: str, scope: Scope, progress: Progress | None
    ) -> list[Rendering]:
        """Return the form of each output, with the command line that writes it alone.

        Args:
            ctx: the command line.
            spec: the model's name in that command line.
            scope: the model.
            progress: told of the bytes of weights that are read; None: not called.
        """
        from llmscope.cli.options.command_line import command_line
        from llmscope.cli.options.paper import TERMINAL
        from llmscope.cli.output.snapshot_build import Rendering
        from llmscope.export import PAPER, formats, provenance_of

        origin: dict[str, Any] | None = None
        renderings = []
        for output, look in zip(self.outputs, self.looks, strict=True):
            known_format = formats().get(output.format)
            if look != PAPER and known_format is not None and not known_format.provenance:
                renderings.append(Rendering(output.format, look))
                continue
            if origin is None:  # once: it reads all weights
                origin = provenance_of(scope.origin(), None, progress)
            settled: dict[str, str | None] = {"model": spec, "format": output.format}
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
    app.command("snapshot", cls=PanelCommand)(
        group_options(snapshot, _registered_options(), after="mode")
    )
    return typer.main.get_command(app)


def _registered_options() -> Iterator[inspect.Parameter]:
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
