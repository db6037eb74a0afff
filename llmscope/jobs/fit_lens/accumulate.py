"""Add the prompts of a corpus to the sums of a fit, from where an earlier run was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from llmscope.errors import ScopeError
from llmscope.jobs.fit_lens.corpus import CorpusPrompt, CorpusRules, corpus, every_one_is_held_out
from llmscope.jobs.fit_lens.running_mean import norms_of
from llmscope.jobs.state import again

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

SAME, SAME_IN_HALF = 1e-3, 2e-2
"""Largest difference of the norm of a result, relative to it, between two runs of one model, and
between two in half precision."""


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


class PromptSums(Protocol):
    """Sums over prompts.

    Attributes:
        prompts: how many are in the sums.
        digest: of the tokens of all prompts up to the last one, held-out ones too.
        latest: the norms of the results of the last one, by stream; a model in another state gives
            other ones. Empty in checkpoints of earlier versions.
    """

    prompts: int
    digest: str
    latest: dict[int, float]


def add_prompts(
    scope: Scope,
    texts: Iterable[str],
    rules: CorpusRules,
    sums: PromptSums,
    compute: Callable[[CorpusPrompt, int], dict[int, Tensor]],
    add: Callable[[dict[int, Tensor], CorpusPrompt, str], float],
    ended: Callable[[], bool],
    report: Report,
) -> tuple[list[CorpusPrompt], list[CorpusPrompt]]:
    """Add what a model gives for each prompt; return those that are fitted, and held-out ones.

    Args:
        scope: the model, which is not changed meanwhile.
        texts: the prompts.
        rules: which of their tokens count, and which of them are held out.
        sums: with the prompts that an earlier run added.
        compute: returns the results of a prompt by stream, from how many prompts came before.
        add: keeps and adds results, with their prompt and the digest of all up to it; returns the
            error so far, as of `FitState`.
        ended: whether the prompts that were added are enough.
        report: told of the progress after each prompt.

    Raises:
        ScopeError: no prompt counts, or the earlier run had other prompts or another model.
    """
    seen, resumed = sha256(), sums.prompts
    fitted: list[CorpusPrompt] = []
    held_out: list[CorpusPrompt] = []
    for prompt in corpus(scope, texts, rules):
        seen.update(repr(prompt.ids).encode())
        if prompt.held_out:
            held_out.append(prompt)
            continue
        if len(fitted) >= resumed and ended():
            break
        turn, begun, digest = len(fitted), time.monotonic(), seen.hexdigest()
        fitted.append(prompt)
        if turn == resumed - 1:
            if digest != sums.digest:
                raise _other_prompts()
            check_model(sums.latest, partial(compute, prompt, turn), scope.loaded_model)
        elif turn >= resumed:
            error = add(compute(prompt, turn), prompt, digest)
            report(FitState(sums.prompts, error, time.monotonic() - begun))
    if len(fitted) < resumed:
        raise _other_prompts()
    if not fitted:
        raise every_one_is_held_out() if held_out else rules.nothing_counts()
    return fitted, held_out


def check_model(
    latest: Mapping[int, float], results: Callable[[], Mapping[int, Tensor]], model: LoadedModel
) -> None:
    """Check that the model gives again what the latest prompt of a checkpoint gave.

    Args:
        latest: the norms of its results, by stream; empty in checkpoints of earlier versions.
        results: returns the results of that prompt.
        model: the model.

    Raises:
        ScopeError: it gives something else: it is in another state.
    """
    if not latest:
        return
    norms, bound = norms_of(results()), SAME if model.dtype.itemsize > 2 else SAME_IN_HALF
    if any(not abs(norms[at] - norm) <= bound * norm for at, norm in latest.items()):
        raise ScopeError(
            "the checkpoint was made with the model in another state: its last prompt gives "
            "other numbers now",
            again(),
        )


def _other_prompts() -> ScopeError:
    return ScopeError("the prompts are not those that the checkpoint was made of", again())
