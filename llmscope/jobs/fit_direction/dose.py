"""What a model says, by how much of a direction is added to its stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmscope.corpus.progress import JobProgress
from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_direction.controls import DRAWS, LEVEL
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.jobs.fit_direction.streams import Floats, places_of, vector_at
from llmscope.jobs.state import JobPasses
from llmscope.learned.lenses.directions import Dose, Interval, Probe, Spread
from llmscope.models.tokenizer.target import target_id
from llmscope.record.capture.padded import SIZE
from llmscope.record.capture.prompts import prompt_from
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.change_hooks import Change, attached
from llmscope.record.derive.batching import PromptRunner
from llmscope.record.derive.tensors import logits_after
from llmscope.support.fsync import Journal
from llmscope.support.text import display_text

STEPS = 4
"""Doses on each side of 0."""


@dataclass(frozen=True)
class DoseRule:
    """How a dose is given and measured.

    Attributes:
        strength: the largest dose, as a multiple of the direction.
        tokens: the two tokens whose log-probabilities are compared, the positive first; None: the
            score of the probe at the last later layer.
        suffix: appended to each prompt before it is measured with tokens.
        prompts: held-out prompts at most.
        random: the number of random directions.
    """

    strength: float = 2.0
    tokens: tuple[str, str] | None = None
    suffix: str = ""
    prompts: int = 32
    random: int = 5

    @property
    def strengths(self) -> tuple[float, ...]:
        """The doses, from −strength to strength."""
        return tuple(self.strength * step / STEPS for step in range(-STEPS, STEPS + 1))


@dataclass(frozen=True)
class Measure:
    """What is measured of a pass.

    Attributes:
        words: what it is called.
        of: returns it.
        suffix: appended to each prompt.
    """

    words: str
    of: Callable[[Recording], float]
    suffix: str = ""


def measure_for(
    runner: PromptRunner, rule: DoseRule, probes: dict[int, Probe], layer: int, position: str
) -> Measure | None:
    """Return what a dose after a layer is measured by; None: there is no later probe.

    Raises:
        ScopeError: a text is no single token of the model.
    """
    if rule.tokens is not None:
        model = runner.recorder.model
        up, down = (
            target_id(token, model.tokens, model.anatomy.vocabulary) for token in rule.tokens
        )
        first, second = (display_text(token, whitespace=True) for token in rule.tokens)
        words = f"log p(‹{first}›) − log p(‹{second}›)"
        if rule.suffix:
            words += f" after ‹{display_text(rule.suffix, whitespace=True)}›"

        def ratio(recording: Recording) -> float:
            logits = logits_after(recording, len(recording) - 1).double()
            return float(logits[up] - logits[down])

        return Measure(words, ratio, rule.suffix)
    later = max(probes)
    if later <= layer:
        return None

    def score(recording: Recording) -> float:
        row = vector_at(recording, later, places_of(recording.prompt, position))
        return float(probes[later].score(row[None]))

    return Measure(f"the probe's score after layer {later}", score)


def dose_response(
    runner: PromptRunner,
    direction: Tensor,
    layer: int,
    examples: Sequence[LabelledText],
    measure: Measure,
    rule: DoseRule,
    seed: int,
    progress: JobProgress,
    journal: Journal | None = None,
) -> Dose:
    """Measure what a direction and random ones of its norm change, at all doses.

    Args:
        runner: records the prompts.
        direction: the direction. [width]
        layer: the layer after which it is added to the stream, at every token.
        examples: held-out texts.
        measure: what is measured.
        rule: the doses, the number of prompts and random directions.
        seed: of the random directions, the choice of prompts and the bootstrap.
        progress: told of the progress.
        journal: keeps each prompt, and has those of an earlier run; None keeps nothing.

    Raises:
        ScopeError: a prompt is too long, or a value is not finite.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(examples))[: rule.prompts]
    vectors = [direction.double(), *_random(direction, rule.random, random)]
    strengths = [strength for strength in rule.strengths if strength]
    added = [torch.zeros_like(direction)] + [
        (vector * strength).float() for vector in vectors for strength in strengths
    ]
    changes = np.empty((len(order), len(vectors), len(rule.strengths)))
    passes = JobPasses(journal, stage="doses", layer=layer)
    for row, at in enumerate(order.tolist()):
        if (stored := passes.take([at])) is not None:
            values = stored[1]["values"]
        else:
            prompt = prompt_from(runner.recorder.model, examples[at].text + measure.suffix)
            values = _measure_added(runner, prompt, layer, added, measure)
            passes.add([at], {"values": values})
        moved = (values[1:] - values[0]).reshape(len(vectors), len(strengths))
        changes[row] = np.insert(moved, STEPS, 0, axis=1)  # no dose, no change
        progress.stage("giving doses", (row + 1) / len(order))
    if not np.isfinite(changes).all():
        raise ScopeError(
            "a dose makes the model's numbers infinite", f"a smaller {option('strength')}"
        )
    groups = [examples[at].group for at in order]
    return summary(changes, groups, rule.strengths, layer, measure.words, seed)


def summary(
    changes: Floats,
    groups: Sequence[str],
    strengths: Sequence[float],
    layer: int,
    words: str,
    seed: int,
) -> Dose:
    """Return the statistics of changes. [prompt, direction, dose]; the first direction is ours."""
    doses = np.array(strengths)
    slopes = changes @ doses / (doses @ doses)  # [prompt, direction]: a line through no change
    ours, others = changes[:, 0], changes[:, 1:].mean(0)  # [prompt, dose], [direction, dose]
    each = _estimates(np.column_stack([ours, slopes[:, 0]]), groups, seed)
    return Dose(
        layer=layer,
        measure=words,
        strengths=tuple(strengths),
        change=each[:-1],
        random=tuple(
            Spread(float(changes_at.mean()), float(changes_at.min()), float(changes_at.max()))
            for changes_at in others.T
        ),
        slope=each[-1],
        random_slopes=tuple(slopes[:, 1:].mean(0).tolist()),
        prompts=len(changes),
    )


def _estimates(values: Floats, groups: Sequence[str], seed: int) -> tuple[Interval, ...]:
    """Return the mean of each column with its bootstrap interval over groups. [prompt, column]"""
    names, of_row = np.unique(np.array(groups), return_inverse=True)
    means = values.mean(0)
    if len(names) < 2:
        return tuple(Interval(float(mean), None, None) for mean in means)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    weights = drawn[:, of_row]  # [draw, prompt]
    means_drawn = weights @ values / weights.sum(1, keepdims=True)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means_drawn, (tail, 1 - tail), axis=0)
    return tuple(Interval(*map(float, ends)) for ends in zip(means, low, high, strict=True))


def _random(direction: Tensor, count: int, random: np.random.Generator) -> list[Tensor]:
    """Return random directions of the same norm, in float64."""
    norm = torch.linalg.vector_norm(direction.double())
    drawn = torch.from_numpy(random.standard_normal((count, len(direction))))
    return list(drawn * (norm / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)))


@torch.no_grad()
def _measure_added(
    runner: PromptRunner,
    prompt: Prompt,
    layer: int,
    added: Sequence[Tensor],
    measure: Measure,
) -> Floats:
    """Return the measure for each vector that is added. [vector]

    The passes of a batch are of one prompt, so that none is padded.
    """
    model, rows, values = runner.recorder.model, range(len(prompt)), []
    size = 1 if runner.alone else SIZE
    for first in range(0, len(added), size):
        vectors = added[first : first + size]
        jobs = [
            [Change("stream", layer + 1, rows, added=vector.to(model.device))] for vector in vectors
        ]
        with attached(model.anatomy, (), jobs=jobs):
            values += [measure.of(recording) for recording in runner([prompt] * len(vectors))]
    return np.array(values)
