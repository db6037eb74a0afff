"""Directions of one concept in the residual stream, one for each layer, with what was measured.

As an edit, a direction is added to the stream. As a probe, it reads one:

    score = x · d / |d|² − offset

One unit of the score is the distance between the means of both classes along the direction, and 0
is where the probe decides. `sigmoid(slope · score + intercept)` is a probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmscope.figure import VERIFIED, Verdict
from llmscope.models.model_names import alike, names_of
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel

METHODS = ("mean", "lda", "logistic")
"""Difference of means, linear discriminant analysis, logistic regression."""
METHOD_NAMES = {"mean": "difference of means", "lda": "LDA", "logistic": "logistic regression"}


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval over groups; None where one group tells nothing."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Spread:
    """The mean and the range over several random controls."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class ProbeScores:
    """How well texts are told apart: the share of right decisions, and the area under the ROC."""

    accuracy: Interval
    auc: Interval


@dataclass(frozen=True)
class ControlScores:
    """The same of random controls."""

    accuracy: Spread
    auc: Spread


@dataclass(frozen=True)
class CalibrationBin:
    """Held-out texts whose probability is in one tenth: its mean, the share of positive ones."""

    predicted: float
    positive: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities can be taken at their word, on held-out texts.

    Attributes:
        brier: the mean squared error of the probability.
        ece: the expected calibration error: |mean probability − share of positive texts|, weighted
            by the texts of each bin.
        bins: the tenths that have texts.
    """

    brier: float
    ece: float
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True)
class ProbeFigures:
    """What was measured of the direction after one layer, on held-out texts.

    Attributes:
        log_loss: of the probability, cross-validated over the training groups; chooses the layer.
        held_out: with the labels as they are.
        shuffled: fitted and measured with shuffled labels.
        random: random directions in place of the fitted one.
        cosines: to the directions of the other methods; empty without scikit-learn.
    """

    log_loss: float
    held_out: ProbeScores
    shuffled: ControlScores
    random: ControlScores
    calibration: Calibration
    cosines: dict[str, float]


@dataclass(frozen=True, eq=False)
class Probe:
    """The direction after one layer.

    Attributes:
        direction: [width], float32 on the CPU; as long as the classes' means are apart along it.
        offset: subtracted from the score, so that 0 is where the probe decides.
        slope, intercept: of the probability.
    """

    direction: Tensor
    offset: float
    slope: float
    intercept: float
    figures: ProbeFigures

    def score(self, streams: Tensor) -> Tensor:
        """Return the score of streams, in float32. `[row, width]` -> [row]"""
        direction = self.direction.to(streams.device)
        return streams.float() @ (direction / direction.dot(direction)) - self.offset

    def probability(self, scores: Tensor) -> Tensor:
        """Return the probability of the positive class. [row]"""
        return torch.sigmoid(self.slope * scores + self.intercept)


@dataclass(frozen=True)
class Leak:
    """What the test set shares with the training set.

    Attributes:
        groups: test texts whose group is also in the training set.
        texts: test texts that are the same as one in the training set, or nearly.
    """

    groups: int
    texts: int

    def __bool__(self) -> bool:
        return bool(self.groups or self.texts)

    def __str__(self) -> str:
        parts = []
        if self.groups:
            parts.append(f"{self.groups} test texts are of groups that were trained on")
        if self.texts:
            parts.append(f"{self.texts} are nearly the same as a text that was trained on")
        return "leaks: " + ", ".join(parts) if parts else "does not leak"


@dataclass(frozen=True)
class Sets:
    """The texts that a direction was fitted and measured on.

    Attributes:
        split: `group`, `random`, or `file`: the column `split` of the pairs.
        seed: of the split and the controls.
    """

    pairs: str
    split: str
    seed: int
    train_texts: int
    train_groups: int
    test_texts: int
    test_groups: int
    leak: Leak


@dataclass(frozen=True)
class Dose:
    """What a model says, by how much of the direction is added to its stream.

    Attributes:
        layer: the layer after which it is added, at every token.
        measure: what is measured, in words.
        strengths: the doses, as multiples of the direction.
        change: the mean change by dose, from no dose, over held-out prompts.
        random: the range of that by dose over random directions of the same norm.
        slope: the change for a dose of 1: the least-squares line of each prompt.
        random_slopes: the mean slope of each random direction.
        prompts: the number of held-out prompts.
    """

    layer: int
    measure: str
    strengths: tuple[float, ...]
    change: tuple[Interval, ...]
    random: tuple[Spread, ...]
    slope: Interval
    random_slopes: tuple[float, ...]
    prompts: int

    @property
    def monotone(self) -> bool:
        """Whether each dose changes more than the one before, in one direction."""
        means = [estimate.value for estimate in self.change]
        steps = [after - before for before, after in pairwise(means)]
        return all(step > 0 for step in steps)

    @property
    def doubt(self) -> str:
        """Why it does not steer with the dose; "" if it does."""
        if self.slope.low is None or self.slope.low <= 0:
            return "the change for a dose of 1 is not above 0"
        highest = max(map(abs, self.random_slopes))
        if self.slope.value <= highest:
            return f"a random direction of the same norm changes as much ({highest:.3g})"
        return "" if self.monotone else "the change does not grow at every dose"

    def __str__(self) -> str:
        return (
            f"does not steer with the dose: {self.doubt}"
            if self.doubt
            else ("steers with the dose")
        )


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions that were fitted on one model. Compared by identity.

    Attributes:
        method: one of `METHODS`.
        position: the token whose stream was read: `last`, `mean` over the tokens, or an index.
        width, layers: the sizes of the model.
        best: the layer that tells the training texts apart best, cross-validated.
        probes: by layer, from 0; the stream after it.
        about: the model, as JSON types: model_name, model_revision, …
        dose: None if it was not measured.
        source: where it was read from; empty for one in memory.
        digest: of the file; empty for one in memory.
    """

    method: str
    position: str
    width: int
    layers: int
    best: int
    probes: Mapping[int, Probe]
    about: Mapping[str, Any]
    sets: Sets
    dose: Dose | None = None
    source: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.source or "direction in memory"

    @property
    def model(self) -> str:
        """The name of the model that it was fitted for; empty if unknown."""
        return str(self.about.get("model_name") or "")

    def nearest(self, layer: int) -> int:
        """Return the layer with a direction that is nearest to one, the earlier of two."""
        return min(self.probes, key=lambda probe: (abs(probe - layer), probe))

    def misfit(self, *, layers: int, width: int) -> str:
        """Return why the directions cannot be used on a model; "" if they can."""
        if self.width != width:
            return (
                f"the direction is for streams of width {self.width}, and the model's have {width}"
            )
        if self.layers != layers:
            return f"the direction is for {self.layers} layers, and the model has {layers}"
        return ""

    def verdict(self, layer: int, model: LoadedModel | None = None) -> Verdict:
        """Return how far the probe of a layer can be trusted.

        Args:
            layer: one that has a direction.
            model: the model that it is used on; None: the one it was fitted for.
        """
        doubt = self.doubt(layer, model)
        return Verdict("partial", doubt) if doubt else VERIFIED

    def doubt(self, layer: int, model: LoadedModel | None = None) -> str:
        """Return why the probe of a layer is not to be trusted; "" if held-out texts bear it out.

        Its interval has to lie above every shuffled label, and its AUC above every random
        direction. See `verdict` for the arguments.
        """
        figures = self.probes[layer].figures
        of_held_out, shuffled, random = figures.held_out, figures.shuffled, figures.random
        other = "" if model is None else self._other_model(model)
        if other:
            return f"it was fitted for {other}"
        if self.sets.leak:
            return str(self.sets.leak)
        low = of_held_out.auc.value if of_held_out.auc.low is None else of_held_out.auc.low
        if low <= shuffled.auc.high:
            return (
                f"after layer {layer}, shuffled labels are told apart as well: AUC up to "
                f"{shuffled.auc.high:.2f}, and from {low:.2f} with the labels as they are"
            )
        if of_held_out.auc.value <= random.auc.high:
            return (
                f"after layer {layer}, a random direction tells them apart as well: AUC "
                f"{random.auc.high:.2f}"
            )
        return ""

    def _other_model(self, model: LoadedModel) -> str:
        """Return the model that it was fitted for; "" if it is this one, or may be."""
        names = names_of(model)
        if names and self.model and not any(alike(self.model, name) for name in names):
            return one_line(self.model)
        fitted = self.about.get("adapter")
        if fitted == model.adapter:
            return ""
        return "the model " + (
            "without an adapter" if fitted is None else f"with the adapter {one_line(str(fitted))}"
        )
