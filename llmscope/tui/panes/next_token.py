"""The next-token pane: predictions after the token under the cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from llmscope.engine.events import Want
from llmscope.figure import Focus
from llmscope.lenses.logit_lens import TRANSLATOR
from llmscope.lenses.next_token import SAMPLER, sampler
from llmscope.models.sampler import Sampler
from llmscope.support.text import quoted_token
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState

LAYER_VIEW = "layer"
"""The view of what the model would say after the cursor's layer."""
SLOPE_VIEW = "slope"
"""The view of what the model does with a learned lens's direction, against the lens."""
SHORT = {"temperature": "T", "top-k": "k", "top-p": "p", "min-p": "min-p"}


def sampler_in_short(focus: Focus) -> str:
    """Format a figure's sampler settings in short; empty for the model's own distribution."""
    settings = sampler(focus)
    plain = settings == Sampler(temperature=1.0)
    return "" if plain else " ".join(f"{SHORT[name]} {value}" for name, value in settings.words)


class NextTokenPane(FigurePane):
    """Next-token candidates with their probabilities; up and down select the target."""

    key: ClassVar[str] = "next-token"
    snapshots: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "next-token": ("",),
        "logit-lens": (LAYER_VIEW, SLOPE_VIEW),
    }
    least_rows: ClassVar[int] = 6
    most_rows: ClassVar[int | None] = 12
    words: ClassVar[str] = (
        "next token, next word, prediction, predictions, probability, probabilities, logits, "
        "softmax, entropy, uncertainty, confidence, candidates, distribution, top tokens, "
        "output, what comes next"
    )
    usage: ClassVar[str] = """\
Up and down choose a candidate: the map's view of the target then asks about it. {pin-target} \
keeps it wherever the cursor goes. {map-view} changes to the logit lens at the cursor: what the \
model would say if it stopped after that layer; with a learned lens ({lens}) also to what the \
model does with the lens's direction, against what the lens says. {go-to} goes to a layer by \
number and shows that.

{write-token} writes a token after the prompt and {write-on} goes on; {sampler} sets how it is \
drawn. At temperature 0 that is the first candidate; above, the pane shows the distribution that \
is drawn from, its settings in the title (T, k, p, min-p), and dims what is never drawn.

Top-p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"; min-p: Nguyen et al. \
2024, "Turning Up the Heat"."""
    row: ClassVar[str] = "candidate"
    lists = ("token",)
    views: ClassVar[tuple[str, ...]] = ("next", LAYER_VIEW, SLOPE_VIEW)
    view_words: ClassVar[Mapping[str, str]] = {
        "next": "of the model, final prediction",
        LAYER_VIEW: (
            "at the cursor's layer, what it knows at a layer, top-k of the logit lens, prediction "
            "after a layer, early exit"
        ),
        SLOPE_VIEW: (
            "the lens against the model, check the lens, finite difference of the lens, slope, "
            "verify the Jacobian lens"
        ),
    }
    changes: ClassVar[bool] = False  # the figure always shows both values

    @property
    def apart(self) -> bool:
        """True: the figure includes B's probabilities only if the change is asked for."""
        return True

    def want(self, state: ViewState) -> Want:
        """Return the want for the candidates after the cursor's token, or after its layer."""
        target = state.target if state.target_pinned else None
        focus = Focus(position=state.requested_position, target=target, top_k=self.rows)
        view = state.view_of(self.key, self.views)
        if view == SLOPE_VIEW and state.translator is not None:
            checked = replace(Focus(mode=view), position=focus.position, target=target)
            return Want(self.key, "logit-lens", TRANSLATOR.set(checked, state.translator))
        if view == LAYER_VIEW:
            return Want(
                self.key,
                "logit-lens",
                TRANSLATOR.set(
                    replace(focus, layer=state.focus.layer, mode="layer"), state.translator
                ),
            )
        chosen = state.sampler
        if not chosen.greedy:  # the top token is the same in all
            values = (chosen.temperature, chosen.top_k, chosen.top_p, chosen.min_p)
            for option, value in zip(SAMPLER, values, strict=True):
                focus = option.set(focus, value)
        return Want(self.key, "next-token", focus)

    def offered_views(self, state: ViewState) -> Sequence[int]:
        """Return the indices of the views; the check of a lens needs one."""
        return [
            at
            for at, view in enumerate(self.views)
            if view != SLOPE_VIEW or state.translator is not None
        ]

    def heading(self, result: Shown) -> str:
        """Return the title: the token before the candidates, and the sampler settings."""
        if result.want.lens == "logit-lens":
            return super().heading(result)
        after = str(result.figure.extra.get("after", ""))
        title = f"Next token after {quoted_token(after)}" if after else "Next token"
        short = sampler_in_short(result.want.focus)
        return f"{title} · {short}" if short else title

    @property
    def _checks_lens(self) -> bool:
        """Whether the rows are layers, after which a lens is checked, and no candidates."""
        return self._shown is not None and self._shown.figure.extra.get("mode") == SLOPE_VIEW

    def row_axis(self, state: ViewState) -> str:
        """Return that rows are candidates, or layers where a lens is checked."""
        return "layer" if self._checks_lens else self.row

    def listed(self, state: ViewState) -> Sequence[int]:
        """Return the token ids of the candidates, in row order."""
        if self._shown is None or self._checks_lens:
            return []
        return [int(token) for token in self._shown.figure.extra.get("ids", ())]

    def chosen_row(self, state: ViewState) -> int:
        """Return the row of the target; the first where it is no candidate."""
        ids = self.listed(state)
        return ids.index(state.target) if state.target in ids else 0

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with a candidate as the target."""
        return state.set_target(self.listed(state)[row], pinned=False)
