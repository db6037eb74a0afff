"""The lens `patching`: the effect of patching activations of prompt B into this prompt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import option
from llmscope.figure import VERIFIED, Axis, Figure, Focus, Verdict
from llmscope.figure.tables import number
from llmscope.lenses.base import Lens, Run, layer_axis, layer_kinds
from llmscope.lenses.focus import (
    span_rows,
    sweep_heads,
    sweep_layers,
    sweep_part,
)
from llmscope.lenses.logit_target import (
    NAMED,
    TARGET_COLUMNS,
    LogitTarget,
    over,
    progress,
    strongest,
)
from llmscope.lenses.options import (
    HEADS,
    LAYERS,
    POSITION,
    SPAN,
    TARGET,
    VERSUS,
    VERSUS_PROMPT,
)
from llmscope.lenses.own_metric import METRIC, MetricTarget
from llmscope.lenses.paths import RECEIVER, Paths

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording
    from llmscope.record.change_hooks import Job
    from llmscope.record.interventions.sweep import SweepRow
    from llmscope.record.sites import Site

PATHS = "paths"
NAMES = {"stream": "stream", "attention": "attention writes", "mlp": "MLP writes", "heads": "heads"}
SITES: dict[str, Site] = {
    "stream": "stream",
    "attention": "attention_write",
    "mlp": "mlp_write",
    "heads": "heads",
}
STANDS_ON = {"attention": "writes", "mlp": "writes", "heads": "heads"}
SAME = 1e-5
"""Two logit differences count as equal up to this share of the largest logit, or up to one rounding
in half precision."""


class _Unpaired(Exception):  # noqa: N818 - it is a finding
    """The reason why prompt B cannot be patched into this one."""


@dataclass(frozen=True, eq=False)
class PatchedPair:
    """The two prompts and their answers.

    Attributes:
        recording, other: A and B.
        position: the token after which the answer is read.
        asked: the target token and the token whose logit is subtracted, or a metric.
        first: the first token at which activations of B can differ from those of A.
        rows: the tokens whose activations are patched.
        own, others: logit differences of A and B.
    """

    recording: Recording
    other: Recording
    position: int
    asked: LogitTarget | MetricTarget
    first: int
    rows: range
    own: float
    others: float

    @property
    def differ(self) -> tuple[int, ...]:
        """The positions where the tokens of A and B differ."""
        both = zip(self.recording.prompt.ids, self.other.prompt.ids, strict=True)
        return tuple(place for place, (a, b) in enumerate(both) if a != b)


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Measure the effect of patching single activations of prompt B into this pass (A).

        (LD(patched) - LD(A)) / (LD(B) - LD(A))      LD = logit(target) - logit(versus)

    at the focus position: a share, 0 for no effect, 1 for B's full difference; values below 0 and
    above 1 occur. Target is A's likeliest next token there and versus is B's, unless given. With
    `metric`, a function of the logits, LD is its value.

    Modes: `stream`: the residual stream after a layer at one token, with the embedding as first
    row; `attention` and `mlp`: their outputs at one token [layer, position]; `heads`: the head
    output, before the output projection, in all tokens at once [layer, head]; `paths`: the edge
    from each head and each MLP to the option `receiver`, in all tokens at once [layer, part]: the
    receiver alone reads what the sender writes with B's values. NaN for tokens after
    the focus position where they cannot affect it, and in layers where the part is missing or not
    verified: those cells are not run. Before the first token at which the prompts differ it is 0
    without a run. `layers`, `heads` and `span` run a part of the cells, and leave the others NaN;
    with `heads` and `paths`, `span` is the tokens in which a head is patched. If A is edited its
    edits stay in force; B is the unedited pass.

    `extra`: mode, position, target, target_id, versus, versus_id; difference and
    versus_difference: LD of A and of B; versus_ids and versus_labels: B's tokens; differ: the
    positions where the prompts differ; special; progress: passes done and total passes, in partial
    figures; kinds: one per layer, where they are mixed; caption.

    Refused without a prompt B, if A and B have different numbers of tokens, if target and versus
    are the same token, and if LD(A) and LD(B) are equal up to rounding.
    """
    from llmscope.record.interventions.sweep import Sweep, measured

    mode, passes = focus.mode, cast("Passes", run)
    into = RECEIVER.of(focus)
    named = f"paths into {into}" if mode == PATHS else NAMES[mode]
    title = f"Patching · {named} from prompt B"
    try:
        pair = _pair_with_b(recording, focus, passes)
    except _Unpaired as finding:
        if focus.versus_prompt:
            yield Figure.refused("patching", title, str(finding))
        else:
            yield Figure.lacking("patching", title, "prompt B", str(finding))
        return
    if mode == "stream" and recording.streams > 1:
        reason = f"the model keeps {recording.streams} residual streams, and none is its stream"
        yield Figure.refused("patching", title, reason)
        return
    layers = sweep_layers(focus, recording.layers)
    paths = Paths.of(pair, focus, layers, passes) if mode == PATHS else None
    if paths is None:
        verdicts = {layer: _verdict(pair, mode, layer, passes) for layer in sorted(layers)}
        verdict = over(tuple(verdicts.values()))
    else:
        verdict = paths.verdict
    if verdict.status == "refused":
        yield Figure.refused("patching", title, verdict.reason, verdict.discrepancy)
        return
    if paths is None:
        axes, kind = _axes(recording, mode), mode
        usable = {layer for layer, verdict in verdicts.items() if verdict.status != "refused"}
        rows, still = _plan(pair, focus, usable, axes)
    else:
        axes, kind = paths.axes, f"paths into {paths.into}"
        rows, still = paths.plan()
    whole = mode in ("heads", PATHS)
    sweep = Sweep(
        recording=recording,
        position=pair.position,
        key=("patching", kind, pair.other.prompt.ids, pair.rows if whole else None),
        rows=rows,
        shape=still.shape,
    )
    score = pair.asked
    measure = measured(recording, pair.position, score.value)
    for table, done in sweep.table(passes, score.key, measure):
        values = (table - pair.own) / (pair.others - pair.own)
        values[still] = 0.0
        yield Figure(
            lens="patching",
            title=f"{title} · {score}",
            kind="heatmap",
            axes=axes,
            values=values.astype(np.float32),
            unit="share",
            verdict=verdict,
            extra=_extra(pair, focus, axes, values) | progress(done, sweep.total),
        )


def _pair_with_b(recording: Recording, focus: Focus, run: Passes) -> PatchedPair:
    """Run prompt B and pair it with a recording.

    Raises:
        _Unpaired: prompt B is missing or cannot be compared with this prompt.
    """
    from llmscope.record.capture.recording import Prompt
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.norms import bound

    model, position, ids = recording.model, focus.position, focus.versus_prompt
    if not ids:
        raise _Unpaired(
            f"there is no prompt B to patch from: give one by {option('versus-prompt')}, or "
            "w on the screen"
        )
    if len(ids) != len(recording):
        raise _Unpaired(
            f"this prompt has {len(recording)} tokens and prompt B {len(ids)}: "
            "they must have as many, so that each has its place in the other"
        )
    model.anatomy.check_tokens(ids)
    labels = tuple(model.label(token) for token in ids)
    other = run.other(Prompt(tuple(ids), labels, (False,) * len(ids)))
    logits = [logits_after(side, position) for side in (recording, other)]
    score = MetricTarget.of(focus) or _answers(recording, focus, logits)
    value_a, value_b = (float(score.value(logit)) for logit in logits)
    largest = max(float(logit.abs().max()) for logit in logits)
    if isinstance(score, MetricTarget):  # in units of its own
        largest = max(abs(value_a), abs(value_b))
    if not abs(value_b - value_a) > bound(model.precision, SAME, 1.0) * largest:
        raise _Unpaired(
            f"the {score.phrase} is {value_a:.4f} here and {value_b:.4f} after prompt B: "
            "there is no difference to carry over"
        )
    # Before the first differing token A and B are equal, unless A is edited or that token is read.
    both = enumerate(zip(recording.prompt.ids, ids, strict=True))
    first = next((place for place, (a, b) in both if a != b), 0)
    if recording.changes or model.looks_ahead:
        first = 0
    rows = span_rows(focus, len(recording))
    return PatchedPair(recording, other, position, score, first, rows, value_a, value_b)


def _answers(recording: Recording, focus: Focus, logits: Sequence[Tensor]) -> LogitTarget:
    """Return the two answers of a focus: if not given, those that are likeliest after A and B.

    Raises:
        _Unpaired: they are the same.
    """
    model, tokens = recording.model, (focus.target, focus.versus)
    target, versus = (
        int(side_logits.argmax()) if token is None else token
        for token, side_logits in zip(tokens, logits, strict=True)
    )
    if target == versus:
        raise _Unpaired(
            f"target and versus are both ‹{model.label(target)}›: name two answers "
            "that the prompts differ in"
        )
    return LogitTarget.of(model, target, versus)


def _verdict(pair: PatchedPair, mode: str, layer: int, run: Passes) -> Verdict:
    """Return the verdict on the patched part of a layer."""
    from llmscope.record.change_hooks import site_of
    from llmscope.record.derive.row_checks import rows_verdict

    if mode == "stream":
        return VERIFIED
    if site_of(pair.recording.model.anatomy, SITES[mode], layer) is None:
        return Verdict("refused", f"this layer has no {NAMES[mode]}")
    verdict = run.verdicts(STANDS_ON[mode], layer)
    if mode != "heads" or verdict.status == "refused":
        return verdict
    return verdict.worst(rows_verdict(pair.other, "patterns", layer))


def _axes(recording: Recording, mode: str) -> tuple[Axis, Axis]:
    down = layer_axis(recording, embedding=mode == "stream")
    if mode == "heads":
        return down, Axis("head", tuple(map(str, range(recording.model.anatomy.heads))))
    return down, Axis("position", recording.prompt.labels)


def _plan(
    pair: PatchedPair, focus: Focus, usable: Collection[int], axes: tuple[Axis, Axis]
) -> tuple[tuple[SweepRow, ...], NDArray[np.bool_]]:
    """Return the rows to run, the last layers first, and a mask of cells where B cannot differ.

    Args:
        pair: the two prompts.
        focus: the mode, and the part of the sweep that is asked for.
        usable: the layers whose cells are run.
        axes: the axes of the table.
    """
    rows: list[SweepRow] = []
    mode, recording, differ = focus.mode, pair.recording, set(pair.differ)
    still = np.zeros((len(axes[0]), len(axes[1])), dtype=bool)
    for row in reversed(range(len(axes[0]))):
        if mode != "stream":
            chosen = row in usable
        elif row:  # the stream after the layer before
            chosen = row - 1 in usable
        else:  # the embedding
            chosen = LAYERS.of(focus) is None
        if not chosen:
            continue
        columns: Sequence[int] = sorted(sweep_heads(focus, len(axes[1])))
        if mode != "heads":
            reach = len(recording) if recording.model.looks_ahead else pair.position + 1
            within = [place for place in pair.rows if place < reach]
            columns = [place for place in within if place >= pair.first]
            if mode == "stream" and row == 0 and not recording.changes:
                columns = [place for place in columns if place in differ]
            elif row == recording.layers:  # no later layer reads the other tokens
                columns = [place for place in columns if place == pair.position]
            still[row, within] = True
            still[row, columns] = False
        elif not any(place >= pair.first for place in pair.rows):
            still[row, columns] = True
            columns = []
        if columns:
            rows.append(_row(pair, mode, row, tuple(columns)))
    return tuple(rows), still


def _row(pair: PatchedPair, mode: str, layer: int, columns: tuple[int, ...]) -> SweepRow:
    """Return the jobs of one row. For the stream, `layer` means the stream before that layer."""
    from llmscope.record.change_hooks import Change
    from llmscope.record.interventions.compile import head_columns, written
    from llmscope.record.interventions.sweep import SweepRow

    site = SITES[mode]

    def jobs(chosen: Sequence[int]) -> list[Job]:
        theirs = written(pair.other, site, layer)  # [row, column]
        if mode == "heads":
            rows = range(max(pair.first, pair.rows.start), pair.rows.stop)
            theirs = theirs[rows.start : rows.stop]
            columns_of = [head_columns(pair.recording, layer, head) for head in chosen]
            return [
                (Change(site, layer, rows, columns, values=theirs[:, columns]),)
                for columns in columns_of
            ]
        places = [range(place, place + 1) for place in chosen]
        return [
            (Change(site, layer, place, values=theirs[place.start : place.stop]),)
            for place in places
        ]

    start = max(pair.first, pair.rows.start) if mode == "heads" else columns[0]
    return SweepRow(layer, layer, columns, start, jobs)


def _extra(
    pair: PatchedPair, focus: Focus, axes: tuple[Axis, Axis], values: NDArray[np.float64]
) -> dict[str, Any]:
    mode, prompt, ids = focus.mode, pair.recording.prompt, pair.other.prompt.ids
    labels = tuple(pair.recording.model.label(token) for token in ids)
    differing = [f"{i} ‹{prompt.labels[i]}› / ‹{labels[i]}›" for i in pair.differ[:NAMED]]
    more = len(pair.differ) - NAMED
    lines = [
        f"{pair.asked.phrase}: {pair.own:.4f} here, {pair.others:.4f} after prompt B",
        f"B differs at {', '.join(differing)}{f' and {more} more' if more > 0 else ''}",
    ]
    if mode in ("attention", "mlp"):
        places = [f"at {place} ‹{label}›" for place, label in enumerate(prompt.labels)]
        lines.append(strongest(values, axes[0].labels, places))
    if mode == PATHS:
        lines.append(strongest(values, axes[0].labels, axes[1].labels))
    lines.append(sweep_part(focus, prompt.labels))
    return {
        "mode": mode,
        "position": pair.position,
        **pair.asked.extra,
        "difference": pair.own,
        "versus_difference": pair.others,
        "versus_ids": ids,
        "versus_labels": labels,
        "differ": pair.differ,
        "special": prompt.special,
        **layer_kinds(pair.recording),
        "caption": tuple(filter(None, lines)),
    }


LENS = Lens(
    name="patching",
    question="What carries the difference?",
    compute=compute,
    passes="own",
    needs=("readout",),
    options=(POSITION, TARGET, VERSUS, VERSUS_PROMPT, METRIC, LAYERS, HEADS, SPAN, RECEIVER),
    modes=("stream", "attention", "mlp", "heads", PATHS),
    only_in={"heads": ("heads", PATHS), "receiver": (PATHS,)},
    axes={"heads": ("layer", "head"), PATHS: ("layer", "part"), "": ("layer", "position")},
    columns=(
        number(
            "effect",
            "share of the difference between the prompts that it carries over",
            unit="share",
        ),
        *TARGET_COLUMNS,
        number(
            "difference",
            "logit of the target minus that of versus, or the metric, in this prompt",
            "difference",
        ),
        number("difference_b", "the same after prompt B", "versus_difference"),
    ),
    edited="again",
    versus=True,
    unpaired={"": "it carries B over into A already"},
    help="""\
Take two prompts that differ in little and lead to different answers: this one, and prompt B. A \
cell takes one thing out of B's pass, puts it in its place in this one, and lets the model run on. \
It shows how much of B's answer came along: 0, nothing; 1, all of the difference; in between, a \
part of it. Below zero it moved the answer the other way; above 1, further than B itself.

The answer is how far the logit of one token is above another's: the likeliest next token here, \
and the likeliest after prompt B, unless others are asked for. Both prompts must have the same \
number of tokens, so that each token has its place in the other.

Modes: the residual stream after each layer, at one token: a path is seen there, from the token in \
which the prompts differ, at the embedding, to the token that answers, in the last layer. What \
attention and what the MLP of a layer adds at one token: these are where something is moved or \
looked up. Heads: one head, in all tokens at once. A large cell is enough to carry the \
difference; it need not be needed, as others may carry it too.

Paths: what one head or MLP writes, read by one later part alone, the receiver: the queries, keys \
or values of a head, attention, an MLP, or the logits. Everything else reads the stream as it is \
here. So a cell is the direct edge between the two: not what reaches the receiver through parts in \
between. Start at the logits, take the heads that speak to them as receivers, and go on backwards. \
The edit `patch head 3.0 into head 7.2.q from B` makes one such edge, and edges add up.

One pass for each cell, from the layer of the cell on: the last layers come first, as the fewest \
layers run for them, and what is there is shown. Tokens after the one that is asked about are \
left out. Layers, heads and a span of tokens run a part of the cells.""",
    shows={
        "stream": "share of the difference that comes with the stream after a layer, at one token",
        "attention": "share that comes with what attention of a layer adds, at one token",
        "mlp": "share that comes with what the MLP of a layer adds, at one token",
        "heads": "share that comes with one head, in all tokens at once",
        PATHS: "share that comes with the edge from a head or an MLP to the receiver",
    },
    formula="(LD(patched) - LD(A)) / (LD(B) - LD(A)), LD = logit(target) - logit(versus)",
    sources="""\
Meng et al. 2022, "Locating and Editing Factual Associations in GPT"; Wang et al. 2022, \
"Interpretability in the Wild", and for paths; Goldowsky-Dill et al. 2023, "Localizing Model \
Behavior with Path Patching"; Heimersheim and Nanda 2024, "How to Use and Interpret Activation \
Patching".""",
    establishes="""\
that a place in B's pass is enough to carry the difference, or that share of it, into A: a causal \
effect, for A runs on from there.""",
    not_established="""\
that the place is needed: others may carry the difference too. And only what the prompts do not \
share is tested.""",
    next_check="""\
exchange the two prompts, switch the same heads off (ablation), and take another pair with the \
same difference.""",
)
