"""The sweep panes of the What if workspace: ablation, and activation patching from prompt B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from llmscope.edits import Edit, Receiver, Where
from llmscope.tui.panes.lens import HeadsPane, LensPane
from llmscope.tui.state.view_state import ViewState

HEADS = "heads"
"""The mode of both lenses in which columns are heads."""
PATHS = "paths"
"""The mode of patching in which columns are heads and the MLP, each with an edge to the logits."""


class AblationPane(HeadsPane):
    """The effect on the answer of ablating each head or each part of a layer."""

    key: ClassVar[str] = "ablation"
    layer_rows: ClassVar[int | None] = 6
    words: ClassVar[str] = (
        "ablation, ablations, ablation sweep, ablate every head, head importance, what breaks"
    )
    usage: ClassVar[str] = """\
Here the cursor is a layer and a head, and {edit-zero} keeps the ablation of that cell as an edit. \
{map-view} goes round heads and parts (attention, MLP, all of the layer), each set to zero or to \
its mean over the prompt, measured by the answer or, for the whole distribution, by KL. The answer \
is the likeliest next token; {pin-target} pins another, {versus} holds it against a second one. \
The title says how many cells are there."""
    changes: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    lens: ClassVar[str] = "ablation"
    views: ClassVar[tuple[str, ...]] = (
        HEADS,
        "heads-kl",
        "heads-mean",
        "heads-mean-kl",
        "parts",
        "parts-kl",
        "parts-mean",
        "parts-mean-kl",
    )
    view_words: ClassVar[Mapping[str, str]] = {
        HEADS: "heads to zero, zero ablation of heads",
        "heads-kl": "heads to zero by KL",
        "heads-mean": "heads to their mean, mean ablation, mean ablation of heads",
        "heads-mean-kl": "heads to their mean by KL",
        "parts": "parts to zero, ablate layers, skip layers, layer importance",
        "parts-kl": "parts to zero by KL",
        "parts-mean": "parts to their mean, mean ablation of layers",
        "parts-mean-kl": "parts to their mean by KL",
    }
    asks: ClassVar[tuple[str, ...]] = ("position", "target", "versus")

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the cell's ablation as an edit: of the head, or of the whole layer."""
        mode = state.view_of(self.key, self.views)
        edit = state.zero_head if mode.startswith(HEADS) else state.zero_layer
        return replace(edit, action="mean") if edit is not None and "mean" in mode else edit


class PatchingPane(LensPane):
    """How much of prompt B's answer patching each place recovers."""

    key: ClassVar[str] = "patching"
    layer_rows: ClassVar[int | None] = 6
    words: ClassVar[str] = (
        "patching, activation patching, causal tracing, causal mediation, interchange "
        "intervention, resample ablation, path patching, denoising, noising, restore from B"
    )
    usage: ClassVar[str] = """\
{keep-b} keeps the present prompt as B, {write-b} writes one; then make this prompt the other one. \
Up and down move by layers, left and right by tokens or heads, and {edit-zero} keeps the patch of \
that cell as an edit. {map-view} goes round the stream, attention, MLP, heads, and paths: what one \
head or MLP writes, read by the logits alone; {edit-write} writes that edit with another reader. \
The title says how many cells are there."""
    row: ClassVar[str] = "layer"
    changes: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    lens: ClassVar[str] = "patching"
    views: ClassVar[tuple[str, ...]] = ("stream", "attention", "mlp", HEADS, PATHS)
    view_words: ClassVar[Mapping[str, str]] = {
        "stream": "stream, patch the residual stream, resid_pre",
        "attention": "attention output, patch attention",
        "mlp": "MLP output, patch the MLP",
        HEADS: "heads, patch heads, head outputs",
        PATHS: "paths, path patching, edges, direct effect, direct path to the logits",
    }
    asks: ClassVar[tuple[str, ...]] = ("position", "target", "versus")

    def column_axis(self, state: ViewState) -> str:
        """Return that columns are tokens, or heads in some views."""
        heads = state.view_of(self.key, self.views) in (HEADS, PATHS)
        return "head" if heads else self.column

    def point(self, state: ViewState, hit: Mapping[str, int]) -> ViewState:
        """Move the cursor to the cell's layer and its token or head; the last part is the MLP."""
        return super().point(state, {"head": hit["part"], **hit} if "part" in hit else hit)

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the cell's patch as an edit."""
        if state.info is None:
            return None
        mode, here = state.view_of(self.key, self.views), state.focus
        if mode in (HEADS, PATHS):
            head = state.zero_head
            into = Receiver("logits") if mode == PATHS else None
            return None if head is None else replace(head, action="patch", into=into)
        where = Where(here.position, here.position)
        return Edit("patch", mode, here.layer, where=where)  # type: ignore[arg-type]
