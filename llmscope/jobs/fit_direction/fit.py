"""Fit a direction after each layer, and measure it on held-out texts beside its controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmscope.corpus.progress import JobProgress, Tell, ignore
from llmscope.corpus.records.prompts import digest_of
from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_direction.controls import (
    Texts,
    calibration,
    chances_of,
    out_of_fold,
    probability,
    scores_of,
    with_random_directions,
    with_shuffled_labels,
)
from llmscope.jobs.fit_direction.dose import DoseRule, dose_response, measure_for
from llmscope.jobs.fit_direction.estimators import ScoreLine, check_method, fit_line, has_sklearn
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.jobs.fit_direction.split import Flags, choose_test, labels_of, leak
from llmscope.jobs.fit_direction.streams import (
    Floats,
    check_position,
    streams,
)
from llmscope.jobs.fit_lens.fit_jacobian import about_model
from llmscope.jobs.state import JobPasses, journal_of
from llmscope.learned.lenses.directions import METHODS, Directions, Probe, ProbeFigures, Sets
from llmscope.record.derive.batching import PromptRunner
from llmscope.support.fsync import Journal

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope


@dataclass(frozen=True)
class DirectionFit:
    """How a direction is fitted and measured.

    Attributes:
        method: one of `METHODS`.
        layers: the layers after which streams are read, negative from the end; None: all.
        position: `last`, `mean` over the tokens, or the index of a token.
        split: how test pairs are chosen: `group`, `random`, or `file`, as the file of pairs says;
            None: `file` if that file says it, else `group`.
        test_share: the share of groups that is held out.
        shuffles: the number of shuffled labels, and of random directions.
        dose: how much of the direction is added to measure its effect; None: no effect is measured.
        dose_layer: the layer after which the direction is added; None: the layer with the
            lowest log loss.
        seed: seeds the split, the controls and the bootstrap.
        name: the name of the pairs, stored with the direction.
        checkpoint: the path of the direction. A journal beside it stores the result of each pass,
            so that a stopped fit can continue; None: no journal.
    """

    method: str = "mean"
    layers: tuple[int, ...] | None = None
    position: str = "last"
    split: str | None = None
    test_share: float = 0.3
    shuffles: int = 10
    dose: DoseRule | None = field(default_factory=DoseRule)
    dose_layer: int | None = None
    seed: int = 0
    name: str = ""
    checkpoint: Path | None = None


def fit_direction(
    scope: Scope,
    examples: Sequence[LabelledText],
    fit: DirectionFit,
    progress: JobProgress | None = None,
    note: Tell = ignore,
) -> Directions:
    """Return the directions of a model for texts of two labels, with all that was measured.

    Args:
        scope: the model.
        examples: the texts, of both labels.
        fit: how they are fitted.
        progress: counts the texts; None: it is not told.
        note: called with a line on where a fit goes on that was stopped.

    Raises:
        ScopeError: the method needs a package, there is no such layer or token, the texts are too
            few, or memory does not hold their streams.
    """
    check_method(fit.method)
    check_position(fit.position)
    count = len(scope.loaded_model.anatomy.layers)
    layers = _layers(fit.layers, count)
    if fit.dose_layer is not None:
        _check_dose_layer(_layers((fit.dose_layer,), count)[0], layers)
    split = fit.split or ("file" if examples[0].part else "group")
    test = choose_test(examples, split, fit.test_share, fit.seed)
    train, test_texts = list(_part(examples, ~test)), list(_part(examples, test))
    sets = Sets(
        *(fit.name or "pairs", split, fit.seed),
        *(len(train), len({text.group for text in train})),
        *(len(test_texts), len({text.group for text in test_texts})),
        leak(examples, test),
    )
    progress = progress or JobProgress()
    journal = (
        None
        if fit.checkpoint is None
        else Journal(journal_of(fit.checkpoint), _about(scope, examples, fit))
    )
    if journal is not None:
        progress.going_on(
            note, sum(len(group) for group in JobPasses(journal, stage="streams").stored)
        )
    with scope.unchanged():
        runner = PromptRunner.of(scope.recorder)
        vectors = streams(runner, examples, layers, fit.position, progress, journal)
        probes = {}
        for row, layer in enumerate(layers):
            try:
                probes[layer] = _probe(vectors[row].astype(np.float64), examples, test, fit)
            except ScopeError as error:
                raise error.at(f"after layer {layer}") from None
            progress.stage("measuring layers", (row + 1) / len(layers))
        best = min(probes, key=lambda layer: probes[layer].figures.log_loss)
        dosed = best if fit.dose_layer is None else _layers((fit.dose_layer,), count)[0]
        dose = None
        if fit.dose is not None:
            measure = measure_for(runner, fit.dose, probes, dosed, fit.position)
            if measure is not None:
                dose = dose_response(
                    *(runner, probes[dosed].direction, dosed, test_texts, measure, fit.dose),
                    *(fit.seed, progress, journal),
                )
    kind = str(getattr(scope.loaded_model.module.config, "model_type", ""))
    about = {**about_model(scope.loaded_model), "model_type": kind}
    width = scope.loaded_model.anatomy.width
    return Directions(fit.method, fit.position, width, count, best, probes, about, sets, dose)


def _about(scope: Scope, examples: Sequence[LabelledText], fit: DirectionFit) -> dict[str, Any]:
    """Return what the passes of a fit depend on, as JSON types."""
    texts = digest_of((example.line, example.text) for example in examples)
    options = {name: value for name, value in asdict(fit).items() if name != "checkpoint"}
    return {**about_model(scope.loaded_model), **options, "texts": texts}


def _layers(chosen: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return layers counted from 0, ascending.

    Raises:
        ScopeError: the model has no such layer.
    """
    for layer in chosen or ():
        if not -count <= layer < count:
            raise ScopeError(f"there is no layer {layer}", f"0 to {count - 1}, or -1 for the last")
    return tuple(sorted({layer % count for layer in (range(count) if chosen is None else chosen)}))


def _check_dose_layer(dosed: int, layers: Sequence[int]) -> None:
    """Raise `ScopeError` unless a direction is fitted after the layer of the dose."""
    if dosed not in layers:
        raise ScopeError(
            f"no direction is fitted after layer {dosed}", f"a layer of {option('layer')}"
        )


def _part(examples: Sequence[LabelledText], chosen: Flags) -> Iterator[LabelledText]:
    return (
        example for example, is_chosen in zip(examples, chosen.tolist(), strict=True) if is_chosen
    )


def _probe(x: Floats, examples: Sequence[LabelledText], test: Flags, fit: DirectionFit) -> Probe:
    """Return the direction after one layer, measured. `x`: [text, width]"""
    labels, texts = labels_of(examples), Texts.of(examples)
    train = list(_part(examples, ~test))
    line = fit_line(fit.method, x[~test], labels[~test])
    slope, intercept, loss = probability(
        out_of_fold(fit.method, x[~test], train, fit.seed), labels[~test]
    )
    figures = ProbeFigures(
        log_loss=loss,
        held_out=scores_of(line.score(x[test]), Texts.of(list(_part(examples, test))), fit.seed),
        shuffled=with_shuffled_labels(fit.method, x, test, texts, fit.shuffles, fit.seed),
        random=with_random_directions(x, test, texts, fit.shuffles, fit.seed),
        calibration=calibration(chances_of(line, slope, intercept, x[test]), labels[test]),
        cosines=_cosines(fit.method, line, x[~test], labels[~test]),
    )
    direction = torch.from_numpy(line.direction).float()
    return Probe(direction, line.offset, slope, intercept, figures)


def _cosines(
    method: str, line: ScoreLine, x: Floats, labels: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the cosine to the direction of each other method; none without scikit-learn."""
    cosines = {}
    for other in METHODS if has_sklearn() else ():
        if other != method:
            theirs = fit_line(other, x, labels).direction
            norms = np.linalg.norm(line.direction) * np.linalg.norm(theirs)
            cosines[other] = float(line.direction @ theirs / norms)
    return cosines
