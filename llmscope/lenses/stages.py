"""Stages: what did training change?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import Lens, Run

if TYPE_CHECKING:
    from llmscope.record.passes import Passes
    from llmscope.record.recording import Recording
    from llmscope.record.stages import Change
    from llmscope.record.tuned import Floats

TITLES = {
    "weights": "Stages · ‖ΔW‖ / ‖W‖ of each matrix",
    "rank": "Stages · effective rank of ΔW",
    "reward": "Stages · log π/π_ref of each token",
    "kl": "Stages · KL of the prediction after each token, tuned ‖ base",
}
NO_ADAPTER = (
    "no adapter is on, so there is nothing to hold the model against: llmscope MODEL --adapter "
    "ADAPTER, and b on the screen"
)
LISTED = 6


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """The model with the adapter that is on, held against the same model without it.

    Modes: `weights`, ‖ΔW‖ / ‖W‖ in Frobenius norms [layer, matrix]; `rank`, the effective rank
    of ΔW, exp of the entropy of σ / Σσ with σ its singular values [layer, matrix], 0 where nothing
    was changed; NaN where a layer has no such matrix. `kl`, KL(tuned ‖ base) of the next-token
    prediction after each token, in nats [position]; NaN for the context (`focus.context`).
    `reward`, log π(token) − log π_ref(token), tuned less base, of each token after those before
    it, in nats [position]: DPO's implicit reward is β times it. NaN for the first token and the
    context; with a prompt B for all tokens that both begin with, so that what is left are two
    answers to one prompt.

    σ are those of (α/r)·B·A, by the QR of its factors, for a plain LoRA; of the difference of the
    merged matrix and the base's for others, in float64.

    `extra` of all: mode, adapter, caption. Of the weights modules, the name of each matrix's module
    in its layer, and each [layer, matrix]: norm, before
    (‖W‖), rank (singular values above 1e-6 of the largest), effective_rank, stable_rank
    (‖ΔW‖² / σ₁²), largest (σ₁); outside, the same of matrices in no layer, such as the
    unembedding: name, relative, rank, effective_rank; others, the names of parameters that differ
    and are no matrices: norms, biases, experts stacked in one tensor. Of `kl`, for the focus:
    position; changed, the top_k tokens whose probability differs most, changed_ids,
    changed_probability [tuned | base, token]; total, the sum over the tokens shown. Of `reward`
    total, the same; with a prompt B versus_total, that of B's answer, and margin, total −
    versus_total: above 0, training moved the model towards this prompt's answer rather than B's.

    Refused where no adapter is on.
    """
    passes = cast("Passes", run)
    if recording.subject.origin is None or passes.origin is None:
        yield Figure.refused("stages", TITLES[focus.mode], NO_ADAPTER)
    elif focus.mode == "reward":
        yield _rewards(recording, passes, focus)
    elif focus.mode == "kl":
        yield _divergence(recording, passes.origin(recording.prompt), focus)
    else:
        from llmscope.record.stages import changes, no_matrices

        others = no_matrices(recording.subject)
        for found in changes(recording.subject):
            yield _weights(recording, found, others, focus)


def _weights(
    recording: Recording, found: Sequence[Change], others: Sequence[str], focus: Focus
) -> Figure:
    inside = [one for one in found if one.layer is not None]
    names = tuple(dict.fromkeys(one.name for one in inside))
    leaves = tuple(name.rpartition(".")[2].removesuffix("_proj") for name in names)
    labels = leaves if len(set(leaves)) == len(leaves) else names
    layers = len(recording.subject.anatomy.layers)

    def table(of: str) -> Any:
        values = np.full((layers, len(names)), np.nan, dtype=np.float32)
        for one in inside:
            values[one.layer, names.index(one.name)] = getattr(one, of)
        return values

    return Figure(
        lens="stages",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(Axis("layer", tuple(map(str, range(layers)))), Axis("matrix", labels)),
        values=table("relative" if focus.mode == "weights" else "effective_rank"),
        unit="ratio" if focus.mode == "weights" else "rank",
        extra={
            "mode": focus.mode,
            "adapter": recording.subject.adapter,
            "modules": names,
            **{
                name: table(name)
                for name in ("norm", "before", "rank", "effective_rank", "stable_rank", "largest")
            },
            "outside": [
                {
                    "name": one.name,
                    "relative": one.relative,
                    "rank": one.rank,
                    "effective_rank": one.effective_rank,
                }
                for one in found
                if one.layer is None
            ],
            "others": others,
            "caption": tuple(_said(found, others)),
        },
    )


def _said(found: Sequence[Change], others: Sequence[str]) -> Iterator[str]:
    """How many matrices changed, and which most."""
    changed = [one for one in found if len(one.spectrum)]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        yield f"changed as well, and not shown, for it is no matrix: {others[0]}{more}"
    if not changed:
        yield "no matrix differs from the base"
        return
    most = max(changed, key=lambda one: one.relative)
    where = "" if most.layer is None else f"layer {most.layer} "
    ranks = sorted({one.rank for one in changed})
    span = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    yield (
        f"{len(changed)} of {len(found)} matrices changed, {span}; most {where}{most.name}: "
        f"{most.relative:.3g} of its norm, effective rank {most.effective_rank:.3g}"
    )
    outside = [one.name for one in changed if one.layer is None]
    if outside:
        yield f"outside of the layers: {', '.join(outside)}"


def _divergence(recording: Recording, base: Recording, focus: Focus) -> Figure:
    from llmscope.record.tuned import both, divergence

    start = min(focus.context or 0, len(recording) - 1)
    values = divergence(recording, base, start)
    shares = both(recording, base, focus.position)
    change = np.abs(shares[0] - shares[1])
    order = np.argsort(-change, kind="stable")[: focus.top_k]
    order = order[change[order] > 0]
    names = tuple(recording.subject.label(int(token)) for token in order)
    said = tuple(_next(recording, focus, names, shares[:, order].T.tolist()))
    return _along(
        *(recording, focus, values, said),
        changed=names,
        changed_ids=order,
        changed_probability=shares[:, order].astype(np.float32),
    )


def _rewards(recording: Recording, passes: Passes, focus: Focus) -> Figure:
    from llmscope.record.contrast import prompt_of
    from llmscope.record.recorder import common
    from llmscope.record.tuned import log_ratios

    assert passes.origin is not None
    ids, start = focus.versus_prompt, focus.context or 0
    more: dict[str, Any] = {}
    if ids:
        start = common(recording.prompt.ids, ids)
        rejected = prompt_of(recording.subject, ids)
        theirs = log_ratios(passes.other(rejected), passes.origin(rejected))
        more["versus_total"] = float(np.nansum(theirs[start:]))
    values = log_ratios(recording, passes.origin(recording.prompt))
    values[:start] = np.nan
    total = float(np.nansum(values))
    said = f"log π/π_ref summed over {len(recording) - max(start, 1)} of its tokens: {total:+.3g}"
    if more:
        more["margin"] = total - more["versus_total"]
        said += f", over {len(ids or ()) - start} of B's {more['versus_total']:+.3g}: margin "
        said += f"{more['margin']:+.3g} nats"
    return _along(recording, focus, values, (said,), **more)


def _along(
    recording: Recording, focus: Focus, values: Floats, said: tuple[str, ...], **more: Any
) -> Figure:
    """A bar for each token of the prompt."""
    return Figure(
        lens="stages",
        title=TITLES[focus.mode],
        kind="bars",
        axes=(Axis("position", recording.prompt.labels),),
        values=values,
        unit="nats",
        extra={
            "mode": focus.mode,
            "adapter": recording.subject.adapter,
            "position": focus.position,
            "special": recording.prompt.special,
            "total": float(np.nansum(values)),
            **more,
            "caption": said,
        },
    )


def _next(
    recording: Recording, focus: Focus, names: Sequence[str], shares: Sequence[Sequence[float]]
) -> Iterator[str]:
    from llmscope.lenses.contrast_said import share

    listed = [
        f"‹{name}› {share(a)} / {share(b)}" for name, (a, b) in zip(names, shares, strict=True)
    ]
    word = recording.prompt.labels[focus.position]
    if listed:
        yield f"next after ‹{word}›, tuned / base: {', '.join(listed[:LISTED])}"
    else:
        yield f"after ‹{word}› both say the same"


LENS = Lens(
    name="stages",
    question="What did training change?",
    compute=compute,
    needs=("readout",),
    uses=("position", "mode", "top_k", "context", "versus_prompt"),
    modes=("weights", "rank", "kl", "reward"),
    edited="refused",
    help="""\
A model that was fine-tuned, held against the model that it was trained from: with an adapter and \
without it, or with all weights of its own (--adapter takes either).

weights: each cell is a weight matrix, its layer on the left, and says how large the change is \
beside the matrix itself: 0.01 means that one part in a hundred was added. An adapter that was \
trained on a narrow task often changes a few layers much more than others.

rank: in how many directions the matrix was changed. A LoRA of rank 8 can have 8 at most; an \
effective rank of 2 says that two of them do nearly all. A full fine-tune changes all directions.

kl: how much the adapter changed what the model expects after each token, in nats: 0, the same \
prediction; 0.7, about a factor of two. Tokens of a prompt were usually not trained on, so their \
predictions may drift widely without harm: look at the answer's (--context N leaves the first N \
tokens out).

reward: how much likelier the tuned model finds each token than the base does, log π/π_ref in \
nats. DPO trains a model so that β times the sum over an answer is its reward. With a second \
prompt, B, which begins with the same question and ends in another answer, the margin says which \
of the two training favours: above 0, this one.

‖ΔW‖ / ‖W‖ in Frobenius norms; exp of the entropy of σ / Σσ (Roy & Vetterli 2007) with σ the \
singular values of ΔW; KL(tuned ‖ base) = Σ p (log p − log q); Rafailov et al. \
2023 for the reward.""",
)
