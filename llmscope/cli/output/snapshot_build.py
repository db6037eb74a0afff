"""Build the content of a snapshot from a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.draw import RenderOptions
from llmscope.edits import Edit
from llmscope.engine.events import tokens_of
from llmscope.export import (
    EditsCaption,
    FilePair,
    Paper,
    about_dict,
    content,
    formats,
    render_rows,
)
from llmscope.figure import Focus
from llmscope.snapshot import figure_of, figures_of, resolved

if TYPE_CHECKING:
    from llmscope.scope import Scope
    from llmscope.tui.actions.key_script import Press

SCREEN = "screen"
"""The lens name that stands for the whole screen."""

SCREEN_SIZE = (120, 40)
OVERVIEW = ("tokens", "residual", "next-token", "attention", "mlp")
"""The lenses that the screen shows at first; number formats write these for `screen`."""


@dataclass(frozen=True)
class SnapshotRequest:
    """The content that a snapshot should have.

    Attributes:
        prompt: text or token ids.
        special_tokens: add the tokenizer's special tokens.
        lenses: names, in order; or `SCREEN` alone.
        focus: where to look, not yet resolved against the model.
        size: of each figure, or of the screen, in cells; None takes the default.
        look: render options for pictures.
        workspace: of the screen; None takes the first.
        edits: edits to the pass, in order.
        other: prompt B, as text or token ids; None without one.
        words: two word lists for the screen, as the user wrote them.
        written: token ids that follow the prompt.
        script: keys to press on the screen.
        scale: magnification of svg, png and html.
        provenance: where the numbers come from; None if the format does not store it.
    """

    prompt: str | tuple[int, ...]
    special_tokens: bool
    lenses: tuple[str, ...]
    focus: Focus
    size: tuple[int, int] | None
    look: RenderOptions | Paper
    workspace: str | None = None
    edits: tuple[Edit, ...] = ()
    other: str | tuple[int, ...] | None = None
    words: tuple[str, str] | None = None
    written: tuple[int, ...] = ()
    script: tuple[Press, ...] = ()
    scale: float = 1.0
    provenance: Mapping[str, Any] | None = None

    @property
    def whatif(self) -> EditsCaption:
        """The caption of the edits and of prompt B in an export."""
        other = self.other if isinstance(self.other, str) else None
        return EditsCaption(tuple(map(str, self.edits)), other, self.other is not None)


def compose(
    scope: Scope,
    wanted: SnapshotRequest,
    format: str,  # noqa: A002
    tell: Callable[[str], None],
) -> str | bytes | FilePair:
    """Return the content of a snapshot, always from a fresh pass.

    Args:
        scope: the model.
        wanted: the content to build.
        format: the output format.
        tell: called with notes for the user about the prompt.

    Raises:
        ScopeError: the prompt is empty, too long, or has ids that the model lacks; or an edit does
            not fit the model or the prompt.
        ValueError: a layer, head or position is out of range.
    """
    for text, name in ((wanted.prompt, ""), (wanted.other, "prompt B: ")):
        if isinstance(text, str):
            for notice in scope.encode(text, special_tokens=wanted.special_tokens).notices:
                tell(f"{name}{notice}")
    numbers = format in formats() and formats()[format].holds == "numbers"
    if wanted.lenses == (SCREEN,) and not numbers:
        return _screen(scope, wanted, format)
    lenses = OVERVIEW if wanted.lenses == (SCREEN,) else wanted.lenses
    with scope.unchanged():
        recording = scope.record(
            wanted.prompt,
            fresh=True,
            special_tokens=wanted.special_tokens,
            edits=wanted.edits,
            versus_prompt=wanted.focus.versus_prompt,
            written=wanted.written,
        )
    info = scope.info()
    focus = resolved(scope, recording, wanted.focus)
    figures = figures_of(scope, recording, lenses, focus)
    text = wanted.prompt if isinstance(wanted.prompt, str) else None
    if text is not None and wanted.written and scope.subject.tokens is not None:
        text += scope.subject.tokens.describe(wanted.written).text
    cells = tokens_of(recording)
    about = about_dict(info, text, cells, focus, wanted.whatif, wanted.provenance)
    tokens = None if numbers else figure_of(scope, recording, "tokens", Focus())
    return content(
        figures,
        format,
        size=wanted.size,
        look=wanted.look,
        focus=focus,
        tokens=tokens,
        whatif=wanted.whatif,
        about=about,
        scale=wanted.scale,
    )


def _screen(scope: Scope, wanted: SnapshotRequest, format: str) -> str | bytes:  # noqa: A002
    from llmscope.engine import Engine
    from llmscope.tui.screenshot import capture
    from llmscope.tui.state.context_marker import Marked

    assert isinstance(wanted.prompt, str)
    look = wanted.look
    assert isinstance(look, RenderOptions)
    # Only the engine runs a pass, so that the picture shows its true cost; here the prompt is only
    # tokenized.
    encoded = scope.encode(wanted.prompt, special_tokens=wanted.special_tokens)
    positions, before = len(encoded), wanted.focus.context
    cut = None if before is None else max((end for _, end in encoded.spans[:before]), default=None)
    info = scope.info()
    focus = wanted.focus
    if positions:  # an empty prompt is reported by the engine
        focus = focus.resolve(layers=info.layers, heads=info.heads, positions=positions)
    width, height = wanted.size or SCREEN_SIZE
    picture = capture(
        lambda post: Engine(lambda _: scope, post),
        spec=scope.subject.spec,
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
    about = about_dict(info, picture.prompt, (), focus, wanted.whatif, wanted.provenance)
    return render_rows(picture.rows, format, look, about, scale=wanted.scale)
