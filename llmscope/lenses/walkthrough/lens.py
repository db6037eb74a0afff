"""The definition of the lens `walkthrough`, and its mode `steps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.figure import Axis, Figure, Focus, Verdict
from llmscope.figure.tables import index, key, number, text
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.options import HEAD, LAYER, POSITION, LensOption
from llmscope.lenses.walkthrough.story import caption, ends, opening
from llmscope.lenses.walkthrough.value import weights_of

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.walkthrough import Step

TITLE = "Walkthrough"
STEP = LensOption[int | None](
    *("step", "integer", None, "Index of a step, from 0."), least=0, shown="all"
)
WEIGHT = LensOption[int | None](
    *("weight", "integer", None, "Index of a weight that the step reads, from 0."),
    least=0,
    shown="the output of the step",
)
CELL = LensOption[tuple[int, int] | None](
    "cell",
    "pair",
    None,
    "A number of the step or the weight in the mode values, from 0.",
    "ROW,COLUMN",
    least=0,
)


def compute(recording: Recording, focus: Focus, run: Run) -> Figure:
    """List every operation of the forward pass in order, with the focused layer in detail.

    Each step is recomputed from the steps before it, by arithmetic in float64 that runs no module
    of the model (except where `by` is "module"), and compared with the model's own value from a
    traced pass: |difference| / the largest magnitude of the row, at most 1e-5 in float32. Only a
    step that differs more is refused: it shows the model's own value, and later steps start from
    that.

    Modes: `steps`: mean, standard deviation, minimum, maximum and L2 norm over all numbers of a
    step [step, statistic]; `values`: the numbers of one step (`focus.step`), or of one of the
    weights that it reads (`focus.weight`), at the position or around `focus.cell` [row, column].

    `extra` of `steps`: mode, layer, head, position, caption; agreement: one per step, NaN where the
    model exposes no value to compare; `steps`: for each of them name, part, layer (None: not of a
    single layer), gist, sentence, formula, shape, axes, start (position of the first row), inputs
    (indices of earlier steps), input_shapes, weights (name, shape, part, learned), by, agreement,
    reason (of a refused step, else empty), here (the numbers at the focus, 64 at most: axis, of
    (their total number), index, values), told (texts of tokens, if its numbers are token ids); for
    the first step `opening`: the purpose of the model, and for the last one the entries of
    `llmscope.lenses.walkthrough.story.ends`. For `values` see
    `llmscope.lenses.walkthrough.values`.
    """
    from llmscope.record.walkthrough import steps

    all_steps = steps(recording, focus.position, focus.layer, run)
    verdict = _verdict(all_steps)
    if verdict.status == "refused":
        return Figure.refused("walkthrough", TITLE, verdict.reason, verdict.discrepancy)
    longest = max(
        (
            size
            for step in all_steps
            for name, size in zip(step.axes, step.shape, strict=False)
            if name in ("position", "query", "key")
        ),
        default=0,
    )
    if longest > len(recording):
        reason = "the model runs rows of its own beside the tokens', and its steps are of both"
        return Figure.refused("walkthrough", TITLE, reason)
    if focus.mode == "values":
        from llmscope.lenses.walkthrough.values import values

        return values(recording, focus, all_steps)
    return _table(recording, focus, all_steps, verdict, run)


def _verdict(all_steps: Sequence[Step]) -> Verdict:
    """Return the verdict over all steps: partial if some are refused, with the first as reason."""
    measured = [
        step.agreement for step in all_steps if step.agreement is not None and not step.reason
    ]
    failed = [(index, step) for index, step in enumerate(all_steps) if step.reason]
    largest = max(measured, default=None)
    if not failed:
        return Verdict("verified", "", largest)
    index, step = failed[0]
    others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    status = "partial" if measured else "refused"
    return Verdict(status, f"step {index}, {step.name}: {step.reason}{others}", step.agreement)  # type: ignore[arg-type]


def _table(
    recording: Recording, focus: Focus, all_steps: Sequence[Step], verdict: Verdict, run: Run
) -> Figure:
    from llmscope.record.walkthrough.step import STATISTICS

    agreement = [np.nan if step.agreement is None else step.agreement for step in all_steps]
    return Figure(
        lens="walkthrough",
        title=f"{TITLE} · layer {focus.layer} from inside",
        kind="table",
        axes=(Axis("step", tuple(step.name for step in all_steps)), Axis("statistic", STATISTICS)),
        values=np.stack([step.statistics() for step in all_steps]),
        unit="",
        verdict=verdict,
        extra={
            "mode": focus.mode,
            "layer": focus.layer,
            "head": focus.head,
            "position": focus.position,
            "steps": [_step(step, all_steps, recording, focus) for step in all_steps],
            "agreement": np.array(agreement, dtype=np.float64),
            "caption": caption(recording, focus, all_steps, run),
        },
    )


def _step(
    step: Step, all_steps: Sequence[Step], recording: Recording, focus: Focus
) -> dict[str, Any]:
    """Return the entry of one step in `extra`."""
    return {
        "name": step.name,
        "part": step.part,
        "layer": step.layer,
        "gist": step.gist,
        "sentence": step.sentence,
        "formula": step.formula,
        "shape": list(step.shape),
        "axes": list(step.axes),
        "start": step.start,
        "inputs": list(step.inputs),
        "input_shapes": [list(all_steps[index].shape) for index in step.inputs],
        "weights": weights_of(step),
        "by": step.by,
        "agreement": step.agreement,
        "reason": step.reason,
        "here": _here(step, recording, focus),
        "told": _token_texts(step, recording),
        **_ends(step, recording, focus),
    }


def _ends(step: Step, recording: Recording, focus: Focus) -> dict[str, Any]:
    """Return the additional entries of the first and the last step; empty for others."""
    if step.name == "tokens":
        return {"opening": opening(recording, focus.position)}
    return ends(recording, focus, int(step.value[0])) if step.name == "next token" else {}


def _here(step: Step, recording: Recording, focus: Focus) -> dict[str, Any]:
    """Return the numbers of a step at the focus: the first, or for token scores the largest."""
    from llmscope.record.walkthrough.step import AT_MOST

    heads = recording.model.anatomy.heads
    values, axis = step.here(focus.position, focus.head, heads)
    if axis == "token" and not step.counts:
        chosen = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:AT_MOST]
    else:
        chosen = np.arange(min(len(values), AT_MOST))
    here = {"axis": axis, "of": len(values), "index": chosen, "values": values[chosen]}
    if axis == "token" and not step.counts:
        here["tokens"] = [recording.model.label(int(token)) for token in chosen]
    return here


def _token_texts(step: Step, recording: Recording) -> list[str]:
    """Return the texts of the tokens if the numbers of a step are token ids, else an empty list."""
    if step.name == "tokens":
        return list(recording.prompt.labels)
    if step.counts:
        return [recording.model.label(int(token)) for token in step.value]
    return []


LENS = Lens(
    name="walkthrough",
    question="What happens, step by step?",
    compute=compute,
    passes="own",
    needs=("readout",),
    options=(LAYER, HEAD, POSITION, STEP, WEIGHT, CELL),
    modes=("steps", "values"),
    tables=("steps",),
    only_in={"weight": ("values",), "cell": ("values",)},
    axes={"steps": ("step", "statistic")},
    columns=(
        key("layer", "layer that is shown from inside, from 0", "layer", ("steps",)),
        key("head", "head, from 0", "head", ("values",)),
        index("number of the step, from 0", ("steps",)),
        key("index", "number of the step, from 0", "step", ("values",)),
        number("value", "the statistic of all numbers of the step", modes=("steps",)),
        text("step", "name of the step", "name", ("values",)),
        number("value", "the number", modes=("values",)),
    ),
    edited="refused",
    unpaired={"": "a walk goes through one prompt"},
    help="""\
A model reads a text and says which token comes next; a token is a letter, a word or a part of \
one. In between there are only numbers, and here is every step from the text to the answer, one a \
row: what it is called, what it does, and the shape of what comes out. Six tokens with 48 numbers \
each are 6 × 48. Behind it are the mean of those numbers, their standard deviation, the least and \
the largest, and the length (L2 norm) of all of them together. One layer is shown from inside, the \
one in the focus; the others do the same with other weights, and are one row that says what they \
add.

It begins with a list of numbers, a vector, for each token: which token it is and, in some models, \
where it stands. No single one of them has a meaning of its own; together they say what the model \
knows of the token so far. This is the stream, which runs through all layers, and each layer adds \
to it.

Attention lets tokens look at earlier ones. It has several heads, each of which looks for \
something else. A token's query says what it looks for, the keys of the others what they offer; \
query and key multiplied and added up are a score, the higher the better they fit. Scores become \
shares that sum to 1, and the values of the tokens that are looked at are mixed by these shares.

The MLP then works on each token alone: many neurons each ask a question of its numbers, and those \
that find what they ask for fire and add numbers of their own. Both read the stream brought to one \
size, for it grows from layer to layer. At the end it is read out: a number for each token of the \
vocabulary, which a softmax turns into probabilities.

The mode values shows the numbers of one step, or of one of the weights that it reads, which are \
what the model has learned; of a cell it tells how that number came about. In heads that share \
keys, a key and a value belong to several heads. Angles turn queries and keys in models with \
rotary positions.

Every number is computed again from the steps before it, with arithmetic of llmscope's own, and \
held against what the model computed. A step whose numbers differ by more than a hundred \
thousandth of the row's largest is refused alone: there the model's own are shown, and the walk \
goes on from them. What cannot be taken apart, experts or a state space, is one step, which the \
model's own module does again.""",
    shows={
        "steps": "every operation of the pass in order, with statistics of what comes out",
        "values": "the numbers of one step or one weight, and how one of them came about",
    },
    sources="""\
Vaswani et al. 2017, "Attention Is All You Need"; Ba et al. 2016 for layer norm, Zhang & Sennrich \
2019 for RMSNorm; Su et al. 2021, "RoFormer", for the rotation; Shazeer 2020 for gated MLPs; \
Elhage et al. 2021 for the stream.""",
    establishes="""\
that the pass is made of these operations: each is computed again from the one before, and held \
against what the model computed.""",
    not_established="""\
what the numbers mean. No single one of them has a meaning of its own, and arithmetic is no \
explanation of an answer.""",
    next_check="""\
the lens attribution tells which of these writes reach the answer, and ablation what changes \
without them.""",
)
