"""The lens `experts`: the routing of each token in a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.tables import Column, key, number
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.options import LAYER
from llmscope.support.numbers import share

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.fetch import Fetch


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Fetch | Figure]:
    """Show the router's score of each expert of a layer, for each token. [position, expert]

    softmax(router logits), a probability; or sigmoid(router logits), a score, in models that use
    it. Taken before the model normalizes or scales the weights of the chosen experts.

    `extra`: layer; scoring: `softmax` or `sigmoid`; chosen: the experts that ran, the largest
    weight first, and weights: the factors of their outputs [position, choice]; load: the share of
    the tokens that each expert ran for [expert], which sums to the number of choices.
    """
    from llmscope.record.derive.experts import routing
    from llmscope.record.fetch import on_cpu

    routed = routing(recording, focus.layer)
    weights, order = routed.weights.sort(dim=-1, descending=True)
    near = yield from on_cpu(routed.chosen.gather(-1, order), weights, routed.scores)
    chosen, weighed, scores = (tensor.numpy() for tensor in near)
    count = scores.shape[1]
    experts = tuple(str(expert) for expert in range(count))
    yield Figure(
        lens="experts",
        title=f"Experts · layer {focus.layer}",
        kind="heatmap",
        axes=(Axis("position", recording.prompt.labels), Axis("expert", experts)),
        values=scores,
        unit="probability" if routed.scoring == "softmax" else "score",
        extra={
            "layer": focus.layer,
            "scoring": routed.scoring,
            "chosen": chosen,
            "weights": weighed,
            "load": np.bincount(chosen.ravel(), minlength=count) / len(chosen),
        },
    )


def _experts_that_ran(figure: Figure) -> NDArray[np.bool_]:
    """Return whether each expert ran. [position, expert]"""
    ran = np.zeros(figure.values.shape, bool)
    np.put_along_axis(ran, np.asarray(figure.extra["chosen"]), True, axis=1)
    return ran


def _weights(figure: Figure) -> NDArray[np.float32]:
    """Return the weights of the experts' outputs, NaN for those that did not run."""
    by_expert = np.full(figure.values.shape, np.nan, np.float32)
    chosen, weights = (np.asarray(figure.extra[name]) for name in ("chosen", "weights"))
    np.put_along_axis(by_expert, chosen, weights.astype(np.float32), axis=1)
    return by_expert


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the experts that ran for the token, with the weights of their outputs."""
    extra = figure.extra
    if extra["layer"] == focus.layer:
        row = focus.position
        weighed = zip(extra["chosen"][row], extra["weights"][row], strict=True)
        experts = ", ".join(f"{int(expert)} ({share(float(weight))})" for expert, weight in weighed)
        yield f"experts {experts}"


LENS = Lens(
    name="experts",
    question="Who was routed where?",
    compute=compute,
    fetches=("",),
    needs=("experts",),
    options=(LAYER,),
    axes={"": ("position", "expert")},
    columns=(
        key("layer", "layer, from 0", "layer"),
        number("score", "what the router gives: a probability, or a score from 0 to 1"),
        Column("chosen", "bool", "label", "whether the expert ran", of=_experts_that_ran),
        Column("weight", "float32", "value", "of its output; null if it did not run", of=_weights),
    ),
    describe=describe_cursor,
    help="""\
Some models have many MLPs in a layer, the experts, and run only a few of them for each token. \
A router decides which. Each row is a token, each column an expert of this layer, a cell what the \
router gives that expert: a probability, whose row sums to 1, or a score between 0 and 1 in models \
that judge each expert alone.

The experts with the highest cells run, except in models that steer the choice with a bias or \
choose among groups first; the figure's JSON names the chosen ones and the weights of their \
outputs, as the model used them, and the load: the share of the tokens that each expert ran for. A \
load far from even means that some experts do most of the work.""",
    formula="softmax or sigmoid of the router's logits",
    sources="""\
Shazeer et al. 2017, "Outrageously Large Neural Networks"; DeepSeek-AI 2024 for the sigmoid.""",
    establishes="""\
which experts ran for each token in this layer, with the scores and weights of the model's own \
router.""",
    not_established="""\
what an expert does, or that it is a specialist: tokens that go to one expert in a prompt need not \
have a meaning in common.""",
    next_check="""\
the lens attribution, mode experts: what each of them wrote to the answer; and \
route many prompts (--prompts FILE) and group the table by the class of the token: does the choice \
follow the text, or the place?""",
)
