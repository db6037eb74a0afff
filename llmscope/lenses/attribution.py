"""The lens `attribution`: the direct contribution of each part to a logit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import WrongValueError
from llmscope.figure import VERIFIED, Axis, Figure, Focus, Verdict
from llmscope.figure.tables import key, number
from llmscope.lenses.base import Lens, Run, layer_axis, layer_kinds
from llmscope.lenses.focus import sweep_heads, sweep_layers, sweep_part
from llmscope.lenses.logit_target import TARGET_COLUMNS, LogitTarget
from llmscope.lenses.mlp import neuron_names
from llmscope.lenses.options import HEADS, LAYER, LAYERS, POSITION, TARGET, TOP_K, VERSUS

if TYPE_CHECKING:
    from llmscope.record.analysis.attribution import Contributions, Part
    from llmscope.record.capture.recording import Recording


def compute(recording: Recording, focus: Focus, run: Run) -> Figure:
    """Attribute logit(target) - logit(versus) directly to the parts that write it, in logits.

    part · direction, with direction = s · C (gain ∘ scale · Pᵀ (W_U[target] - W_U[versus])), the
    final norm's scale s frozen at this position; C subtracts the mean in a LayerNorm; P is a
    projection before the unembedding. A part is the embedding, a head, the bias of an attention,
    an MLP, another token mixer in place of attention, or `bias`, that of the final norm and the
    unembedding. The scale of a norm after attention or MLP (Gemma 2 and 3, GLM 4, OLMo 2) is frozen
    too. The logit is the model's own with its scale, before a softcap.

    Modes: `parts`: the top_k largest by magnitude, descending, and the sum of the rest [part];
    `heads` [layer, head], NaN where a layer has no heads; `layers`: whole attention and MLP
    [layer, part]; `neurons`: those of the layer's MLP, the top_k largest and the sum of the rest
    [part]; with the MLP's bias they sum to its contribution; `experts`: the experts of the layer
    that ran for the token, and what shared experts and biases add, which sum to it too [expert].
    `layers` and `heads` leave all others
    out: `parts` lists none of them, and adds them to the rest; `heads` and `layers` are NaN there.

    `extra`: mode, position, target, target_id, versus, versus_id; logit, sum (of all parts),
    unexplained = logit - sum, and parts, the number of parts; embedding and bias, two of them;
    logit_scale, softcap (null: no softcap); whole: layer -> why its attention is one part; caption.
    For `parts`: kinds, layers and heads (-1: not of a layer or head). For `neurons`: layer,
    neurons (their indices), names (of experts' neurons), mlp (its contribution), mlp_bias and
    mlp_unexplained. For `experts`: layer, experts, weights (the router's, of each), mlp, mlp_rest
    (of shared experts and biases), mlp_unexplained.

    Refused if the unexplained rest exceeds 1e-4 of the larger of the logit and its largest part, or
    eight roundings in half precision.
    """
    from llmscope.record.analysis.attribution import attribute, check_sum
    from llmscope.record.analysis.logit_direction import Unattributable, logit_direction_of
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.norms import UnknownNorm

    target, versus = focus.target, focus.versus
    if target is None:
        target = int(logits_after(recording, focus.position).argmax())
    target_logit = LogitTarget.of(recording.model, target, versus)
    if target == versus:
        raise WrongValueError(f"token {target} cannot be held against itself")
    title = f"Attribution · logit of {target_logit}"
    by_head = focus.mode in ("parts", "heads")
    try:
        read = logit_direction_of(recording, focus.position, target, versus)
        parts = attribute(recording, focus.position, read, by_head=by_head)
        shown_parts = SHOWN[focus.mode](recording, focus, parts)
    except (Unattributable, UnknownNorm) as finding:
        return Figure.refused("attribution", title, str(finding))
    all_parts = list(parts.all())
    left, verdict = check_sum(recording, read.logit, (part.value for part in all_parts))
    verdict = verdict.worst(shown_parts.verdict)
    if verdict.status == "refused":
        reason = verdict.reason + _why_unexplained(recording, run)
        return Figure.refused("attribution", title, reason, verdict.discrepancy)
    readout = recording.model.anatomy.readout
    assert readout is not None
    extra: dict[str, Any] = {
        "mode": focus.mode,
        "position": focus.position,
        **target_logit.extra,
        "logit": read.logit,
        "sum": read.logit - left,
        "unexplained": left,
        "parts": len(all_parts),
        "embedding": parts.embedding,
        "bias": parts.read.bias,
        "logit_scale": readout.scale,
        "softcap": readout.softcap,
        "whole": parts.whole,
    }
    capped = "" if readout.softcap is None else f", before its softcap of {readout.softcap:g}"
    total = (
        f"{len(all_parts)} parts sum to {read.logit - left:.4f} · logit {read.logit:.4f}{capped}"
    )
    part = sweep_part(focus, recording.prompt.labels)
    caption = (f"{total} · unexplained {left:.1e}", *shown_parts.said, *((part,) if part else ()))
    return Figure(
        lens="attribution",
        title=title + shown_parts.title,
        kind="heatmap" if len(shown_parts.axes) > 1 else "bars",
        axes=shown_parts.axes,
        values=shown_parts.values.astype(np.float32),
        unit="logit",
        verdict=verdict,
        extra={**extra, **shown_parts.extra, "caption": caption},
    )


@dataclass(frozen=True, eq=False)
class _Shown:
    """The figure content of a mode: `said` is shown below the figure."""

    axes: tuple[Axis, ...]
    values: NDArray[np.float64]
    title: str = ""
    said: tuple[str, ...] = ()
    verdict: Verdict = VERIFIED
    extra: dict[str, Any] = field(default_factory=dict)


def _why_unexplained(recording: Recording, run: Any) -> str:
    """Return the first reason why the writes of a layer do not add up; empty if all do."""
    verdicts = ((layer, run.verdicts("writes", layer)) for layer in range(recording.layers))
    return next(
        (f": in layer {layer} {each.reason}" for layer, each in verdicts if each.reason), ""
    )


def _parts(recording: Recording, focus: Focus, parts: Contributions) -> _Shown:
    all_parts = list(parts.all())
    layers = None if LAYERS.of(focus) is None else sweep_layers(focus, recording.layers)
    heads = None
    if HEADS.of(focus) is not None:
        heads = sweep_heads(focus, recording.model.anatomy.heads)
    listed = [
        at
        for at, part in enumerate(all_parts)
        if (layers is None or part.layer in layers) and (heads is None or part.head in heads)
    ]
    every = np.array([part.value for part in all_parts])
    order, values, rest = _largest(every, focus.top_k, listed)
    largest = [all_parts[index] for index in order]
    names = [_name(recording, part) for part in largest]
    return _Shown(
        axes=(Axis("part", (*names, *rest)),),
        values=values,
        verdict=_by_head(parts),
        extra={
            "kinds": tuple(part.kind for part in largest),
            "layers": tuple(part.layer for part in largest),
            "heads": tuple(part.head for part in largest),
        },
    )


def _heads(recording: Recording, focus: Focus, parts: Contributions) -> _Shown:
    from llmscope.record.analysis.logit_direction import Unattributable

    if np.isnan(parts.heads).all():
        raise Unattributable(next(iter(parts.whole.values()), "the model has no attention"))
    heads = tuple(str(head) for head in range(parts.heads.shape[1]))
    others = {
        "embedding": parts.embedding,
        "MLPs": np.nansum(parts.mlp),
        "mixers": np.nansum(parts.mixer),
        "embedded": np.nansum(parts.embedded),
        "attention biases": np.nansum(parts.head_bias),
        "bias": parts.read.bias,
        **_edits(parts),
    }
    layers = sorted(sweep_layers(focus, recording.layers))
    chosen = np.zeros(parts.heads.shape, dtype=bool)
    chosen[np.ix_(layers, sorted(sweep_heads(focus, len(heads))))] = True
    return _Shown(
        axes=(layer_axis(recording), Axis("head", heads)),
        values=np.where(chosen, parts.heads, np.nan),
        title=" · by head",
        said=(_sums_text({"heads": np.nansum(parts.heads), **others}),),
        verdict=_by_head(parts),
        extra=layer_kinds(recording),
    )


def _layers(recording: Recording, focus: Focus, parts: Contributions) -> _Shown:
    every = {
        "attention": parts.attention,
        "mixer": parts.mixer,
        "MLP": parts.mlp,
        "embedded": parts.embedded,
    }
    # Omit parts that no layer has; if the whole pass is NaN, show all.
    columns = {
        name: contributions
        for name, contributions in every.items()
        if not np.isnan(contributions).all()
    } or every
    values = np.stack(list(columns.values()), axis=1)
    left_out = sorted({*range(recording.layers)} - {*sweep_layers(focus, recording.layers)})
    values[left_out] = np.nan
    return _Shown(
        axes=(layer_axis(recording), Axis("part", tuple(columns))),
        values=values,
        title=" · by layer",
        said=(
            _sums_text({"embedding": parts.embedding, "bias": parts.read.bias, **_edits(parts)}),
        ),
        extra=layer_kinds(recording),
    )


def _neurons(recording: Recording, focus: Focus, parts: Contributions) -> _Shown:
    from llmscope.record.analysis.attribution import by_neuron, check_sum

    each, bias = by_neuron(recording, focus.layer, focus.position, parts.read)
    mlp = float(parts.mlp[focus.layer])
    left, verdict = check_sum(recording, mlp, (*each.tolist(), bias))
    order, values, rest = _largest(each, focus.top_k)
    return _Shown(
        axes=(Axis("neuron", (*map(str, order), *rest)),),
        values=values,
        title=f" · neurons of layer {focus.layer}",
        said=(f"this MLP adds {mlp:.4f}, its bias {bias:.4f} of it · unexplained {left:.1e}",),
        verdict=verdict,
        extra={
            "layer": focus.layer,
            "neurons": tuple(order),
            **neuron_names(recording, focus.layer, order),
            "mlp": mlp,
            "mlp_bias": bias,
            "mlp_unexplained": left,
        },
    )


def _experts(recording: Recording, focus: Focus, parts: Contributions) -> _Shown:
    from llmscope.record.analysis.attribution import by_expert, check_sum
    from llmscope.record.derive.tensors import expert_rows

    each, rest = by_expert(recording, focus.layer, focus.position, parts.read)
    ran = expert_rows(recording, focus.layer, focus.position)
    mlp = float(parts.mlp[focus.layer])
    left, verdict = check_sum(recording, mlp, (*each.tolist(), rest))
    order = np.argsort(-np.abs(each), kind="stable")
    experts, weights = ran.chosen[0].cpu().numpy()[order], ran.weights[0].float().cpu().numpy()
    others = ("shared and biases",) if rest else ()
    return _Shown(
        axes=(Axis("expert", (*map(str, experts), *others)),),
        values=np.append(each[order], rest) if rest else each[order],
        title=f" · experts of layer {focus.layer}",
        said=(f"this MLP adds {mlp:.4f} · unexplained {left:.1e}",),
        verdict=verdict,
        extra={
            "layer": focus.layer,
            "experts": tuple(experts.tolist()),
            "weights": tuple(weights[order].tolist()),
            "mlp": mlp,
            "mlp_rest": rest,
            "mlp_unexplained": left,
        },
    )


def _edits(parts: Contributions) -> dict[str, float]:
    return {"edits": sum(parts.edits.values())} if parts.edits else {}


SHOWN = {
    "parts": _parts,
    "heads": _heads,
    "layers": _layers,
    "neurons": _neurons,
    "experts": _experts,
}


def _largest(
    values: NDArray[np.float64], count: int, listed: Sequence[int] | None = None
) -> tuple[list[int], NDArray[np.float64], tuple[str, ...]]:
    """Return the largest values by magnitude, descending, and the sum of the others.

    Args:
        values: the values.
        count: how many are listed, at most.
        listed: the indices of those that may be; None: all.

    Returns:
        The indices; the values, with the sum of the others last; the label of that sum, or empty if
        no others exist.
    """
    order = np.argsort(-np.abs(values), kind="stable")
    may = order if listed is None else order[np.isin(order, listed)]
    first = may[:count]
    others = order[~np.isin(order, first)]
    if not len(others):
        return first.tolist(), values[first], ()
    rest = np.append(values[first], values[others].sum())
    return first.tolist(), rest, (f"the rest ({len(others)})",)


def _name(recording: Recording, part: Part) -> str:
    if part.layer < 0:
        return part.kind
    layer = recording.model.anatomy.layers[part.layer]
    kind = {
        "head": f"head {part.head}",
        "attention bias": "bias",
        "mixer": layer.parallel_kind or layer.kind,
    }.get(part.kind, part.kind)
    return f"L{part.layer} {kind}"


def _sums_text(sums: dict[str, float]) -> str:
    return " · ".join(f"{name} {value:.4f}" for name, value in sums.items() if value)


def _by_head(parts: Contributions) -> Verdict:
    """Return a partial verdict if the attention of some layers is a single part."""
    if not parts.whole:
        return VERIFIED
    layers = ", ".join(map(str, parts.whole))
    reason = f"attention of layer {layers} is one part: {next(iter(parts.whole.values()))}"
    return Verdict("partial", reason)


LENS = Lens(
    name="attribution",
    question="Who wrote the answer?",
    compute=compute,
    needs=("readout", "writes"),
    options=(LAYER, POSITION, TARGET, VERSUS, TOP_K, LAYERS, HEADS),
    modes=("parts", "heads", "layers", "neurons", "experts"),
    residues={"unexplained": "logit", "mlp_unexplained": "mlp"},
    only_in={
        "layer": ("neurons", "experts"),
        "layers": ("parts", "heads", "layers"),
        "heads": ("parts", "heads"),
        "top_k": ("parts", "neurons"),
    },
    axes={
        "parts": ("part",),
        "heads": ("layer", "head"),
        "layers": ("layer", "part"),
        "neurons": ("neuron",),
        "experts": ("expert",),
    },
    columns=(
        key("layer", "layer, from 0", "layer", ("neurons", "experts")),
        key("position", "token of the prompt whose prediction it is, from 0", "position"),
        number("contribution", "what it adds to the target's logit", unit="logit"),
        *TARGET_COLUMNS,
        number(
            "sum",
            "what all parts sum to: the target's logit, or its difference to that of versus",
            "sum",
            "logit",
        ),
    ),
    help="""\
Everything that writes to the residual stream writes a part of the answer: the embedding, each \
head of each layer, each MLP. A bar is what one of them adds to the logit of the target, which is \
the likeliest next token unless another is asked for; with a second token (versus), to how far the \
target's logit is above that one's. Positive parts speak for the target, negative ones against it. \
The line below says what all parts sum to, the model's logit, and what is left unexplained.

Modes: the largest parts; all heads as a map of layers and heads; attention and MLP of each layer; \
the neurons of one layer's MLP; in a mixture of experts, what each expert that ran wrote. A logit \
alone says little, as a part may raise all tokens alike: \
hold it against a rival. And only what is written directly is counted, not what later layers make \
of it, so a head that feeds another may show nothing here. Biases are a part of their own.""",
    shows={
        "parts": "the parts that write most to the target's logit",
        "heads": "what each head of each layer writes to it",
        "layers": "what attention and the MLP of each layer write to it",
        "neurons": "what the neurons of one layer's MLP write to it",
        "experts": "what each expert of one layer that ran for the token writes to it",
    },
    formula="""\
part · W_U, through the final norm, whose scale is held still at this position; so is that of a \
norm after what was written""",
    sources='Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".',
    establishes="""\
a direct effect: how the target's logit, or its lead over a rival, is made up of what each part \
writes to the residual stream, read by the final norm and the unembedding.""",
    not_established="""\
what happens when a part is removed. A head that feeds later parts may show nothing here, and \
later parts may make up for one that shows much.""",
    next_check="""\
switch the largest parts off with the lens ablation, and hold the two against each other.""",
)
