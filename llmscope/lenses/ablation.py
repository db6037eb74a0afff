"""The lens `ablation`: the change of the answer without a head or a part of a layer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from llmscope.errors import WrongValueError
from llmscope.figure import Axis, Figure, Focus, Verdict
from llmscope.figure.cursor import value_at
from llmscope.figure.tables import key, number
from llmscope.lenses.base import Lens, Run, layer_kinds
from llmscope.lenses.focus import (
    span_rows,
    sweep_heads,
    sweep_layers,
    sweep_part,
)
from llmscope.lenses.logit_target import TARGET_COLUMNS, LogitTarget, over, progress, strongest
from llmscope.lenses.options import HEADS, LAYERS, POSITION, SPAN, TARGET, VERSUS
from llmscope.lenses.own_metric import METRIC, MetricTarget

if TYPE_CHECKING:
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording
    from llmscope.record.change_hooks import Job
    from llmscope.record.interventions.sweep import SweepRow
    from llmscope.record.sites import Site

PARTS: dict[str, tuple[Site, ...]] = {
    "attention": ("attention_write",),
    "mixer": ("mixer_write",),
    "MLP": ("mlp_write",),
    "embedded": ("embedded_write",),
    "layer": ("attention_write", "mixer_write", "mlp_write", "embedded_write"),
}
"""Columns of the modes `parts`, each with the sites where the part writes."""


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Measure the answer without each head [layer, head], or each part of a layer [layer, part].

        Δ = logit(target) - logit(versus), ablated minus unablated          logits, signed
        KL(p ‖ p ablated) of the next-token distribution                    nats, 0 or more

    at the focus position, with one part ablated in all tokens at once: its output becomes zero, or
    its mean over the prompt, as with the edits `zero …` and `mean …`. Later layers run on the
    result. The target is the likeliest next token unless another is given; without versus, Δ is
    the change of the target's logit. With `metric`, a function of the logits, Δ is its change.

    Modes: `heads` (the head output, before the output projection) and `parts` (the output to the
    residual stream of attention, of another token mixer in its place, of the MLP, of the layer's
    own embedding, or of the whole layer), set to zero and measured by Δ; `-kl` by KL; `-mean` sets
    them to the mean. In an edited pass the edits stay in force; the mean is that of the unedited
    pass, as it is for the edit.

    NaN in layers whose heads or writes are not verified, and where a layer lacks the part: those
    cells are not run. `layers` and `heads` run a part of the cells, and leave the others NaN;
    with `span` each is ablated in those tokens alone. A mean is over all tokens.

    `extra`: mode, position, target, target_id, versus, versus_id; logit: the unablated logit, or
    logit difference; progress: passes done and total passes, in partial figures; kinds: one per
    layer, where they are mixed; caption.
    """
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.interventions.sweep import Sweep, divergences, measured

    model, position, passes = recording.model, focus.position, cast("Passes", run)
    logits = logits_after(recording, position)
    of_heads, means, kl = (word in focus.mode.split("-") for word in ("heads", "mean", "kl"))
    score: LogitTarget | MetricTarget | None = MetricTarget.of(focus)
    if score is not None and kl:
        raise WrongValueError(f"metric stands in place of KL: take the mode {focus.mode[:-3]}")
    if score is None:
        target = int(logits.argmax()) if focus.target is None else focus.target
        score = LogitTarget.of(model, target, focus.versus)
    title = _title(recording, score, focus)
    layers, rows = sweep_layers(focus, recording.layers), span_rows(focus, len(recording))
    verdicts = {
        layer: _verdict(recording, position, passes, layer, of_heads, means)
        for layer in sorted(layers)
    }
    verdict = over(tuple(verdicts.values()))
    if verdict.status == "refused":
        yield Figure.refused("ablation", title, verdict.reason, verdict.discrepancy)
        return
    columns = _columns(recording, of_heads)
    heads = sweep_heads(focus, len(columns)) if of_heads else ()
    sweep = Sweep(
        recording=recording,
        position=position,
        key=("ablation", of_heads, means, rows),
        # The last layers first: they have the fewest later layers to run.
        rows=tuple(
            _row(recording, layer, columns, heads, rows, means)
            for layer in reversed(verdicts)
            if verdicts[layer].status != "refused"
        ),
        shape=(recording.layers, len(columns)),
    )
    before = float(score.value(logits))
    if kl:
        tables = sweep.table(passes, "kl", divergences(recording, position, logits))
    else:
        measure = measured(recording, position, score.value)
        tables = sweep.table(passes, score.key, measure)
    for table, done in tables:
        values = table if kl else table - before
        unit = "nats" if kl else score.unit
        lines = [_caption_text(recording, score, before, kl)]
        if not of_heads:
            lines.append(strongest(values, _numbers(recording), columns, unit))
        lines.append(sweep_part(focus, recording.prompt.labels))
        extra: dict[str, Any] = {
            "mode": focus.mode,
            "position": position,
            **score.extra,
            "logit": before,
            **progress(done, sweep.total),
            **layer_kinds(recording),
            "caption": tuple(filter(None, lines)),
        }
        yield Figure(
            lens="ablation",
            title=title,
            kind="heatmap",
            axes=(
                Axis("layer", _numbers(recording)),
                Axis("head" if of_heads else "part", columns),
            ),
            values=values.astype(np.float32),
            unit=unit,
            verdict=verdict,
            extra=extra,
        )


def _layers(recording: Recording) -> range:
    return range(recording.layers)


def _numbers(recording: Recording) -> tuple[str, ...]:
    return tuple(map(str, _layers(recording)))


def _title(recording: Recording, score: LogitTarget | MetricTarget, focus: Focus) -> str:
    what, *how = focus.mode.split("-")
    to = "set to their mean" if "mean" in how else "set to zero"
    if "kl" in how:
        after = f"KL after ‹{recording.prompt.labels[focus.position]}›"
        return f"Ablation · {what} {to} · {after}"
    return f"Ablation · {what} {to} · Δ {score.phrase}"


def _caption_text(
    recording: Recording, score: LogitTarget | MetricTarget, before: float, kl: bool
) -> str:
    alone = "with the edits alone" if recording.edits else "with nothing ablated"
    if kl:
        return f"how far all that may come next is from what it is {alone}"
    return f"{score.phrase} {alone}: {before:.4f} · below zero: a part spoke for it"


def _verdict(
    recording: Recording, position: int, run: Passes, layer: int, of_heads: bool, means: bool
) -> Verdict:
    """Return the verdict on a layer's heads or writes."""
    from llmscope.record.derive.row_checks import rows_verdict
    from llmscope.record.derive.verify import pattern_verdict_at

    mapped = of_heads and recording.model.anatomy.layers[layer].has_memories
    verdict = run.verdicts("maps" if mapped else "heads" if of_heads else "writes", layer)
    if mapped or not of_heads or verdict.status == "refused":
        return verdict  # what a recurrence gave was recorded: nothing is derived
    if means:  # the mean is over all tokens
        return verdict.worst(rows_verdict(recording, "patterns", layer))
    return verdict.worst(pattern_verdict_at(recording.base or recording, layer, position))


def _columns(recording: Recording, of_heads: bool) -> tuple[str, ...]:
    if of_heads:
        anatomy = recording.model.anatomy
        memories = [
            anatomy.heads_at(i) for i, parts in enumerate(anatomy.layers) if parts.has_memories
        ]
        return tuple(map(str, range(max(anatomy.heads, *memories, 0))))
    return tuple(
        part for part in PARTS if any(_sites(recording, i, part) for i in _layers(recording))
    )


def _sites(recording: Recording, layer: int, part: str) -> list[Site]:
    """Return the sites where a part of a layer writes; empty if the layer lacks the part."""
    from llmscope.record.change_hooks import site_of

    anatomy = recording.model.anatomy
    return [site for site in PARTS[part] if site_of(anatomy, site, layer) is not None]


def _row(
    recording: Recording,
    layer: int,
    columns: tuple[str, ...],
    heads: Collection[int],
    rows: range,
    means: bool,
) -> SweepRow:
    """Return the sweep row with the jobs of one layer.

    Args:
        recording: the recording.
        layer: the layer.
        columns: the labels of the table's columns.
        heads: the heads to ablate; empty: parts.
        rows: the tokens in which they are ablated.
        means: ablate to the mean over the prompt rather than to zero.
    """
    from llmscope.record.change_hooks import Change
    from llmscope.record.interventions.compile import head_columns, mean
    from llmscope.record.interventions.sweep import SweepRow

    whole, of_heads = slice(None), bool(heads)
    sites_of = {} if of_heads else {part: _sites(recording, layer, part) for part in columns}

    def jobs(chosen: Sequence[int]) -> list[Job]:
        sites: Sequence[Site] = ("heads",) if of_heads else sorted(set(chain(*sites_of.values())))
        base = recording.base or recording
        to = {site: mean(base, site, layer, whole) for site in sites if means}

        def ablated(site: Site, which: slice = whole) -> Change:
            change = Change(site, layer, rows, which)
            return (
                replace(change, values=to[site][:, which]) if means else replace(change, factor=0.0)
            )

        if of_heads:
            return [(ablated("heads", head_columns(recording, layer, head)),) for head in chosen]
        return [tuple(map(ablated, sites_of[columns[column]])) for column in chosen]

    if of_heads:
        count = recording.model.anatomy.heads_at(layer)
        chosen = [head for head in sorted(heads) if head < count]
    else:
        chosen = [at for at, part in enumerate(columns) if sites_of[part]]
    return SweepRow(layer, layer, tuple(chosen), rows.start, jobs)


LOGIT_MODES = ("heads", "heads-mean", "parts", "parts-mean")
KL_MODES = tuple(f"{mode}-kl" for mode in LOGIT_MODES)


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the effect on the answer of ablating the head."""
    value = value_at(figure, focus) if figure.axis("head") == 1 else None
    if value is not None and math.isfinite(value):
        yield f"without head {focus.head} {value:+.3g} {figure.unit}"


LENS = Lens(
    name="ablation",
    question="What breaks without it?",
    compute=compute,
    passes="own",
    needs=("readout",),
    options=(POSITION, TARGET, VERSUS, METRIC, LAYERS, HEADS, SPAN),
    modes=tuple(mode for pair in zip(LOGIT_MODES, KL_MODES, strict=True) for mode in pair),
    only_in={
        "heads": ("heads", "heads-kl", "heads-mean", "heads-mean-kl"),
        "metric": LOGIT_MODES,
    },
    axes={
        **dict.fromkeys(("heads", "heads-kl", "heads-mean", "heads-mean-kl"), ("layer", "head")),
        "": ("layer", "part"),
    },
    columns=(
        key("position", "token of the prompt whose prediction it is, from 0", "position"),
        number("effect", "change of the target's logit", unit="logit", modes=LOGIT_MODES),
        number("effect", "KL(p ‖ p ablated)", unit="nats", modes=KL_MODES),
        *TARGET_COLUMNS,
    ),
    edited="again",
    describe=describe_cursor,
    help="""\
Each head in turn is switched off and the model runs again: a cell is what that did to the answer. \
Below zero, the logit of the target fell: the head spoke for it. Above zero, the head had spoken \
against it. The target is the likeliest next token unless another is asked for; with a second \
token (versus), the cell is what became of the difference of the two. A logit alone says little, \
as a head may raise all tokens alike: hold it against a rival, or look at KL, which tells how far \
everything that may come next has moved, in nats, and never which way.

Unlike attribution this counts all that later layers make of a head. It also counts how they make \
up for it: when one head goes, others often step in, so a small cell does not mean that a head \
does nothing, and the cells need not add up.

Modes: heads, or parts: attention, MLP and the whole of each layer. They write zero, or the mean \
of what they write over the prompt. Zero is further from anything that the model has seen, and \
breaks more; the mean keeps what a part does at every token alike, and takes away what it says \
about this one. A part is ablated in all tokens at once, or in those of a span. With edits in \
force, they stay.

One pass for each cell, from the layer of the cell on: the last layers come first, as the fewest \
layers run for them, and what is there is shown.""",
    shows={
        "heads": "change of the target's logit with each head set to zero",
        "heads-kl": "KL from the whole prediction, in nats, with each head set to zero",
        "heads-mean": "change of the target's logit with each head set to its mean over the prompt",
        "heads-mean-kl": "KL with each head set to its mean over the prompt",
        "parts": "change of the target's logit with attention, MLP or all of a layer set to zero",
        "parts-kl": "KL with attention, MLP or all of a layer set to zero",
        "parts-mean": "change of the target's logit with each of those set to its mean",
        "parts-mean-kl": "KL with each of those set to its mean",
    },
    formula="""\
Δ = logit(target) - logit(versus), ablated less unablated
KL(p ‖ p ablated)""",
    sources="""\
Michel et al. 2019, "Are Sixteen Heads Really Better than One?"; Wang et al. 2022, \
"Interpretability in the Wild", for the mean.""",
    establishes="""\
by how much the prediction on this prompt changes when a head or part is switched off in all \
tokens and the later layers run again: a causal effect of its removal.""",
    not_established="""\
what the part does when it is there. Zero is a state that the model has never seen, later parts \
may make up for the loss, and of two parts that do the same each looks idle.""",
    next_check="""\
take the mean in place of zero (heads-mean), then carry the same head over from another prompt \
with the lens patching.""",
)
