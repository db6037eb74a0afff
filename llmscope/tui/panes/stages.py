"""The panes of the Stages workspace: the active adapter against the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from llmscope.draw.grid.layout import NARROWEST_TEXT
from llmscope.engine.events import Want
from llmscope.figure import Focus
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.panes.map import visible_span
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState

HEADINGS = {
    "kl": "KL of predictions · tuned ‖ base",
    "reward": "log π/π_ref of each token",
    "score": "score of the reward model",
}
OF_ANSWER = {"kl": "KL of the answer · tuned ‖ base", "reward": "log π/π_ref of the answer"}


class AdapterPane(LensPane):
    """A pane for a lens that needs an active adapter."""

    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "stages"


class StagesPane(AdapterPane):
    """How the adapter changed each weight matrix, and at which depth the change shows."""

    key: ClassVar[str] = "stages"
    words: ClassVar[str] = (
        "weight difference, weight diff, diff of weights, model diffing, what training changed, "
        "rank of the update"
    )
    usage: ClassVar[str] = """\
The adapter that is on, against the base model; {adapter} goes round those that are loaded, \
llmscope MODEL --adapter ADAPTER loads some, and {teach} in {workspace-context} makes one of a \
context. \
{map-view} changes between how much of each matrix was changed, in how many directions, what the \
largest of them say in the layer under the cursor, at which depth the change shows along the \
prompt, and how much otherwise each head writes on the same input. Up and down move by \
layers. A matrix with 0 was left as it was."""
    row: ClassVar[str] = "layer"
    clicks = ("head",)
    views: ClassVar[tuple[str, ...]] = ("weights", "rank", "directions", "lens", "heads")
    view_words: ClassVar[Mapping[str, str]] = {
        "weights": "size of the change, weight change, delta of the weights, Frobenius norm",
        "rank": "effective rank, rank, low rank, stable rank",
        "directions": "largest directions, singular vectors, SVD, singular value decomposition",
        "lens": "depth of the change, KL by layer",
        "heads": "changed heads, change of attention by head",
    }

    def want(self, state: ViewState) -> Want:
        """Return the want: all layers' matrices, one layer's directions, or the visible columns."""
        mode = state.view_of(self.key, self.views)
        focus = Focus(mode=mode)
        if mode in ("directions", "lens"):
            focus = replace(focus, layer=state.focus.layer)
        if mode == "lens" and state.info is not None:
            span = visible_span(state, self.size, NARROWEST_TEXT)
            focus = replace(focus, position=state.requested_position, span=span)
        return Want(self.key, self.lens, focus)


class StagesKlPane(AdapterPane):
    """KL divergence between the predictions with and without the adapter after each token."""

    key: ClassVar[str] = "stages-kl"
    words: ClassVar[str] = "prediction shift, KL to the base model, implicit reward"
    usage: ClassVar[str] = """\
A bar is how far the adapter moved the prediction after a token. Below are the tokens whose \
probability it changed most after the one under the cursor, with the adapter and without. \
{map-view} shows how much likelier it finds each token than the base does; {keep-b} keeps a prompt \
as B, and then the sums of both answers are held against each other. Of a chat, and with a B, only \
the answer's tokens have bars; {map-view} goes on to all, and to the score of a reward model. \
Left and right move by tokens."""
    views: ClassVar[tuple[str, ...]] = ("kl", "reward", "kl-all", "reward-all", "score")
    view_words: ClassVar[Mapping[str, str]] = {
        "kl": "KL of the answer, KL penalty",
        "reward": "log ratio of the answer, reward, implicit reward, DPO reward, log ratio",
        "kl-all": "KL of all tokens",
        "reward-all": "log ratio of all tokens",
        "score": "reward model, score of the reward model, preference model",
    }
    asks: ClassVar[tuple[str, ...]] = ("position",)

    def offered_views(self, state: ViewState) -> Sequence[int]:
        """Return the indices of the views; without a reward model there is no score."""
        none = state.info is None or state.info.reward is None
        return [at for at, mode in enumerate(self.views) if mode != "score" or not none]

    def heading(self, result: Shown) -> str:
        """Return a short title, since the pane is narrow."""
        mode = result.want.focus.mode.removesuffix("-all")
        return (OF_ANSWER if result.figure.extra.get("left_out") else HEADINGS)[mode]
