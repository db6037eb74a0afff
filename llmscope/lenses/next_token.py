"""The lens `next-token`: the distribution of the next token."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import WrongValueError
from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.tables import count, key, label, number, text
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.options import POSITION, TARGET, TOP_K, VERSUS, LensOption
from llmscope.models.sampler import Sampler, left
from llmscope.support.numbers import percent
from llmscope.support.text import quoted_token

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.lenses.base import RankRange
    from llmscope.record.capture.recording import Recording
    from llmscope.record.fetch import Fetch, Fetching

TEMPERATURE = LensOption("temperature", "number", 1.0, "Divides the logits.", above=0)
SAMPLE_TOP_K = LensOption(
    *("sample_top_k", "integer", 0, "The sampler's top-k cut; 0 keeps all."), least=0
)
TOP_P = LensOption("top_p", "share", 1.0, "The sampler's top-p cut.")
MIN_P = LensOption("min_p", "share", 0.0, "The sampler's min-p cut.")
DIFFERENCE = "logit of the target minus that of versus"
WHOLE = ("cpu", "mps")
"""Devices whose logits are reduced on the CPU: numpy is faster there, and MPS has no float64."""
SAMPLER: tuple[LensOption[Any], ...] = (TEMPERATURE, SAMPLE_TOP_K, TOP_P, MIN_P)


def sampler(focus: Focus) -> Sampler:
    """Return the sampler whose temperature and cuts a focus asks for."""
    return Sampler(TEMPERATURE.of(focus), SAMPLE_TOP_K.of(focus), TOP_P.of(focus), MIN_P.of(focus))


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Fetch | Figure]:
    """Compute softmax(logits / temperature) after one token: the top-k, descending. [token]

    `extra`: ids and logits of the candidates; kept (bool): whether a sampler with these settings
    could draw them (see `llmscope.models.sampler`); entropy of the whole distribution, in bits;
    target_id, target_rank (from 1), target_probability and target_logit; position. With versus
    also versus, versus_id, versus_logit, and difference: logit(target) - logit(versus). Logits are
    the model's, before the temperature. For an edited pass also, of the unedited one: unedited: the
    probabilities of the same candidates; unedited_target_rank, unedited_target_probability,
    unedited_target_logit and unedited_difference; kl: KL(unedited ‖ edited) in nats; if its logits
    are not finite, these are NaN and the rank is None.
    """
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.fetch import on_cpu

    passes = [recording] if recording.base is None else [recording, recording.base]
    scores = [logits_after(pass_, focus.position) for pass_ in passes]  # each [token]
    vocabulary, target = len(scores[0]), focus.target
    for token in (target, focus.versus):
        if token is not None and not 0 <= token < vocabulary:
            raise WrongValueError(f"token {token} is out of range: the vocabulary has {vocabulary}")
    before: list[Tensor] = []
    far = scores[0].device.type not in WHOLE
    if far and len(passes) == 1 and not sampler(focus).cuts:
        best = yield from _reduce_on_device(scores[0], focus)
    else:
        logits, *before = yield from on_cpu(*scores)
        best = _best(logits, focus)
    if best is None:
        yield Figure.refused("next-token", "Next token", "the logits hold NaN or infinity")
        return
    label = recording.model.label
    versus: dict[str, Any] = {}
    if focus.versus is not None:
        assert best.versus_logit is not None
        versus = {
            "versus_id": focus.versus,
            "versus": label(focus.versus),
            "versus_logit": best.versus_logit,
            "difference": best.target_logit - best.versus_logit,
        }
    figure = Figure(
        lens="next-token",
        title=f"Next token after ‹{recording.prompt.labels[focus.position]}›",
        kind="bars",
        axes=(Axis("token", tuple(label(int(token)) for token in best.ids)),),
        values=best.probabilities.astype(np.float32),
        unit="probability",
        extra={
            "ids": best.ids,
            "logits": best.logits,
            "kept": best.kept,
            "entropy": best.entropy,
            "position": focus.position,
            "after": recording.prompt.labels[focus.position],
            "temperature": TEMPERATURE.of(focus),
            "target_id": best.target,
            "target": label(best.target),
            "target_rank": best.rank,
            "target_probability": best.target_probability,
            "target_logit": best.target_logit,
            **versus,
        },
    )
    for unedited in before:
        beside = other_predictions(logits, unedited, focus, best.ids, figure, "unedited")
        figure = replace(figure, extra={**figure.extra, **beside})
    yield figure


@dataclass(frozen=True)
class _Best:
    """The most probable tokens, and what else a figure tells of the distribution.

    Attributes:
        ids: the tokens, most probable first; equal ones in order of their ids. [candidate]
        probabilities: of them, in float64. [candidate]
        logits: of them, as the model gave them. [candidate]
        kept: whether a sampler could draw them. [candidate]
        entropy: of the whole distribution, in bits.
        target: the target token: the most probable one unless another is given.
        rank: the rank of the target, from 1.
        target_probability: the probability of the target.
        target_logit: the logit of the target.
        versus_logit: that of the token that it is held against; None without one.
    """

    ids: NDArray[np.intp]
    probabilities: NDArray[np.float64]
    logits: NDArray[np.float32]
    kept: NDArray[np.bool_]
    entropy: float
    target: int
    rank: int
    target_probability: float
    target_logit: float
    versus_logit: float | None


def _best(logits: Tensor, focus: Focus) -> _Best | None:
    """Return the most probable tokens, from logits on the CPU; None if they are not finite."""
    if not math.isfinite(float(logits.max())):  # NaN wins every maximum
        return None
    scaled = _scale_logits(logits, TEMPERATURE.of(focus))
    probabilities = _softmax(scaled)
    ids = _largest(scaled, focus.top_k)
    target = int(ids[0]) if focus.target is None else focus.target
    return _Best(
        ids=ids,
        probabilities=probabilities[ids],
        logits=logits[ids.copy()].numpy(),
        kept=_drawable_tokens(logits, focus)[ids],
        entropy=_entropy(probabilities),
        target=target,
        rank=int((scaled > scaled[target]).sum()) + 1,
        target_probability=float(probabilities[target]),
        target_logit=float(logits[target]),
        versus_logit=None if focus.versus is None else float(logits[focus.versus]),
    )


def _reduce_on_device(logits: Tensor, focus: Focus) -> Fetching[_Best | None]:
    """Return what `_best` returns for a sampler without cuts, computed where the logits are."""
    import torch

    from llmscope.record.fetch import on_cpu

    largest = logits.max()
    scaled = (logits.double() - largest) / TEMPERATURE.of(focus)
    probabilities = torch.softmax(scaled, -1)
    # Stable: of equal scores the first token comes first, which `topk` does not promise.
    ids = scaled.sort(descending=True, stable=True).indices[: focus.top_k]
    aimed = ids[:1]
    if focus.target is not None:
        aimed = torch.arange(focus.target, focus.target + 1, device=logits.device)
    versus = 0 if focus.versus is None else focus.versus
    largest, ids, chances, near_logits, pair, target, rank, chance, entropy = yield from on_cpu(
        *(largest, ids, probabilities[ids], logits[ids]),
        *(torch.cat([logits[aimed], logits[versus : versus + 1]]), aimed),
        (scaled > scaled[aimed]).sum() + 1,
        probabilities[aimed],
        torch.special.entr(probabilities).sum() / math.log(2),
    )
    if not math.isfinite(float(largest)):
        return None
    return _Best(
        ids=ids.numpy(),
        probabilities=chances.numpy(),
        logits=near_logits.numpy(),
        kept=np.ones(len(ids), dtype=bool),
        entropy=float(entropy),
        target=int(target),
        rank=int(rank),
        target_probability=float(chance),
        target_logit=float(pair[0]),
        versus_logit=None if focus.versus is None else float(pair[1]),
    )


def _scale_logits(logits: Tensor, temperature: float) -> NDArray[np.float64]:
    """Return (logits - max) / temperature; subtracting first avoids infinities. [token]"""
    scores: NDArray[np.float64] = logits.double().cpu().numpy()
    with np.errstate(over="ignore"):  # overflow gives -inf, a probability of 0
        scaled: NDArray[np.float64] = (scores - scores.max()) / temperature
    return scaled


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(scores - scores.max())
    share: NDArray[np.float64] = weights / weights.sum()
    return share


def other_predictions(
    ours: Tensor, other: Tensor, focus: Focus, ids: NDArray[np.intp], figure: Figure, name: str
) -> dict[str, Any]:
    """Return the predictions of another pass for a figure's candidates, for its `extra`.

    Args:
        ours: logits of the figure's pass. [token]
        other: logits of the other pass. [token]
        focus: gives the temperature.
        ids: of the candidates.
        figure: the figure, which gives the target.
        name: prefix of the keys.
    """
    now, scaled = (_scale_logits(logits, TEMPERATURE.of(focus)) for logits in (ours, other))
    target = int(figure.extra["target_id"])
    if not np.isfinite(scaled.max()):  # edits may remove the cause of NaN
        return {
            name: np.full(len(ids), np.nan, dtype=np.float32),
            f"{name}_target_rank": None,
            f"{name}_target_probability": math.nan,
            f"{name}_target_logit": math.nan,
            **({} if focus.versus is None else {f"{name}_difference": math.nan}),
            "kl": math.nan,
        }
    probabilities, before = _softmax(now), _softmax(scaled)
    seen = before > 0
    logit, difference = float(other[target]), {}
    if focus.versus is not None:
        difference = {f"{name}_difference": logit - float(other[focus.versus])}
    with np.errstate(divide="ignore"):
        apart = np.log(before[seen]) - np.log(probabilities[seen])
    return {
        name: before[ids].astype(np.float32),
        f"{name}_target_rank": int((scaled > scaled[target]).sum()) + 1,
        f"{name}_target_probability": float(before[target]),
        f"{name}_target_logit": logit,
        **difference,
        "kl": max(0.0, float((before[seen] * apart).sum())),
    }


def _largest(scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return the indices of the largest scores, descending; equal scores in order of index."""
    import torch

    # Which of equal scores `topk` returns is not promised, but the least score of them is.
    lowest = torch.topk(torch.from_numpy(scores), min(count, len(scores))).values[-1].item()
    candidates = np.flatnonzero(scores >= lowest)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


def _drawable_tokens(logits: Tensor, focus: Focus) -> NDArray[np.bool_]:
    """Return which tokens a sampler with the settings of a focus could draw. [token]"""
    settings = sampler(focus)
    if not settings.cuts:
        return np.ones(len(logits), dtype=bool)
    could: NDArray[np.bool_] = (left(logits, settings) > 0).numpy()
    return could


def _entropy(probabilities: NDArray[np.float64]) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum() / math.log(2))


def _tied_rank(figure: Figure, recording: Recording, focus: Focus, bound: float) -> RankRange:
    """Return the ranks of the target that ties allow."""
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.derive.token_stats import rank_range

    scores = logits_after(recording, focus.position)[None]
    low, high = rank_range(scores, (figure.extra["target_id"],), bound)
    return low[0], high[0]


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the likeliest candidate, and the target; see `candidates`."""
    return candidates(figure, focus, "next")


def candidates(figure: Figure, focus: Focus, lead: str) -> Iterator[str]:
    """Yield the phrases for the line below the screen: the likeliest candidate, and the target.

    The target is left out where it is the likeliest. Where the figure compares with the unedited
    pass or with prompt B, the first phrase says by how many points the probability differs.

    Args:
        figure: the next token, or a difference of two.
        focus: has the position and the target; of another position than the figure's, nothing.
        lead: the words before the first candidate.
    """
    extra = figure.extra
    if extra.get("position", focus.position) != focus.position or not figure.values.size:
        return
    labels, shares = figure.axes[0].labels, extra.get("probability", figure.values)
    text = f"{lead} {quoted_token(labels[0])} {percent(float(shares[0]))}"
    for name, by in (("unedited", "by edits"), ("other", "A − B")):
        if name in extra:
            text += f" ({100 * (float(shares[0]) - float(extra[name][0])):+.1f} points {by})"
    yield text
    target, ids = focus.target, [int(token) for token in extra.get("ids", ())]
    if target is None or not ids or target == ids[0]:
        return
    if target in ids:
        row = ids.index(target)
        yield f"{quoted_token(labels[row])} is number {row + 1} at {percent(float(shares[row]))}"
    elif extra.get("target_id") == target and "target" in extra:
        yield f"{quoted_token(str(extra['target']))} is number {extra['target_rank']}"


LENS = Lens(
    name="next-token",
    question="What comes next?",
    compute=compute,
    passes="streams",
    fetches=("",),
    needs=("readout",),
    own_logits=True,
    options=(POSITION, TARGET, VERSUS, TOP_K, *SAMPLER),
    axes={"": ("token",)},
    columns=(
        key("position", "token of the prompt after which it comes, from 0", "position"),
        label("token_id", "id of the candidate", "ids"),
        number("p", "probability of the candidate", unit="probability"),
        number("logit", "logit of the candidate", "logits", "logit"),
        label("kept", "1 if the sampler's cuts keep the candidate, else 0", "kept"),
        number("entropy", "of the whole distribution", "entropy", "bits"),
        text("target", "the target token; the first candidate unless one is given", "target"),
        label("target_id", "id of the target", "target_id"),
        number("p_target", "probability of the target", "target_probability", "probability"),
        count("rank_target", "rank of the target among all tokens, from 1", "target_rank"),
        number("logit_target", "logit of the target", "target_logit", "logit"),
        text("versus", "the token that the target is held against; null without one", "versus"),
        label("versus_id", "id of that token", "versus_id"),
        number("logit_versus", "logit of that token", "versus_logit", "logit"),
        number("logit_difference", f"{DIFFERENCE}; null without versus", "difference", "logit"),
        number(
            "logit_difference_unedited",
            "the same without the edits; null without any",
            "unedited_difference",
            "logit",
        ),
        number(
            "logit_difference_b",
            "the same after prompt B, or of model B, with change; null without",
            "other_difference",
            "logit",
        ),
        number(
            "p_unedited",
            "probability without the edits; null without any",
            "unedited",
            "probability",
        ),
        number("kl", "KL(unedited ‖ edited); null without edits", "kl", "nats"),
    ),
    ranks={"target_rank": _tied_rank},
    describe=describe_cursor,
    help="""\
The most probable tokens to follow the token under the cursor, from the whole vocabulary, each \
with its probability. On the last token it is the model's prediction; on an earlier one, what the \
model expected there before it read on.

The last line gives the entropy of the whole distribution in bits (0: certain; 10: as open as a \
thousand equally likely tokens), and the rank and probability of the target token, which is the \
first candidate unless one is pinned. With a second token (versus) the table has the logits of \
both and their difference.

A candidate that the sampler's top-k, top-p or min-p would cut is drawn dim.""",
    formula="softmax(logits / temperature)",
    establishes="what the model itself predicts after this token, over its whole vocabulary.",
    not_established="""\
why, or that it is right: a probability says how sure the model is. What is drawn in the end \
depends on the sampler.""",
    next_check="""\
the lens attribution tells who wrote the answer, logit-lens from which layer on it is there.""",
)
