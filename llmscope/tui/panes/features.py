"""The panes of sparse dictionaries: active features, one of them, and how well the whole fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.segment import Segment

from llmscope.draw import styles_for
from llmscope.draw.caption import caption_rows
from llmscope.draw.painting import Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.edits import Edit
from llmscope.engine.events import Want
from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.features.options import FEATURE, FEATURES, PLACE, QUERY
from llmscope.support.text import quoted_token
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.theme.textual_theme import text_styles

MISSING = "dictionary of features"
FIT = " · FVU "
"""What the lens adds to the title of a figure whose dictionary fits badly."""
MEASURED = "FVU "
"""How the line of a caption begins that tells how well the dictionary fits."""
MEASURING = "spliced in: KL ….. nats (chance …..), loss ……. (……)"
"""What stands in the caption meanwhile, as long as the numbers are, so that no row moves."""


class FeaturePane(LensPane):
    """Base class of the panes of the dictionary that is nearest to the cursor's layer.

    Attributes:
        slow_views: the views whose figures take many passes, or a backward one.
    """

    lens: ClassVar[str] = "features"
    lists = ("feature",)
    asks: ClassVar[tuple[str, ...]] = ("layer", "position", "target", "versus", "top_k")
    slow_views: ClassVar[tuple[str, ...]] = ()

    def __init__(self, look: RenderOptions) -> None:
        super().__init__(look)
        self._judged: dict[tuple[object, ...], str] = {}

    def want(self, state: ViewState) -> Want:
        """Return the want for the view, of the dictionary that is shown."""
        want = super().want(state)
        focus, here = want.focus, state.dictionary
        if here is not None:  # the layers that are nearest to it show the same figure
            focus = replace(focus, layer=here.layer)
        focus = FEATURES.set(focus, state.requested_features)
        return replace(want, focus=PLACE.set(focus, state.requested_place))

    def sweeps(self, state: ViewState) -> bool:
        """Return whether the view takes many passes."""
        return state.view_of(self.key, self.views) in self.slow_views

    def present(
        self, state: ViewState, result: Shown | None, *, stale: bool, tokens: Shown | None = None
    ) -> None:
        """Show a figure; without a dictionary, how to give one."""
        result = None if result is None else self._or_lacking(result, state)
        super().present(state, result, stale=stale, tokens=tokens)

    def message(self, result: Shown, state: ViewState) -> str:
        """Return the text in place of a refused figure; without a dictionary, how to give one."""
        return super().message(self._or_lacking(result, state), state)

    def _or_lacking(self, result: Shown, state: ViewState) -> Shown:
        if not self.live or state.dictionaries or result.saved:
            return result
        return replace(result, figure=Figure.lacking(self.lens, self.called, MISSING, ""))

    def heading(self, result: Shown) -> str:
        """Return the title without the fit, which comes and goes with it while one types."""
        return super().heading(result).partition(FIT)[0]

    def unfinished(self, result: Shown) -> bool:
        """Return whether the predictions with the reconstruction spliced in are not there yet."""
        extra = result.figure.extra
        return extra.get("progress") == (0, 1) and extra.get("kl", 0) is None

    def status(self, result: Shown) -> str:
        """Return the verdict; while it is being measured, that of the token before."""
        figure = result.figure
        measured, key = figure.verdict.status, tuple(map(figure.extra.get, ("dictionary", "place")))
        if self.unfinished(result):
            return self._judged.get(key, measured)
        self._judged[key] = measured
        return measured

    def _bar(self, figure: Figure) -> str:
        """Return the bar of a sweep; none while only the fit is measured."""
        waits = self._shown is not None and self.unfinished(self._shown)
        return "" if waits else super()._bar(figure)

    def listed(self, state: ViewState) -> Sequence[int]:
        """Return the indices of the features that are shown, in row order."""
        extra = {} if self._shown is None else self._shown.figure.extra
        return [int(index) for index in extra.get("ids", ())] if "feature" not in extra else []

    def chosen_row(self, state: ViewState) -> int | None:
        """Return the row of the feature that all panes are about; None if it is not listed."""
        features, here = self.listed(state), self.marked(state)
        return features.index(here) if here in features else None

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with a feature chosen."""
        return state.choose_feature(self.listed(state)[row])

    def marked(self, state: ViewState) -> int | None:
        """Return the feature that all panes are about; None if none is active at the token."""
        if state.feature is not None:
            return state.feature.index
        extra = {} if self._shown is None else self._shown.figure.extra
        strongest: int | None = extra.get("feature", extra.get("strongest"))
        return strongest

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the edit that zeroes the chosen feature, or the strongest at the token."""
        fits = self._shown is not None and self._shown.of(state)
        return state.zero_feature(self.marked(state) if fits else None)

    def choose_edited(self, state: ViewState) -> ViewState:
        """Return the view state with the feature chosen: once it is zeroed, no list has it."""
        edit = self.edit_here(state)
        index = None if edit is None or state.feature is not None else edit.index
        return state if index is None else state.choose_feature(index)

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the figure with the chosen feature marked, and room for what is being measured."""
        extra = dict(result.figure.extra)
        row = self.chosen_row(self._state)
        if row is not None:
            extra["chosen"] = row
        extra["caption"] = self.caption(result)
        figure = replace(result.figure, extra=extra)
        return super().draw(replace(result, figure=figure), focus, tokens)

    def caption(self, result: Shown) -> tuple[str, ...]:
        """Return the caption, with room for what is being measured."""
        lines: tuple[str, ...] = tuple(result.figure.extra.get("caption", ()))
        if not self.unfinished(result):
            return lines
        return tuple(
            f"{line} · {MEASURING}" if line.startswith(MEASURED) else line for line in lines
        )


class FeaturesPane(FeaturePane):
    """The features that are active at the cursor's token, or those that a search finds."""

    key: ClassVar[str] = "features"
    words: ClassVar[str] = (
        "features, active features, SAE features, latents, sparse autoencoder, transcoder, sparse "
        "dictionary, feature attribution"
    )
    usage: ClassVar[str] = """\
Up and down choose a feature, which all panes here are about; it stays chosen along the prompt \
while it is listed. {dictionaries} chooses the dictionaries, as does llmscope MODEL --features \
FOLDER; of several, that of the cursor's \
layer is shown, or of the nearest one: the title tells which. {map-view} goes round the strongest \
features, those that write most to the answer directly, those that no earlier layer had, what the \
answer loses without each, measured by the answer or by KL, and gradient × activation. \
{edit-zero} takes the chosen feature away from the pass.

{find-feature} searches by label, or by a token that features promote: the list holds what is \
found, {take} keeps the chosen feature at every token, {cancel} leaves the search."""
    row: ClassVar[str] = "feature"
    views: ClassVar[tuple[str, ...]] = (
        "token",
        "direct",
        "new",
        "ablation",
        "ablation-kl",
        "gradient",
    )
    view_words: ClassVar[Mapping[str, str]] = {
        "token": "strongest at the token, active features",
        "direct": "by direct effect, direct feature attribution, features that write the answer",
        "new": "new since the layer before, new features",
        "ablation": "without each feature, ablation of features, ablate features, feature ablation",
        "ablation-kl": "without each feature by KL, feature ablation by KL",
        "gradient": "gradient × activation of features, attribution patching, indirect effect",
    }
    slow_views: ClassVar[tuple[str, ...]] = ("ablation", "ablation-kl", "gradient")

    @classmethod
    def snapshot_modes(cls) -> Mapping[str, tuple[str, ...]]:
        """Return the lens in its views, and what a search found."""
        return {cls.lens: (*cls.views, "find")}

    def want(self, state: ViewState) -> Want:
        """Return the want for the view, or for what is searched for."""
        want = super().want(state)
        if not state.query:
            return want
        return replace(want, focus=QUERY.set(replace(want.focus, mode="find"), state.query))

    def sweeps(self, state: ViewState) -> bool:
        """Return whether the view takes many passes; a search takes none."""
        return not state.query and super().sweeps(state)

    def heading(self, result: Shown) -> str:
        """Return the title with the fit, which is measured for every figure."""
        title, fit = super().heading(result), result.figure.extra.get("fvu")
        return title if fit is None else f"{title}{FIT}{float(fit):.2f}"

    def landed(self, state: ViewState, result: Shown) -> ViewState:
        """Return the view state without a chosen feature that is not listed at another token."""
        extra = result.figure.extra
        there = result.of(state) and extra.get("position") == state.focus.position
        if not there or state.query or "ids" not in extra:
            return state
        return state.with_listed_features([int(index) for index in extra["ids"]])

    def turn(self, state: ViewState, by: int = 1) -> ViewState | None:
        """Return the view state with another view; during a search, with the view before it."""
        return replace(state, query="") if state.query else super().turn(state, by)

    def show_view(self, state: ViewState, index: int) -> ViewState:
        """Return the view state with one of the views, and no search."""
        return replace(super().show_view(state, index), query="")

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the list; below it, what the columns are."""
        painting, extra = super().draw(result, focus, tokens), result.figure.extra
        if painting.legend is not None or "beside" not in extra:
            return painting
        unit, target = result.figure.unit, extra.get("target")
        has_effect = "direct" in extra and target is not None
        effect = f", effect on {quoted_token(str(target))}" if has_effect else ""
        words = f"{unit}{effect}, label, promoted tokens"
        fits = words if len(words) < self.size.width - 4 else unit
        return replace(
            painting, legend=(Segment(fits, text_styles(self._look.theme).dim.rich_style),)
        )


class OneFeaturePane(FeaturePane):
    """Base class of the panes of the chosen feature, or the strongest at the token."""

    def want(self, state: ViewState) -> Want:
        """Return the want for the feature."""
        want = super().want(state)
        index = None if state.feature is None else state.feature.index
        return replace(want, focus=FEATURE.set(want.focus, index))

    def caption(self, result: Shown) -> tuple[str, ...]:
        """Return what the caption tells of the feature: the list tells how well all fit."""
        lines = super().caption(result)
        fit = next((at for at, line in enumerate(lines) if line.startswith(MEASURED)), len(lines))
        return lines[:fit]


class FeaturePromptPane(OneFeaturePane):
    """The chosen feature along the prompt or in a corpus, or all that are listed by token."""

    key: ClassVar[str] = "feature-prompt"
    least_rows: ClassVar[int] = 6
    words: ClassVar[str] = (
        "feature activation, when a feature fires, feature along the prompt, feature by token"
    )
    usage: ClassVar[str] = """\
The feature is the one chosen in the list of features, or else the strongest on this token. \
{map-view} changes to the strongest features of this token, along the prompt, and to examples of \
the feature in a corpus, which `llmscope examples` collects in the folder `examples` of the \
dictionary."""
    views: ClassVar[tuple[str, ...]] = ("prompt", "map", "examples")
    view_words: ClassVar[Mapping[str, str]] = {
        "prompt": "one feature along the prompt",
        "map": "features by token, feature map",
        "examples": "examples of a feature, max activating examples, top activations, dashboard",
    }
    asks: ClassVar[tuple[str, ...]] = ("layer", "position", "top_k")

    def want(self, state: ViewState) -> Want:
        """Return the want for the view; the map is of the strongest, whatever is chosen."""
        want = super().want(state)
        if want.focus.mode == "map":
            return replace(want, focus=FEATURE.set(want.focus, None))
        return replace(want, focus=replace(want.focus, top_k=Focus().top_k))


class FeatureTokensPane(OneFeaturePane):
    """The tokens that the chosen feature promotes and suppresses."""

    key: ClassVar[str] = "feature-tokens"
    most_rows: ClassVar[int | None] = 22
    words: ClassVar[str] = (
        "promoted tokens of a feature, suppressed tokens, decoder row, feature logits, logit "
        "weights, what a feature promotes"
    )
    usage: ClassVar[str] = """\
The feature is the one chosen in the list of features, or else the strongest on this token."""
    views: ClassVar[tuple[str, ...]] = ("tokens",)
    asks: ClassVar[tuple[str, ...]] = ("layer", "position", "top_k")

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw as many tokens as fit, of those promoted and of those suppressed."""
        figure = result.figure
        room = self.size.height - len(
            caption_rows(
                replace(figure, extra={"caption": self.caption(result)}),
                self.size.width,
                self.size.height,
                styles_for(self._look),
            )
        )
        if figure.axes and 2 <= room < len(figure.axes[0]):
            count = len(figure.axes[0])
            rows = [*range(room - room // 2), *range(count - room // 2, count)]
            labels = tuple(figure.axes[0].labels[at] for at in rows)
            figure = replace(figure, axes=(Axis("token", labels),), values=figure.values[rows])
        return super().draw(replace(result, figure=figure), focus, tokens)


class FeatureFitPane(FeaturePane):
    """How well the dictionary reconstructs each token, beside a random dictionary."""

    key: ClassVar[str] = "feature-fit"
    least_rows: ClassVar[int] = 4
    most_rows: ClassVar[int | None] = 8
    words: ClassVar[str] = (
        "fit, FVU, variance unexplained, explained variance, reconstruction error, splice, loss "
        "recovered, L0"
    )
    usage: ClassVar[str] = """\
Below the tokens, how much the dictionary leaves unexplained, and what chance leaves: a random \
dictionary of its size with as many active features. {map-view} changes to what the model loses \
with the reconstruction in the tensor's place, by KL."""
    views: ClassVar[tuple[str, ...]] = ("fit", "fit-kl")
    view_words: ClassVar[Mapping[str, str]] = {
        "fit": "variance unexplained, FVU",
        "fit-kl": "KL with the reconstruction spliced in, loss recovered",
    }
    asks: ClassVar[tuple[str, ...]] = ("layer", "position")
    slow_views: ClassVar[tuple[str, ...]] = ("fit-kl",)

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return None: a dictionary is no part of the model."""
        return None
