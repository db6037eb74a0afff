"""Token saliency: gradients of a log-probability with respect to the input embeddings.

    gradient × input       g · e,  g = d log p(target) / d e, for each position
    integrated gradients   e · ∫ g(α e) dα from 0 to 1, in the midpoints of equal steps

Both are sums over the width, signed, in nats. Sundararajan et al. 2017, "Axiomatic Attribution for
Deep Networks": the baseline is the zero embedding, and the attributions sum to log p(input) -
log p(baseline), up to the discretization error of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmscope.models.loading.memory import ran_out
from llmscope.record.capture.model_state import state_of, why_no_gradients
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.tensors import logits_after
from llmscope.record.derive.verify import discrepancy
from llmscope.record.norms import bound
from llmscope.support.sandbox import Cancelled
from llmscope.support.text import error_line

STEPS = 32
ROWS = 1024
"""Tokens in one batch: their activations are all held for the backward pass."""
NOT_LOOKED_UP = "the model does not look up each token's embedding once, in one table"
BOUND, HALF_BOUND = 1e-4, 8.0
"""Largest difference between logits computed from embeddings and those recorded, relative to the
row's largest: in float32, and in multiples of epsilon for a narrower type."""

Run = Callable[..., Any]
Score = Callable[[Tensor], Tensor]
"""Returns the score of each row of logits, in float32 or wider. `[batch, token]` -> [batch]"""


def log_probability(target: int) -> Score:
    """Return the score log p(target), in nats."""
    return lambda logits: torch.log_softmax(logits, dim=-1)[:, target]


class NoGradient(ValueError):  # noqa: N818 - a result, not an error
    """A model gives no usable gradient for its embeddings; the text says why."""


@dataclass(frozen=True, eq=False)
class Saliency:
    """Attributions of a score, such as the log-probability of a target, to the tokens before it.

    Attributes:
        values: the attribution of each token, in nats for a log-probability. [position]
        score: the score of the tokens.
        baseline: the same with zero embeddings; None for a method without a baseline.
    """

    values: Tensor
    score: float
    baseline: float | None = None


def gradient_times_input(recording: Recording, position: int, score: Score, run: Run) -> Saliency:
    """Return the gradient at the input, times the input.

    Args:
        recording: the recording.
        position: the token after which the logits are read.
        score: what is attributed.
        run: runs extra forward passes (`Passes`).

    Raises:
        NoGradient: the model does not look up each token once, gives other logits for embeddings
            than for tokens, or gives no gradient.
    """
    embeddings = input_embeddings(recording, position)
    scores, gradients = _gradients(recording, embeddings[None], score, run, position)
    return Saliency((gradients[0] * embeddings).sum(-1), float(scores[0]))


def integrated_gradients(
    recording: Recording, position: int, score: Score, run: Run, steps: int = STEPS
) -> Iterator[tuple[int, Saliency | None]]:
    """Yield the mean gradient on the line from zero embeddings to the input, times the input.

    Yields: the number of steps done, and the result: None until all steps are done.

    Raises:
        NoGradient: as for `gradient_times_input`.
    """
    embeddings = input_embeddings(recording, position)
    ends = torch.stack([embeddings, torch.zeros_like(embeddings)])
    scores, _ = _gradients(recording, ends, score, run, position)
    shares = (torch.arange(steps, device=embeddings.device) + 0.5) / steps
    total, done = torch.zeros_like(embeddings), 0
    for part in torch.split(shares.to(embeddings.dtype), max(1, ROWS // len(embeddings))):
        if len(part) < steps:
            yield done, None
        _, gradients = _gradients(recording, part[:, None, None] * embeddings, score, run)
        total += gradients.sum(0)
        done += len(part)
    values = (total / steps * embeddings).sum(-1)
    yield done, Saliency(values, float(scores[0]), float(scores[1]))


def input_embeddings(recording: Recording, position: int) -> Tensor:
    """Return the input embeddings of the tokens up to and including `position`. [row, width]"""
    model = recording.model.module
    why_not = why_no_gradients(model)
    if why_not:
        raise NoGradient(why_not)
    ids = torch.tensor(recording.prompt.ids[: position + 1], device=recording.model.device)
    with torch.no_grad():
        embeddings: Tensor = model.get_input_embeddings()(ids)
    return embeddings.detach()  # a hook of gradient checkpointing makes them require gradients


def _gradients(
    recording: Recording, batch: Tensor, score: Score, run: Run, check: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return scores, [batch], and gradients. `[batch, row, width]`

    Args:
        batch: input embeddings. `[batch, row, width]`
        check: compare the logits of the batch's first row with those recorded after this position;
            None: no comparison.
    """
    with torch.enable_grad():
        leaf = batch.detach().requires_grad_()
        logits = logits_of(recording, leaf, run)
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        scores = score(exact)
        if not scores.requires_grad:
            raise NoGradient("the metric gives no gradient")
        # A score depends on its own prompt alone, so the sum's gradient holds each prompt's own.
        try:
            (gradients,) = torch.autograd.grad(scores.sum(), leaf)
        except RuntimeError as error:
            if ran_out(error):
                raise
            raise NoGradient(
                "no gradient comes back through the model, as through packed weights or code of "
                "its own"
            ) from error
    if check is not None:
        check_agreement(recording, logits[:1].detach(), check)
    return scores.detach(), gradients


def logits_of(recording: Recording, leaf: Tensor, run: Run) -> Tensor:
    """Return the logits after the last row of input embeddings, with their graph. [batch, token]

    Args:
        recording: a recording of the model.
        leaf: the embeddings, which require a gradient. [batch, row, width]
        run: runs extra forward passes (`Passes`).

    Raises:
        NoGradient: the model does not run on embeddings, or a module in it stops gradients.
    """
    model, (count, rows) = recording.model.module, leaf.shape[:2]
    if count > 1 and state_of(model).outside:  # code that may depend on the batch
        return torch.cat([logits_of(recording, leaf[at : at + 1], run) for at in range(count)])
    # One prompt more than there are rows tells the two dimensions apart where a model swaps them.
    square = count == rows > 1
    batch = torch.cat([leaf, leaf[-1:].detach()]) if square else leaf
    ids = [list(recording.prompt.ids[:rows])] * len(batch)
    try:
        with _gradient_stops(model) as stops, _give_embeddings(model, batch):
            logits: Tensor = run(ids, grad=True, last=1).logits[:count, -1]
    except (Cancelled, torch.OutOfMemoryError, NoGradient):
        raise
    except Exception as error:  # code of a model that computes with embeddings may raise anything
        raise NoGradient(
            f"the model does not run on embeddings with a gradient: {error_line(error)}"
        ) from error
    if stops:
        raise NoGradient(stops[0])
    return logits


@contextmanager
def _give_embeddings(model: Any, batch: Tensor) -> Iterator[None]:
    """Put embeddings in the place of those that the model looks up for its tokens, in one pass.

    So what a model makes of an embedding (a factor, a norm) is in the pass, and a model that
    needs the ids as well has them.

    Args:
        model: the model.
        batch: the embeddings. [batch, row, width]

    Raises:
        NoGradient: the model does not look up each token once.
    """
    calls = 0

    def exchange(_: Any, args: Any, looked_up: Any) -> Tensor:
        nonlocal calls
        calls += 1
        for embeddings in (batch, batch.transpose(0, 1)):  # XLNet has the rows first
            if getattr(looked_up, "shape", None) == embeddings.shape:
                return embeddings.clone()  # a model may add to it in place
        raise NoGradient(NOT_LOOKED_UP)

    hook = model.get_input_embeddings().register_forward_hook(exchange)
    try:
        yield
    finally:
        hook.remove()
    if calls != 1:
        raise NoGradient(NOT_LOOKED_UP)


@contextmanager
def _gradient_stops(model: Any) -> Iterator[list[str]]:
    """Collect why gradients stop in modules whose input has a gradient and whose output has none.

    Some kernels for packed weights have no gradient. The residual stream carries a gradient past
    such a module, so the result looks like a full gradient but is only a part of it. A module
    whose output is the same for any input, such as a table of rotations, stops nothing.
    """
    reasons: list[str] = []
    hooks = []

    def hook(name: str) -> Callable[[Any, Any, Any, Any], None]:
        def look(module: Any, args: Any, named: Any, gave: Any) -> None:
            rows = next((argument for argument in args if isinstance(argument, Tensor)), None)
            if rows is None or not (isinstance(gave, Tensor) and rows.requires_grad):
                return
            if gave.shape[:-1] != rows.shape[:-1] or gave.requires_grad:
                return
            if not torch.is_grad_enabled():
                reasons.append(f"the model's own code takes no gradient through {name}")
                return
            with torch.no_grad():
                others = [argument.neg() if argument is rows else argument for argument in args]
                if not torch.equal(module.forward(*others, **named), gave):
                    reasons.append(
                        f"no gradient comes back through {name}, as through some packed weights"
                    )

        return look

    try:
        for name, module in model.named_modules():
            has_tensors = any(True for _ in module.parameters()) or any(
                True for _ in module.buffers()
            )
            if has_tensors and not any(True for _ in module.children()):
                hooks.append(module.register_forward_hook(hook(name), with_kwargs=True))
        yield reasons
    finally:
        for handle in hooks:
            handle.remove()


def check_agreement(recording: Recording, logits: Tensor, position: int) -> None:
    """Check that logits computed from embeddings are those recorded after a position. [1, token]

    Raises:
        NoGradient: they differ.
    """
    apart = discrepancy(logits, logits_after(recording, position)[None])
    if math.isnan(apart):
        raise NoGradient("the pass holds NaN or infinity there")
    if not apart <= bound(recording.model.precision, BOUND, HALF_BOUND):
        raise NoGradient(
            f"the model gives other logits for embeddings than for their tokens: off by {apart:.1e}"
        )
