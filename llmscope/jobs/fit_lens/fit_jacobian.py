"""Fit a Jacobian lens: stream prompts, average their Jacobians, stop where the error is small."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_lens.check import check_readout, measure
from llmscope.jobs.fit_lens.corpus import (
    RULES,
    CorpusPrompt,
    CorpusRules,
    corpus,
    every_one_is_held_out,
)
from llmscope.jobs.fit_lens.estimators import ESTIMATORS, Estimator
from llmscope.jobs.fit_lens.jacobian import batch_for, jacobian_rows
from llmscope.jobs.fit_lens.running_mean import RunningMean, norms_of
from llmscope.jobs.fit_lens.unfinished import (
    MeasuredPrompts,
    Note,
    Unfinished,
    ignore,
    other_prompts,
)
from llmscope.learned.lenses.lens import RAW, AffineMap, LearnedLens
from llmscope.models.model_names import names_of
from llmscope.record.capture.model_state import state_of
from llmscope.support.numbers import amount

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

FITTING = "fitting"
"""The stage of a prompt's Jacobian in a journal."""
COMMIT = 40
"""The length of a commit of the hub in hexadecimal; digests of files are longer."""
SAME, SAME_IN_HALF = 1e-3, 2e-2
"""Largest difference of the norm of a Jacobian, relative to it, between two runs of one model, and
between two in half precision."""


@dataclass(frozen=True)
class JacobianFit:
    """How a Jacobian lens is fitted.

    Attributes:
        rules: which tokens of which prompts count.
        estimator: one of `ESTIMATORS`.
        backwards: backwards a prompt, for an estimator other than `exact`.
        prompts: stop after this many; None: at the end of the corpus.
        error: stop where the standard error of every matrix, relative to it, is at most this;
            None: at the end of the corpus.
        batch: copies of a prompt in one pass; None: by its length and the device.
        name: the name of the corpus, kept with the lens.
        checkpoint: the file of the running sums, from which a fit goes on. Beside it is a journal
            of the prompts that came after. None keeps nothing.
    """

    rules: CorpusRules = RULES
    estimator: str = "exact"
    backwards: int | None = None
    prompts: int | None = None
    error: float | None = None
    batch: int | None = None
    name: str = ""
    checkpoint: Path | None = None


@dataclass(frozen=True)
class FitState:
    """What a fit reports after each prompt.

    Attributes:
        prompts: the prompts in the mean.
        error: the largest relative standard error of a matrix; infinite after one prompt.
        seconds: for this prompt.
        stage: what is done after the prompts, such as measuring; empty before.
        share: of that stage, from 0 to 1.
    """

    prompts: int
    error: float
    seconds: float = 0.0
    stage: str = ""
    share: float = 0.0


Report = Callable[[FitState], None]


def fit_jacobian(
    scope: Scope,
    texts: Iterable[str],
    fit: JacobianFit,
    report: Report = lambda _: None,
    note: Note = ignore,
) -> LearnedLens:
    """Return the Jacobian lens of a model for a corpus, with its held-out figures.

    Args:
        scope: the model.
        texts: the prompts.
        fit: how it is fitted.
        report: told of the progress after each prompt.
        note: called with a line on where a fit goes on that was stopped.

    Raises:
        ScopeError: no prompt counts, the model gives no gradients, or a checkpoint is of another
            fit.
    """
    subject, rules = scope.subject, fit.rules
    rules.check()
    width, layers = subject.anatomy.width, len(subject.anatomy.layers)
    if layers < 2:
        raise ScopeError("the model has one layer, whose output is the last stream", "another")
    if rules.held_out:
        check_readout(scope)
    if fit.estimator not in ESTIMATORS:
        raise ScopeError(f"no estimator is called {fit.estimator}", ", ".join(ESTIMATORS))
    backwards = width if fit.estimator == "exact" else (fit.backwards or width // 4 or 1)
    if fit.estimator == "exact" and fit.backwards not in (None, width):
        raise ScopeError("exact takes all rows", "estimator rows or rademacher for fewer backwards")
    if not 0 < backwards <= width:
        raise ScopeError(f"there are {width} rows, and {backwards} backwards", f"1 to {width}")
    estimator = Estimator(fit.estimator, backwards, seed=rules.shard)
    about = _about(subject, fit, backwards)
    streams = range(1, layers)
    unfinished = Unfinished(fit.checkpoint, about)
    begun = unfinished.begun()
    running = RunningMean.of(streams, width) if begun is None else RunningMean.load(begun, about)
    for entry, arrays in unfinished.records(FITTING):
        if entry["prompt"] >= running.next:
            found = {int(name): torch.from_numpy(array) for name, array in arrays.items()}
            rows = estimator.rows(running.prompts, width)
            running.add(found, rows, entry["prompt"], entry["digest"])
    if running.prompts:
        note(f"going on behind {amount(running.prompts, 'finished prompt')}")
    prompts: list[CorpusPrompt] = []
    seen = sha256()

    def estimates(prompt: CorpusPrompt, turn: int) -> dict[int, Tensor]:
        """Return the estimate of a prompt's Jacobian for each stream. [row, width]"""
        batch = fit.batch or batch_for(recorder, len(prompt.ids), backwards)
        cotangents = estimator.cotangents(turn, width)
        products = jacobian_rows(recorder, prompt.ids, prompt.places, streams, cotangents, batch)
        return {stream: estimator.estimate(turn, one) for stream, one in products.items()}

    with scope.unchanged():
        recorder = scope.recorder
        for prompt in corpus(scope, texts, rules):
            seen.update(repr(prompt.ids).encode())
            if prompt.held_out:
                prompts.append(prompt)
                continue
            if prompt.number < running.next:
                if prompt.number < running.next - 1:
                    continue
                if seen.hexdigest() != running.digest:
                    raise other_prompts()
                check_model(
                    running.latest, partial(estimates, prompt, running.prompts - 1), subject
                )
                continue
            if _done(running, fit):
                break
            start, turn, digest = time.monotonic(), running.prompts, seen.hexdigest()
            found = estimates(prompt, turn)
            unfinished.append(
                *(FITTING, {str(stream): estimate for stream, estimate in found.items()}),
                prompt=prompt.number,
                digest=digest,
            )
            running.add(found, estimator.rows(turn, width), prompt.number, digest)
            seconds = time.monotonic() - start
            if fit.checkpoint is not None and unfinished.is_due(running.bytes):
                running.save(fit.checkpoint, about)
                unfinished.saved()
            report(FitState(running.prompts, max(running.errors.values()), seconds))
        if not running.prompts:
            raise every_one_is_held_out() if prompts else rules.nothing_counts()
        if int(running.counts.min()) == 0:
            raise ScopeError(
                f"{running.prompts} prompts of {backwards} backwards do not give every row",
                f"more prompts or {option('backwards')}",
            )
        lens = _lens(running, subject, about)
        if not prompts:
            return lens
        state = FitState(running.prompts, max(running.errors.values()))

        def told(stage: str, share: float) -> None:
            report(replace(state, stage=stage, share=share))

        finished = MeasuredPrompts(unfinished, running.digest)
        return replace(lens, held_out=measure(lens, recorder, prompts, told, finished))


def _done(running: RunningMean, fit: JacobianFit) -> bool:
    if fit.prompts is not None and running.prompts >= fit.prompts:
        return True
    return fit.error is not None and max(running.errors.values()) <= fit.error


def check_model(
    latest: Mapping[int, float], results: Callable[[], Mapping[int, Tensor]], subject: LoadedModel
) -> None:
    """Check that the model gives again what the latest prompt of a checkpoint gave.

    Args:
        latest: the norms of its results, by stream; empty in checkpoints of earlier versions.
        results: returns the results of that prompt.
        subject: the model.

    Raises:
        ScopeError: it gives something else: it is in another state.
    """
    if not latest:
        return
    norms, bound = norms_of(results()), SAME if subject.dtype.itemsize > 2 else SAME_IN_HALF
    if any(not abs(norms[at] - norm) <= bound * norm for at, norm in latest.items()):
        raise ScopeError(
            "the checkpoint was made with the model in another state: its last prompt gives "
            "other numbers now",
            f"another {option('out')}, or {option('force')} to begin anew",
        )


def _about(subject: LoadedModel, fit: JacobianFit, backwards: int) -> dict[str, Any]:
    """Return what is kept with a lens, apart from what its prompts gave."""
    rules = fit.rules
    return {
        **about_model(subject),
        "estimator": "jacobian_lens" if fit.estimator == "exact" else f"jacobian_{fit.estimator}",
        "backwards": backwards,
        "target_layer": len(subject.anatomy.layers) - 1,
        "corpus": fit.name or "prompts",
        "skip_first_positions": rules.skip,
        "max_seq_len": rules.length,
        "held_out_every": rules.held_out,
        "shard": [rules.shard, rules.shards],
    }


def about_model(subject: LoadedModel) -> dict[str, Any]:
    """Return what is kept with a lens of the model that it was fitted for."""
    revision = subject.revision
    commit = revision is not None and len(revision) == COMMIT
    return {
        "model_name": next(iter(names_of(subject)), None),
        # Other tools compare the revision with the hub's commit, so a file's digest stands apart.
        "model_revision": revision if commit else None,
        **({} if commit or revision is None else {"model_digest": revision}),
        **({} if subject.adapter is None else {"adapter": subject.adapter}),
        "fit_dtype": str(subject.dtype).removeprefix("torch."),
        "processing": {"weight_basis": RAW},
    }


def _lens(running: RunningMean, subject: LoadedModel, about: dict[str, Any]) -> LearnedLens:
    maps = {stream: AffineMap(running.mean(stream)) for stream in running.sums}
    errors = {str(stream - 1): error for stream, error in running.errors.items()}
    found = {
        **about,
        "n_prompts": running.prompts,
        "standard_error": None if int(running.counts.min()) < 2 else errors,
    }
    anatomy = subject.anatomy
    serial = state_of(subject.model).serial
    return LearnedLens("jacobian", maps, anatomy.width, len(anatomy.layers), found, state=serial)
