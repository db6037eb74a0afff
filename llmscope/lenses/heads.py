"""The lens `heads`: scores of all attention heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import VERIFIED, Axis, Figure, Focus, Verdict
from llmscope.figure.tables import number
from llmscope.lenses.base import Lens, Run, layer_kinds

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording

TITLES = {
    "induction": "Heads · induction: looks at what followed this token before",
    "previous-token": "Heads · previous token: looks at the one before",
    "duplicate-token": "Heads · duplicate token: looks at the same token, earlier",
    "sink": "Heads · sink: share of attention that rests on the first and special tokens",
    "entropy": "Heads · entropy: how widely a head spreads its attention, on this prompt",
    "sink-by-token": "Sink share · mean over the heads of a layer",
    "entropy-by-token": "Attention entropy · mean over the heads of a layer",
}


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Compute one score per head. [layer, head]; NaN in layers without verified patterns.

    On n different random tokens repeated once (after BOS if the model has one), the mean over the
    tokens of the second copy of their attention, a probability: `induction`: to the token after
    the first occurrence, n - 1 back; `previous-token`: 1 back; `duplicate-token`: to the first
    occurrence, n back. n is 25, or less if the context or the vocabulary is small. It is run once
    per loaded model. `extra`: sequence: the ids; start: the position of the first copy; half: n.

    On this prompt, the mean over all queries: `sink`: the share of attention on the first token,
    special tokens and a learned sink, a probability; `entropy` of the rows, −Σ α log₂ α, in bits.
    `sink-by-token` and `entropy-by-token`: the same as the mean over a layer's heads for each query
    [layer, position].

    `extra` also: mode; kinds: one per layer, where they are mixed.
    """
    if focus.mode.startswith(("sink", "entropy")):
        yield from _on_this_prompt(recording, focus)
        return
    from llmscope.record.analysis.head_scores import NoSequence, scores

    try:
        head_scores = scores(recording.model, run)
    except NoSequence as finding:
        yield Figure.refused("heads", TITLES[focus.mode], str(finding))
        return
    sequence = head_scores.sequence
    more = {"sequence": sequence.ids, "start": sequence.start, "half": sequence.half}
    yield _figure(
        recording, focus, head_scores.values[focus.mode].copy(), head_scores.verdict, more
    )


def _on_this_prompt(recording: Recording, focus: Focus) -> Iterator[Figure]:
    """Yield a figure after each layer, since patterns of long prompts take long."""
    from llmscope.record.analysis.head_scores import on_this_prompt
    from llmscope.record.derive.verify import Verdicts

    which, by_token = int(focus.mode.startswith("entropy")), focus.mode.endswith("by-token")
    layers, heads = recording.layers, recording.model.anatomy.heads
    columns = len(recording) if by_token else heads
    values = np.full((layers, columns), np.nan, dtype=np.float32)
    verdicts = [VERIFIED] * layers
    for layer in range(layers):
        rows, verdicts[layer] = on_this_prompt(recording, layer)
        values[layer] = rows[which].mean(0 if by_token else -1)  # rows: [kind, head, query]
        verdict = Verdicts({"patterns": tuple(verdicts)}).over("patterns")
        yield _figure(recording, focus, values.copy(), verdict, {})


def _figure(
    recording: Recording,
    focus: Focus,
    values: NDArray[np.float32],
    verdict: Verdict,
    more: dict[str, Any],
) -> Figure:
    if verdict.status == "refused":
        return Figure.refused("heads", TITLES[focus.mode], verdict.reason, verdict.discrepancy)
    layers, columns = values.shape
    by_token = focus.mode.endswith("by-token")
    across = Axis("position", recording.prompt.labels) if by_token else None
    return Figure(
        lens="heads",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(
            Axis("layer", tuple(map(str, range(layers)))),
            across or Axis("head", tuple(map(str, range(columns)))),
        ),
        values=values,
        unit="bits" if focus.mode.startswith("entropy") else "probability",
        verdict=verdict,
        extra={"mode": focus.mode, **more, **layer_kinds(recording)},
    )


_SHARES = ("induction", "previous-token", "duplicate-token", "sink", "sink-by-token")

LENS = Lens(
    name="heads",
    question="What is each head for?",
    compute=compute,
    needs=("patterns",),
    modes=(
        *("induction", "previous-token", "duplicate-token", "sink", "entropy"),
        *("sink-by-token", "entropy-by-token"),
    ),
    axes={
        **dict.fromkeys(("sink-by-token", "entropy-by-token"), ("layer", "position")),
        "": ("layer", "head"),
    },
    columns=(
        number("score", "the share of attention that the mode names", "", "probability", _SHARES),
        number("score", "entropy of the attention", "", "bits", ("entropy", "entropy-by-token")),
    ),
    of_model=("induction", "previous-token", "duplicate-token"),
    unpaired=dict.fromkeys(
        ("induction", "previous-token", "duplicate-token"),
        "this score is of random tokens, the same for all prompts: turn to sink or entropy",
    ),
    over_steps={
        "induction": ("Induction score of each head", "induction score"),
        "previous-token": ("Previous-token score of each head", "previous-token score"),
        "duplicate-token": ("Duplicate-token score of each head", "duplicate-token score"),
    },
    help="""\
A row is a layer, a column a head, a cell one number for that head: a map of where to look closer. \
The strongest heads are named below the picture.

Three modes show the model the same random tokens twice, and ask where each head looks from the \
second copy. `induction`: at the token that came after this one the first time. Such a head \
continues a pattern that it has seen once; what it finds is usually what comes next. It needs a \
`previous-token` head in an earlier layer, which looks one token back. `duplicate-token`: at the \
same token, the first time. 1 means always, and most heads are near 0. These scores belong to the \
model, not to the prompt, and are measured once. A high score says where a head looks on random \
tokens, not what it does with that, or what it does in a text.

Two modes are of this prompt. `sink` is the share of a head's attention that rests on the first \
token, on special tokens, or on a sink that the model has learnt: near 1, the head has nothing to \
say here. `entropy` says how widely it spreads what it looks at: 0 bits for one token, 3 for eight \
alike. A token early in the prompt has little to choose from, which lowers the mean. \
`sink-by-token` and `entropy-by-token` show the same token by token, the mean over a layer's \
heads: there a column is a token.

Where layers mix tokens in different ways, a letter after the layer's number says how: \
A attention, M a state space (Mamba), C a convolution, R a recurrence. Only attention has heads.""",
    shows={
        "induction": "on random tokens shown twice: attention to what followed this token at first",
        "previous-token": "on random tokens: attention to the token before",
        "duplicate-token": "on random tokens shown twice: attention to the same token at first",
        "sink": "share of attention that rests on the first token, special ones or a learned sink",
        "entropy": "how widely attention spreads, in bits, mean over this prompt",
        "sink-by-token": "the same share at each token, mean over a layer's heads",
        "entropy-by-token": "entropy of attention at each token, mean over a layer's heads",
    },
    formula="""\
induction, previous-token, duplicate-token: mean over the tokens t of the second copy of α[t, t - \
n + 1], α[t, t - 1] and α[t, t - n], with n tokens a copy
sink, entropy: mean over all queries of Σ α over the sinks, and of −Σ α log₂ α""",
    sources="""\
Olsson et al. 2022, "In-context Learning and Induction Heads"; the sequence is that of \
TransformerLens; Xiao et al. 2023 for attention sinks.""",
    establishes="""\
where each head looks: on random tokens that are shown twice, which is of the model, or on this \
prompt (sink and entropy).""",
    not_established="""\
what a head does in a text. The scores are of where it looks, not of what it writes, and a head \
may do one thing here and another there.""",
    next_check="""\
look at the head on your own prompt with the lens attention, and switch it off with ablation.""",
)
