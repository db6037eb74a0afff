"""The definition of the lens `context`, and its modes `last` and `query`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.tables import key, number, text
from llmscope.lenses.base import Lens, Run, layer_kinds
from llmscope.lenses.context.curves import STEPS, gain, steps
from llmscope.lenses.context.runs import carried_figure, run_comparison
from llmscope.lenses.options import CONTEXT, TARGET, LensOption
from llmscope.support.numbers import significant
from llmscope.support.text import display_text, quoted_token

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.context.split import Query
    from llmscope.record.context.weight_update import Pass

TITLE = "Context as an update of the weights"
ANSWER = LensOption[tuple[int, ...] | None]("answer", "tokens", None)
DIVERGENCES = ("kl_patched", "kl_unpatched", "kl_naive")
DIFFERENCES = ("max_logit_difference", "unpatched_logit_difference", "naive_logit_difference")


def compute(recording: Recording, focus: Focus, run: Run) -> Figure | Iterator[Figure]:
    """Compute the update of the weights that replaces the context: ‖ΔW‖_F / ‖W‖_F. [layer, matrix]

    The prompt is a context and a query: `focus.context` tokens come before the query, or all lines
    except the last, or in a prompt of one line all clauses, words or tokens except the last. The
    query runs alone, keeping its positions and the prompt's leading special tokens, and each layer
    is patched for the output of the layers below it, already patched:
    ΔW = W (z - z₀) z₀ᵀ / ‖z₀‖² for the matrices that read the MLP's input, NaN where a layer has
    no such matrix. z is that input in the prompted run, z₀ in the patched one.

    Modes: `last`: for the last token, with the stream's change u - u₀ as a bias (rank 1); `query`:
    for every token of the query (the pseudo-inverse instead of z₀ᵀ / ‖z₀‖², rank up to the number
    of its tokens), with u - u₀ in the down projection, which then has a column.
    `lines` and `tokens`: the trajectory, ‖ΔWᵢ - ΔWᵢ₋₁‖ / ‖W‖ as the context grows by an example or
    a token [layer, prefix], all first matrices of a layer as one, z₀ from the query alone, no
    layer patched. An example is a line, or as many lines as the query has, or a block between blank
    lines if the context has any. `extra`: update_norm: ‖ΔWᵢ‖ / ‖W‖; cosine: cos(ΔWᵢ, ΔWᵢ₋₁);
    step_cosine: the cosine of successive steps, all [layer, prefix], NaN where one of the two is
    missing; ends: the number of tokens of each prefix.
    `gain`: −log₂ p of the whole answer after the query, in bits, with the first 0, 1, 2, … examples
    before it [examples]. The answer is `focus.answer`, else the target, else the likeliest next
    token. `extra`: answer; answer_ids; tokens: the surprisal of each token of the answer
    [examples, token]; ends.

    `extra` of the first two, all KL(prompted ‖ other) at the last token, in nats, and differences
    in logits over the patched rows: kl_patched, kl_unpatched (the query alone), kl_naive (every
    layer's update from the unpatched run); max_logit_difference (patched),
    unpatched_logit_difference, naive_logit_difference; update_norm: the values; stream_shift:
    ‖u - u₀‖ / ‖u‖ [layer]; context, kept, query: numbers of tokens; rank; prompted and unpatched:
    their likeliest token; runs, says, says_probability, expected_probability, kl, difference: of
    the four runs, see `llmscope.lenses.context.runs.run_comparison`; caption.

    For a model with a context adapter on (see `Scope.teach`), the first two modes show its update,
    and in `runs` how far it generalizes to this prompt: the base model that reads the context
    first, the taught model, and the base model alone; kl_taught, kl_unpatched.

    Refused if the patched run's logits differ from the prompted run's: bound 1e-4 of a row's
    largest logit, or four roundings in half precision.
    """
    from llmscope.record.context.low_rank import Unpatchable
    from llmscope.record.context.split import labels_with_lines, query_of, query_start

    lesson = recording.model.lesson
    if lesson is not None and focus.mode in ("last", "query"):
        try:
            return carried_figure(recording, lesson)
        except Unpatchable as finding:
            return Figure.refused("context", TITLE, str(finding))
    before = focus.context
    if before is None:
        special = recording.prompt.special
        leading = sum(1 for _ in takewhile(bool, special))
        before = query_start(labels_with_lines(recording.prompt), leading)
    if before is None:
        reason = "the prompt has no context: a single token, with nothing before it"
        return Figure.lacking("context", TITLE, "context", reason)
    try:
        query = query_of(recording.prompt, before, rows=None if focus.mode == "query" else 1)
    except ValueError:
        if focus.context is not None:
            raise
        reason = "the prompt has nothing before its last line"
        return Figure.lacking("context", TITLE, "context", reason)
    try:
        if focus.mode == "gain":
            return gain(recording, query, before, focus, run)
        if focus.mode in STEPS:
            return steps(recording, query, before, focus.mode)
        return _figure(recording, query, weights_only=focus.mode == "query")
    except Unpatchable as finding:
        return Figure.refused("context", TITLE, str(finding))


def _figure(recording: Recording, query: Query, *, weights_only: bool) -> Figure:
    import torch

    from llmscope.record.context import weight_update
    from llmscope.record.derive.kl import kl_divergence

    prompted = weight_update.prompted_logits(recording, query)
    alone = weight_update.bare(recording, query)
    patched = weight_update.learn(recording, query, weights_only=weights_only)
    wrong = weight_update.disagreement(recording, prompted, patched.logits)
    if wrong.status == "refused":
        return Figure.refused("context", TITLE, wrong.reason, wrong.discrepancy)
    naive = weight_update.learn(recording, query, weights_only=weights_only, known_pass=alone)
    names, values = _norms(patched)
    if not names:
        return Figure.refused("context", TITLE, "no layer has an MLP whose weights could change")

    def kl(run: Pass) -> float:
        return float(kl_divergence(prompted, run.logits)[-1])

    def difference(run: Pass) -> float:
        return float((prompted - run.logits).abs().max())

    def likeliest(logits: torch.Tensor) -> str:
        return recording.model.label(int(logits[-1].argmax()))

    runs = (patched, alone, naive)
    divergences, differences = [kl(run) for run in runs], [difference(run) for run in runs]
    says = [
        display_text(likeliest(logits), whitespace=True)
        for logits in (prompted, patched.logits, alone.logits)
    ]
    return Figure(
        lens="context",
        title=TITLE,
        kind="heatmap",
        axes=(
            Axis("layer", tuple(str(layer) for layer in range(len(values)))),
            Axis("matrix", names),
        ),
        values=values,
        unit="relative norm",
        verdict=wrong,
        extra={
            **dict(zip(DIVERGENCES, divergences, strict=True)),
            **dict(zip(DIFFERENCES, differences, strict=True)),
            "update_norm": values,
            "stream_shift": _shifts(patched),
            "context": query.context,
            "kept": query.kept,
            "query": len(query.ids) - query.kept,
            "rank": query.rows,
            "prompted": likeliest(prompted),
            "unpatched": likeliest(alone.logits),
            "mode": "query" if weights_only else "last",
            **run_comparison(
                {"prompted": prompted, "patched": patched.logits}
                | {"naive": naive.logits, "alone": alone.logits},
                prompted,
                recording.model.label,
            ),
            "caption": (
                _proof("KL from the prompted run, nats", divergences),
                _proof("largest difference of a logit", differences),
                "likeliest next: with the context {}, patched {}, query alone {}".format(*says),
            ),
            **layer_kinds(recording),
        },
    )


def _proof(what: str, numbers: Sequence[float]) -> str:
    patched, alone, naive = (f"{number:.2g}" for number in numbers)
    return f"{what}: patched {patched}, query alone {alone}, naive {naive}"


def _norms(patched: Pass) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the matrices in the order of the pass, and ‖ΔW‖ / ‖W‖. [layer, matrix]"""
    by_layer = [
        {update.name: update.relative for update in (*layer.firsts, layer.down) if update}
        for layer in patched.layers
    ]
    names = tuple(dict.fromkeys(name for layer in by_layer for name in layer))
    rows = [[layer.get(name, np.nan) for name in names] for layer in by_layer]
    return names, np.array(rows, dtype=np.float32)


def _shifts(patched: Pass) -> np.ndarray:
    """Return ‖u - u₀‖ / ‖u‖ of the last row. [layer]"""
    shares = [
        float(layer.shift[-1].float().norm() / layer.target[-1].float().norm())
        for layer in patched.layers
        if layer.shift is not None and layer.target is not None
    ]
    return np.array(shares, dtype=np.float32)


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the next token of each run, and how far it is from the run with the context."""
    extra = figure.extra
    if "runs" not in extra:
        return
    first, *others = zip(extra["runs"], extra["says"], extra["kl"], strict=True)
    yield f"with its context it says {quoted_token(str(first[1]))}"
    for run, token, kl in others:
        yield f"{run}: {quoted_token(str(token))}, KL {significant(float(kl))} nats"


LENS = Lens(
    name="context",
    question="What did the context teach it?",
    compute=compute,
    passes="own",
    needs=("readout", "writes"),
    options=(CONTEXT, ANSWER, TARGET),
    modes=("last", "query", "lines", "tokens", "gain"),
    only_in=dict.fromkeys(("answer", "target"), ("gain",)),
    axes={
        **dict.fromkeys(("lines", "tokens"), ("layer", "prefix")),
        "gain": ("examples",),
        "": ("layer", "matrix"),
    },
    columns=(
        key("end", "tokens of the context up to there", "ends", ("lines", "tokens", "gain")),
        number("change", "‖ΔW‖ / ‖W‖ of the matrix", unit="relative norm", modes=("last", "query")),
        number(
            "step", "‖ΔWᵢ − ΔWᵢ₋₁‖ / ‖W‖ of this step", "", "relative norm", ("lines", "tokens")
        ),
        number("change", "‖ΔWᵢ‖ / ‖W‖", "update_norm", "relative norm", ("lines", "tokens")),
        number(
            "cosine", "of this update and the one before", "cosine", "cosine", ("lines", "tokens")
        ),
        number(
            *("step_cosine", "of this step and the one before", "step_cosine", "cosine"),
            ("lines", "tokens"),
        ),
        number("surprisal", "−log₂ p of the whole answer", unit="bits", modes=("gain",)),
        text("answer", "the answer", "answer", ("gain",)),
    ),
    edited="refused",
    unpaired={"": "the context and the query are those of one prompt"},
    describe=describe_cursor,
    help="""\
A prompt is a context followed by a query: examples and a new case, instructions and a question. \
Here the query is the last line, or what follows `--context-file`; in a prompt of one line it is \
the last clause, or else the last word. Take the context away and \
change the weights instead: there is one smallest change of each MLP's first matrices, and one \
vector added to the stream after each layer, with which the model says of the query alone exactly \
what it said of the whole prompt. Each row is a layer, each column a matrix, a cell the size of \
its change, ‖ΔW‖ / ‖W‖.

What is exact: the two runs agree in every logit up to rounding. The proof stands below the \
picture: KL(prompted ‖ patched) beside that of the query alone, and that of the naive way, where \
each layer is changed as if the ones below it were not; and the same for the largest difference \
of a logit. What is an identity: a matrix that reads z₀ can always be changed to give what it gave \
of z, whatever the context says. It writes down what the context did to this query, and does not \
fit another query by itself. What is only suggestive: fed piece by piece, these changes have the \
form of steps of gradient descent, but on a loss that the steps themselves define. That is no \
proof that the model descends its language-modelling loss.

In layers whose MLP runs beside the attention, ΔW is 0 and the stream carries it all. Special \
tokens at the start, such as BOS, stay with the query, and all tokens keep their positions. Mode \
`last` is for the last token (rank 1); `query` for every token of the query, by weights alone. \
`llmscope bake` writes the change as an adapter.

Modes `lines` and `tokens` show the trajectory: how far each example, or each token, of the \
context moves the update, in each layer for itself, with nothing patched. An example is a line; \
where the query has more lines, as many as that; or what stands between blank lines where there \
are any. The JSON has the cosines of successive updates and of successive steps as well: near 1 \
the steps go on in one direction, below 0 one takes back part of the one before. Over tokens, \
steps need not shrink, for every token gives the query another role.

Mode `gain` measures instead of describing: the surprisal of the whole expected answer after the \
query with 0, 1, 2, … examples before it, in bits. `--answer` says which answer; otherwise it is \
the target, or the token that the model itself finds likeliest. The examples stay in their order, \
so what the curve says of one holds after those before it.""",
    shows={
        "last": "size of each matrix's change that replaces the context for the last token",
        "query": "size of each matrix's change that replaces it for every token of the query",
        "lines": "how far each example of the context moves the update, layer by layer",
        "tokens": "how far each token of the context moves it",
        "gain": "surprisal of the answer after 0, 1, 2, … examples, in bits",
    },
    formula="""\
ΔW = W (z - z₀) z₀ᵀ / ‖z₀‖², z and z₀ the MLP's input with the context and, patched, without""",
    sources="""\
Dherin et al. 2025, "Learning without training"; Goldwaser et al. 2025 for gated MLPs, layer by \
layer.""",
    establishes="""\
that this change of the weights does for this query what the context does: the two runs agree in \
every logit up to rounding, as the proof below the picture tells. `gain` establishes what the \
examples do for the answer, in bits.""",
    not_established="""\
that the model learns by gradient descent, or that the change holds for another query: a matrix \
can always be changed to give for one input what it gave for another.""",
    next_check="""\
`gain` with the right answer (--answer), and the same with examples that say something else; \
`llmscope bake` tries the change on other queries.""",
)
