"""Build the content of a snapshot from a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.cli.output.destination import Content
from llmscope.draw import RenderOptions, Row
from llmscope.edits import Edit, read_prompt_b
from llmscope.engine.events import tokens_of
from llmscope.errors import ScopeError
from llmscope.export import (
    PAPER,
    PLAIN_STYLE,
    EditsCaption,
    Paper,
    PaperStyle,
    Size,
    about_dict,
    content,
    formats,
    render_rows,
)
from llmscope.export.bounds import MOST_FIGURES
from llmscope.figure import Focus
from llmscope.scope.figures import (
    Report,
    figure_of,
    figures_of,
    focuses,
    name_and_mode,
    resolve_focus,
)

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope
    from llmscope.tui.key_script import Press

SCREEN = "screen"
"""The lens name that stands for the whole screen."""

SCREEN_SIZE = (120, 40)
MOST_DRAWN, MOST_ON_PAPER = 500, 64
"""Maximum number of figures of a picture: laying out a page takes the square of their number."""
OVERVIEW = ("tokens", "residual", "next-token", "attention", "mlp")
"""The lenses that the screen shows at first; number formats write these for `screen`."""


@dataclass(frozen=True)
class Rendering:
    """A form in which a snapshot is wanted.

    Attributes:
        format: the name of a format.
        look: render options for pictures.
        provenance: where the numbers come from; None if the format does not store it.
    """

    format: str
    look: RenderOptions | Paper
    provenance: Mapping[str, Any] | None = None

    @property
    def numbers(self) -> bool:
        """Whether the format holds numbers in place of a picture."""
        return self.format in formats() and formats()[self.format].holds == "numbers"


@dataclass(frozen=True)
class SnapshotRequest:
    """The content that a snapshot should have.

    Attributes:
        prompt: text or token ids.
        special_tokens: add the tokenizer's special tokens.
        lenses: names in order, each with `:mode` where it has one of its own; or `SCREEN` alone.
        focus: where to look, not yet resolved against the model.
        size: of each figure, or of the screen, in cells; None or `auto`: see `content`.
        workspace: of the screen; None takes the first.
        edits: edits to the pass, in order.
        other: prompt B, as text or token ids; None without one.
        words: two word lists for the screen, as the user wrote them.
        written: token ids that follow the prompt.
        script: keys to press on the screen.
        scale: magnification of svg, png and html.
        every: which of `layer` and `head` take all their values in turn, a figure for each.
        style: colours, font and width of pictures on paper.
    """

    prompt: str | tuple[int, ...]
    special_tokens: bool
    lenses: tuple[str, ...]
    focus: Focus
    size: Size
    workspace: str | None = None
    edits: tuple[Edit, ...] = ()
    other: str | tuple[int, ...] | None = None
    words: tuple[str, str] | None = None
    written: tuple[int, ...] = ()
    script: tuple[Press, ...] = ()
    scale: float = 1.0
    every: tuple[str, ...] = ()
    style: PaperStyle = PLAIN_STYLE

    @property
    def whatif(self) -> EditsCaption:
        """The caption of the edits and of prompt B in an export."""
        other = self.other if isinstance(self.other, str) else None
        return EditsCaption(tuple(map(str, self.edits)), other, self.other is not None)


def compose(
    scope: Scope,
    wanted: SnapshotRequest,
    forms: Sequence[Rendering],
    tell: Callable[[str], None],
    report: Report | None = None,
) -> list[Content]:
    """Return the content of a snapshot in each form, all from the same fresh pass.

    Args:
        scope: the model.
        wanted: the content to build.
        forms: the formats and looks.
        tell: called with notes for the user about the prompt, and with why a figure was refused.
        report: told of the steps of slow lenses; None: not called.

    Raises:
        ScopeError: the prompt is empty, too long, or has ids that the model lacks; or an edit does
            not fit the model or the prompt; or there would be too many figures for a format.
        ValueError: a layer, head or position is out of range.
    """
    for text, name in ((wanted.prompt, ""), (wanted.other, "prompt B: ")):
        if isinstance(text, str):
            for notice in scope.encode(text, special_tokens=wanted.special_tokens).notices:
                tell(f"{name}{notice}")

    def of_screen(form: Rendering) -> bool:
        return wanted.lenses == (SCREEN,) and not form.numbers

    screens = iter(_screens(scope, wanted, [form for form in forms if of_screen(form)]))
    others = [form for form in forms if not of_screen(form)]
    figures = iter(_figures(scope, wanted, others, tell, report) if others else ())
    return [next(screens if of_screen(form) else figures) for form in forms]


def _figures(
    scope: Scope,
    wanted: SnapshotRequest,
    forms: Sequence[Rendering],
    tell: Callable[[str], None],
    report: Report | None,
) -> list[Content]:
    """Return the figures of a snapshot in each form; say why any was refused."""
    lenses = OVERVIEW if wanted.lenses == (SCREEN,) else wanted.lenses
    with scope.unchanged():
        recording = scope.record(
            wanted.prompt,
            fresh=True,
            special_tokens=wanted.special_tokens,
            edits=wanted.edits,
            versus_prompt=wanted.focus.versus_prompt if read_prompt_b(wanted.edits) else None,
            written=wanted.written,
        )
    info = scope.info()
    focus = resolve_focus(scope, recording, wanted.focus)
    counts = (
        len(focuses(scope, name, focus, wanted.every, mode))
        for name, mode in map(name_and_mode, lenses)
    )
    _check_count(sum(counts), forms)
    figures = figures_of(scope, recording, lenses, focus, wanted.every, report)
    refused = [figure for figure in figures if figure.verdict.status == "refused"]
    for line in dict.fromkeys(
        f"{figure.lens} is refused: {figure.verdict.reason}" for figure in refused
    ):
        tell(line)
    text = wanted.prompt if isinstance(wanted.prompt, str) else None
    if text is not None and wanted.written and scope.loaded_model.tokens is not None:
        text += scope.loaded_model.tokens.describe(wanted.written).text
    cells = tokens_of(recording)
    drawn = not all(form.numbers for form in forms)
    tokens = figure_of(scope, recording, "tokens", Focus()) if drawn else None
    return [
        content(
            figures,
            form.format,
            size=wanted.size,
            look=form.look,
            focus=focus,
            tokens=tokens,
            whatif=wanted.whatif,
            about=about_dict(info, text, cells, focus, wanted.whatif, form.provenance),
            scale=wanted.scale,
            style=wanted.style,
        )
        for form in forms
    ]


def _check_count(count: int, forms: Sequence[Rendering]) -> None:
    """Check that no form gets more figures than it can hold.

    Raises:
        ScopeError: there are too many.
    """
    for form in forms:
        limit = MOST_FIGURES if form.numbers else MOST_DRAWN
        what = "a snapshot" if form.numbers else "a picture"
        if form.look == PAPER:
            limit, what = MOST_ON_PAPER, "a page"
        if count > limit:
            raise ScopeError(
                f"{count:,} figures are too many for {what}: at most {limit:,}",
                "one layer or head; json; or a table of all: --prompts FILE",
            )


def _screens(scope: Scope, wanted: SnapshotRequest, forms: Sequence[Rendering]) -> list[Content]:
    """Return the screen in each form; it is drawn once for each look."""
    drawn: dict[RenderOptions, tuple[list[Row], Mapping[str, Any]]] = {}
    contents: list[Content] = []
    for form in forms:
        assert isinstance(form.look, RenderOptions)
        if form.look not in drawn:
            drawn[form.look] = _screen(scope, wanted, form.look)
        rows, about = drawn[form.look]
        if form.provenance is not None:
            about = {**about, "provenance": dict(form.provenance)}
        contents.append(render_rows(rows, form.format, form.look, about, scale=wanted.scale))
    return contents


def _screen(
    scope: Scope, wanted: SnapshotRequest, look: RenderOptions
) -> tuple[list[Row], Mapping[str, Any]]:
    """Return the rows of the screen, and its metadata without the provenance."""
    from llmscope.engine import Engine
    from llmscope.tui.screenshot import capture
    from llmscope.tui.state.context_marker import Marked

    assert isinstance(wanted.prompt, str)
    # Only the engine runs a pass, so that the picture shows its true cost; here the prompt is only
    # tokenized.
    encoded = scope.encode(wanted.prompt, special_tokens=wanted.special_tokens)
    positions, before = len(encoded), wanted.focus.context
    cut = None if before is None else max((end for _, end in encoded.spans[:before]), default=None)
    info = scope.info()
    focus = wanted.focus
    if positions:  # an empty prompt is reported by the engine
        heads = info.heads_at(focus.layer)
        focus = focus.resolve(layers=info.layers, heads=heads, positions=positions)
    width, height = wanted.size if isinstance(wanted.size, tuple) else SCREEN_SIZE
    picture = capture(
        lambda post: Engine(lambda _: scope, post),
        spec=scope.loaded_model.spec,
        prompt=Marked(wanted.prompt, cut).written,
        special_tokens=wanted.special_tokens,
        workspace=wanted.workspace,
        width=width,
        height=height,
        look=look,
        focus=focus,
        edits=wanted.edits,
        versus_prompt=wanted.other if isinstance(wanted.other, str) else None,
        change=focus.change,
        words=wanted.words,
        script=wanted.script,
    )
    if wanted.script:  # keys may have changed the prompts
        wanted = replace(wanted, prompt=picture.prompt, other=picture.versus_prompt)
    return list(picture.rows), about_dict(info, picture.prompt, (), focus, wanted.whatif)
