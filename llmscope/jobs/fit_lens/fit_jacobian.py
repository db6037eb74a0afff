"""Fit a Jacobian lens: stream prompts, average their Jacobians, stop where the error is small."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmscope.corpus.progress import Tell, ignore
from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_lens.accumulate import FitState, Report, add_prompts
from llmscope.jobs.fit_lens.check import ENTRY, MeasuredPrompts, check_readout, measure
from llmscope.jobs.fit_lens.corpus import (
    RULES,
    CorpusPrompt,
    CorpusRules,
)
from llmscope.jobs.fit_lens.estimators import ESTIMATORS, Estimator
from llmscope.jobs.fit_lens.jacobian import batch_for, jacobian_rows
from llmscope.jobs.fit_lens.running_mean import RunningMean
from llmscope.jobs.state import JobState
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


def fit_jacobian(
    scope: Scope,
    texts: Iterable[str],
    fit: JacobianFit,
    report: Report = lambda _: None,
    note: Tell = ignore,
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
    model, rules = scope.loaded_model, fit.rules
    rules.check()
    width, layers = model.anatomy.width, len(model.anatomy.layers)
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
    about = _about(model, fit, backwards)
    streams = range(1, layers)
    state_file = JobState(fit.checkpoint, about, entry=ENTRY)
    running = state_file.load(RunningMean.from_state) or RunningMean.of(streams, width)
    for entry, arrays in state_file.records(stage=FITTING):
        if entry["prompt"] >= running.next:
            stored = {int(name): torch.from_numpy(array) for name, array in arrays.items()}
            rows = estimator.rows(running.prompts, width)
            running.add(stored, rows, entry["prompt"], entry["digest"])
    if running.prompts:
        note(f"going on behind {amount(running.prompts, 'finished prompt')}")

    def estimates(prompt: CorpusPrompt, turn: int) -> dict[int, Tensor]:
        """Return the estimate of a prompt's Jacobian for each stream. [row, width]"""
        batch = fit.batch or batch_for(recorder, len(prompt.ids), backwards)
        cotangents = estimator.cotangents(turn, width)
        products = jacobian_rows(recorder, prompt.ids, prompt.places, streams, cotangents, batch)
        return {stream: estimator.estimate(turn, rows) for stream, rows in products.items()}

    def add(estimates: dict[int, Tensor], prompt: CorpusPrompt, digest: str) -> float:
        arrays = {str(stream): estimate.numpy() for stream, estimate in estimates.items()}
        state_file.append(arrays, stage=FITTING, prompt=prompt.number, digest=digest)
        rows = estimator.rows(running.prompts, width)
        running.add(estimates, rows, prompt.number, digest)
        state_file.save_if_due(running.state, running.bytes)
        return max(running.errors.values())

    def ended() -> bool:
        if fit.prompts is not None and running.prompts >= fit.prompts:
            return True
        return fit.error is not None and max(running.errors.values()) <= fit.error

    with scope.unchanged():
        recorder = scope.recorder
        _, held_out = add_prompts(scope, texts, rules, running, estimates, add, ended, report)
        if int(running.counts.min()) == 0:
            raise ScopeError(
                f"{running.prompts} prompts of {backwards} backwards do not give every row",
                f"more prompts or {option('backwards')}",
            )
        lens = _lens(running, model, about)
        if not held_out:
            return lens
        state = FitState(running.prompts, max(running.errors.values()))

        def told(stage: str, share: float) -> None:
            report(replace(state, stage=stage, share=share))

        finished = MeasuredPrompts(state_file, running.digest)
        return replace(lens, held_out=measure(lens, recorder, held_out, told, finished))


def _about(model: LoadedModel, fit: JacobianFit, backwards: int) -> dict[str, Any]:
    """Return what is kept with a lens, apart from what its prompts gave."""
    rules = fit.rules
    return {
        **about_model(model),
        "estimator": "jacobian_lens" if fit.estimator == "exact" else f"jacobian_{fit.estimator}",
        "backwards": backwards,
        "target_layer": len(model.anatomy.layers) - 1,
        "corpus": fit.name or "prompts",
        "skip_first_positions": rules.skip,
        "max_seq_len": rules.length,
        "held_out_every": rules.held_out,
        "shard": [rules.shard, rules.shards],
    }


def about_model(model: LoadedModel) -> dict[str, Any]:
    """Return what is kept with a lens of the model that it was fitted for."""
    revision = model.revision
    commit = revision is not None and len(revision) == COMMIT
    return {
        "model_name": next(iter(names_of(model)), None),
        # Other tools compare the revision with the hub's commit, so a file's digest stands apart.
        "model_revision": revision if commit else None,
        **({} if commit or revision is None else {"model_digest": revision}),
        **({} if model.adapter is None else {"adapter": model.adapter}),
        "fit_dtype": str(model.dtype).removeprefix("torch."),
        "processing": {"weight_basis": RAW},
    }


def _lens(running: RunningMean, model: LoadedModel, about: dict[str, Any]) -> LearnedLens:
    maps = {stream: AffineMap(running.mean(stream)) for stream in running.sums}
    errors = {str(stream - 1): error for stream, error in running.errors.items()}
    header = {
        **about,
        "n_prompts": running.prompts,
        "standard_error": None if int(running.counts.min()) < 2 else errors,
    }
    anatomy = model.anatomy
    serial = state_of(model.module).serial
    return LearnedLens("jacobian", maps, anatomy.width, len(anatomy.layers), header, state=serial)
